"""Next-sentence prediction: half of the time B is a random text (Devlin et al. 2019, section 3.1).

A random B is the true B of another pair, cut from its document as this one was (`pretrain/negatives/`): as long as the
true one, after an A as long as this one, wherever the corpus offers it. So neither an example's length, nor its number
of sentences, nor where they end, nor B's place in its document gives the label away; in the paper's code random pairs
are shorter or longer than true ones. With several files, a random B may come from any of them, unless
sentence.negatives keeps it to A's own.
"""

import hashlib
from dataclasses import replace

import numpy as np

from pretrain import ragged
from pretrain.examples import Examples, Text
from pretrain.negatives.negatives import NegativeSource
from pretrain.negatives.runs import DOCUMENTS, documents_at_once
from pretrain.sentence.objective import SentenceObjective


def arrange(
    examples: Examples, text: Text, pool: NegativeSource, rng: np.random.Generator
) -> tuple[Examples, Text, dict[str, int]]:
    """Replace B by a random run of the training split wherever the label is 1.

    Args:
        examples: with labels drawn, B being what truly follows.
        text: the text they point into.
        pool: what random runs are drawn from, and by which kind of negatives.
        rng: the generator of this block's pairs.

    Returns:
        The examples kept, the text with the random runs appended, and counts, such as of runs not of the true B's
        length.

    Raises:
        UserError: the documents have no run that could serve.
    """
    drawn = pool.negatives.draw(examples, text, pool, rng)
    examples, first, last = drawn.examples, drawn.first, drawn.last
    random = np.flatnonzero(examples.labels == 1)
    if len(random) == 0:
        return examples, text, drawn.left_out | {"pairs_random": 0, "random_b_of_other_length": 0}
    ids, word_starts = pool.source.read(first, last)
    lengths = pool.tokens(first, last)
    start, length = examples.b_start.copy(), examples.b_length.copy()
    start[random] = len(text.ids) + ragged.offsets(lengths)[:-1]
    length[random] = lengths
    wanted = np.minimum(examples.b_length[random], pool.cutting.budget)
    tally = drawn.left_out | {
        "pairs_random": len(random),
        "random_b_of_other_length": int((np.minimum(lengths, pool.cutting.budget) != wanted).sum()),
    }
    b_sentence = examples.b_sentence.copy()
    b_sentence[random] = first
    examples = replace(examples, b_start=start, b_length=length, b_sentence=b_sentence)
    return examples, text.append(ids, word_starts), tally


def facts(pool: NegativeSource) -> dict[str, str]:
    """How many documents there are in a draw, if they are so large that it is not the usual number; and in files."""
    drawn, found = documents_at_once(pool.source), {}
    if drawn != DOCUMENTS and pool.negatives.other_documents:
        found["drawn_at_once"] = f"{drawn} documents"
    if not pool.negatives.other_files:
        offsets = repr(pool.source.corpus.file_offsets.tolist())
        found["documents_of_files"] = hashlib.sha256(offsets.encode()).hexdigest()[:16]
    return found


OBJECTIVE = SentenceObjective(
    labelled=True,
    replaces_b=True,
    arrange=arrange,
    options=("negatives", "random_share", "remainder"),
    facts=facts,
)
