"""Next-sentence prediction: half of the time B is a random text (Devlin et al. 2019, section 3.1).

A random B is the true B of another pair, cut from its document as this one was, and exactly as long wherever there is
such a one. So neither an example's length, nor its number of sentences, nor B's place in its document gives the label
away; in the paper's code random pairs are shorter or longer than true ones.

Of several files a random B may be in any, unless it is to be in A's own.

With negatives from A's own document, B is the run of sentences nearest in length. A document often has no second run
as long as its longest B. Long Bs are then true more often than not, and length reveals a little about the label.

Letters: E examples, R runs of sentences that may serve as B.
"""

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from bert.errors import UserError
from pretrain import ragged
from pretrain.examples import Examples, Sentences, Text, cut
from pretrain.sentence import same_document
from pretrain.sentence.objective import NegativeSource, SentenceObjective
from pretrain.token_source import TokenSource

_ROUNDS = 16
_MOST_DRAWS = 2000

_DOCUMENTS = 64
"""In a draw, unless they are large: these have many Bs each, all of which are found."""

_LARGE, _FEWEST = 1 << 20, 16
"""Bytes from which on documents count as large, and how many of them there are in a draw at least: with very few, all
might be A's own."""


@dataclass(frozen=True)
class Runs:
    """Runs of whole sentences that may serve as B, (R,) each.

    Attributes:
        length: in tokens, capped at the budget.
        first, last: sentences, numbered through the corpus; last is exclusive.
        document: numbered through the corpus.
    """

    length: np.ndarray
    first: np.ndarray
    last: np.ndarray
    document: np.ndarray


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
    examples, first, last, left_out = pool.negatives.draw(examples, text, pool, rng)
    random = np.flatnonzero(examples.labels == 1)
    if len(random) == 0:
        return examples, text, left_out | {"pairs_random": 0, "random_b_of_other_length": 0}
    ids, word_starts = pool.source.read(first, last)
    lengths = _tokens(pool, first, last)
    start, length = examples.b_start.copy(), examples.b_length.copy()
    start[random] = len(text.ids) + ragged.offsets(lengths)[:-1]
    length[random] = lengths
    wanted = np.minimum(examples.b_length[random], pool.cutting.budget)
    tally = left_out | {
        "pairs_random": len(random),
        "random_b_of_other_length": int((np.minimum(lengths, pool.cutting.budget) != wanted).sum()),
    }
    b_sentence = examples.b_sentence.copy()
    b_sentence[random] = first
    examples = replace(examples, b_start=start, b_length=length, b_sentence=b_sentence)
    return examples, text.append(ids, word_starts), tally


def from_training_split(
    examples: Examples, text: Text, pool: NegativeSource, rng: np.random.Generator
) -> tuple[Examples, np.ndarray, np.ndarray, dict[str, int]]:
    """A run for each example with label 1, as `Negatives.draw` says: a true B of a document that they allow."""
    random = examples.take(np.flatnonzero(examples.labels == 1))
    if len(random) == 0:
        return examples, np.zeros(0, np.int64), np.zeros(0, np.int64), {}
    runs = _draw_runs(pool, len(random), rng)
    if len(runs.length) == 0:
        raise UserError(
            "sentence.objective: nsp needs documents of at least two sentences, and hardly any has them. In a text "
            "file blank lines separate documents, and each line is a sentence unless data.split_sentences=true."
        )
    chosen = _match(random, text, runs, pool, rng)
    if (chosen < 0).any():
        raise UserError(
            "sentence.objective: nsp found no random B that is not the true one; it needs more documents of two "
            "sentences or more, and copies do not count."
        )
    return examples, runs.first[chosen], runs.last[chosen], {}


def from_own_file(
    examples: Examples, text: Text, pool: NegativeSource, rng: np.random.Generator
) -> tuple[Examples, np.ndarray, np.ndarray, dict[str, int]]:
    """A run for each example with label 1, as `Negatives.draw` says, from another document of A's file.

    Examples whose file has nothing else to offer are left out, whatever their label.
    """
    first, last = np.full(len(examples), -1), np.full(len(examples), -1)
    begins = np.searchsorted(pool.documents, pool.source.file_offsets)  # of each file's documents in the pool
    files = pool.source.file_of(examples.document)
    for file in np.unique(files).tolist():
        of_file = np.flatnonzero(files == file)
        own = replace(pool, documents=pool.documents[begins[file] : begins[file + 1]])
        runs = _draw_runs(own, len(of_file), rng)
        if len(np.unique(pool.source.document_hashes[runs.document])) < 2:  # a file of one document, or of its copies
            continue
        chosen = _match(examples.take(of_file), text, runs, own, rng)
        found = chosen >= 0
        first[of_file[found]], last[of_file[found]] = runs.first[chosen[found]], runs.last[chosen[found]]
    return _with_a_run(examples, first, last)


def from_own_document(
    examples: Examples, text: Text, pool: NegativeSource, rng: np.random.Generator
) -> tuple[Examples, np.ndarray, np.ndarray, dict[str, int]]:
    """A run for each example with label 1, as `Negatives.draw` says, from A's own document.

    Examples whose document has nothing else to offer are left out, whatever their label.
    """
    if len(examples) == 0:
        return examples, np.zeros(0, np.int64), np.zeros(0, np.int64), {}

    def differs(some: Examples, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        return ~_same_text(some, text, first, last, pool)

    # Every example draws a run, whatever its label, so that dropping those without one does not bias the labels.
    return _with_a_run(examples, *same_document.draw(examples, pool.source, pool.cutting, differs, rng))


def _with_a_run(
    examples: Examples, first: np.ndarray, last: np.ndarray
) -> tuple[Examples, np.ndarray, np.ndarray, dict[str, int]]:
    """The examples for which a run was found (-1: none), the runs of those with label 1, and how many are left out."""
    kept = first >= 0
    examples, first, last = examples.take(kept), first[kept], last[kept]
    random = examples.labels == 1
    return examples, first[random], last[random], {"pairs_left_out": int((~kept).sum())}


def documents_at_once(source: TokenSource) -> int:
    """How many documents there are in a draw."""
    return max(_FEWEST, min(_DOCUMENTS, round(_DOCUMENTS * _LARGE / source.mean_document_bytes)))


def _draw_runs(pool: NegativeSource, examples: int, rng: np.random.Generator) -> Runs:
    """The true Bs of documents drawn from the pool, cut as the examples are, ascending by length; enough for these."""
    wanted, parts, total = max(256, 3 * examples), [], 0
    size = documents_at_once(pool.source)
    for _ in range(_MOST_DRAWS):
        documents = np.asarray(pool.documents[rng.integers(0, len(pool.documents), size)])
        parts.append(_true_bs(pool, documents, rng))
        total += len(parts[-1].length)
        if total >= wanted:
            break
    whole = {name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])}
    order = np.argsort(whole["length"], kind="stable")
    return Runs(**{name: array[order] for name, array in whole.items()})


def _true_bs(pool: NegativeSource, documents: np.ndarray, rng: np.random.Generator) -> Runs:
    """Every true B of these documents, in order."""
    sentences = Sentences.of(pool.source, documents)
    pairs, _ = cut(sentences, pool.cutting, rng)
    last = np.searchsorted(ragged.offsets(sentences.counts), pairs.b_start + pairs.b_length) - 1  # B's last sentence
    return Runs(
        length=np.minimum(pairs.b_length, pool.cutting.budget),
        first=pairs.b_sentence,
        last=sentences.numbers[last] + 1,
        document=pairs.document,
    )


def _match(examples: Examples, text: Text, runs: Runs, pool: NegativeSource, rng: np.random.Generator) -> np.ndarray:
    """For each example an allowed run of its true B's length, (E,) indices into runs; -1 where there is none."""
    wanted = np.minimum(examples.b_length, pool.cutting.budget)
    chosen = np.full(len(examples), -1)
    for _ in range(_ROUNDS):
        unmatched = np.flatnonzero(chosen < 0)
        if len(unmatched) == 0:
            return chosen
        tried = _of_length(runs.length, wanted[unmatched], rng)
        fits = _may_stand(examples.take(unmatched), text, runs, tried, pool)
        chosen[unmatched[fits]] = tried[fits]
    for example in np.flatnonzero(chosen < 0):  # its length is rare: the nearest that is allowed
        nearest = np.argsort(np.abs(runs.length - wanted[example]), kind="stable")
        one = np.full(len(nearest), example)
        fits = _may_stand(examples.take(one), text, runs, nearest, pool)
        chosen[example] = nearest[fits.argmax()] if fits.any() else -1
    return chosen


def _of_length(lengths: np.ndarray, wanted: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The index of a random run of each wanted length, or of the nearest length if there is none."""
    low, high = np.searchsorted(lengths, wanted, "left"), np.searchsorted(lengths, wanted, "right")
    below, above = np.maximum(low - 1, 0), np.minimum(low, len(lengths) - 1)
    nearest = np.where(wanted - lengths[below] <= lengths[above] - wanted, below, above)
    return np.where(high > low, low + (rng.random(len(wanted)) * (high - low)).astype(np.int64), nearest)


def _may_stand(examples: Examples, text: Text, runs: Runs, tried: np.ndarray, pool: NegativeSource) -> np.ndarray:
    """Whether each run avoids A and what truly follows, and is from a document that the negatives allow, (E,)."""
    first, last = runs.first[tried], runs.last[tried]
    allowed = (last <= examples.a_sentence) | (first > examples.b_sentence)
    if not pool.negatives.own_document:
        hashes = pool.source.document_hashes  # a copy of the document is the same document
        allowed &= hashes[runs.document[tried]] != hashes[examples.document]
    return allowed & ~_same_text(examples, text, first, last, pool)


def _same_text(examples: Examples, text: Text, first: np.ndarray, last: np.ndarray, pool: NegativeSource) -> np.ndarray:
    """Whether each run has exactly the true B's tokens, (E,)."""
    if len(first) == 0:
        return np.zeros(0, bool)
    lengths = _tokens(pool, first, last)
    same = lengths == examples.b_length
    if not same.any():
        return same
    ids, _ = pool.source.read(first[same], last[same])
    true = text.ids[ragged.ranges(examples.b_start[same], lengths[same])]
    differing = np.add.reduceat(ids != true, ragged.offsets(lengths[same])[:-1], dtype=np.int64)
    same[same] = differing == 0
    return same


def _tokens(pool: NegativeSource, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Tokens of each run of sentences, (R,)."""
    counts = pool.source.counts(first, last)
    return np.add.reduceat(counts, ragged.offsets(last - first)[:-1])


def facts(pool: NegativeSource) -> dict[str, str]:
    """How many documents there are in a draw, if they are so large that it is not the usual number; and in files."""
    drawn, found = documents_at_once(pool.source), {}
    if drawn != _DOCUMENTS and pool.negatives.other_documents:
        found["drawn_at_once"] = f"{drawn} documents"
    if not pool.negatives.other_files:
        found["documents_of_files"] = hashlib.sha256(repr(pool.source.file_offsets.tolist()).encode()).hexdigest()[:16]
    return found


OBJECTIVE = SentenceObjective(
    labelled=True,
    replaces_b=True,
    arrange=arrange,
    options=("negatives", "random_share", "remainder"),
    facts=facts,
)
