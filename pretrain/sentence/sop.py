"""Sentence-order prediction: half of the time A and B are swapped (Lan et al. 2020, ALBERT, section 3.1).

With segments of several sentences the lengths reveal a little: the second segment ends with the sentence that reaches
the target length, so it is the longer one more often than not. Guessing "the longer one came second" is right in 53 to
57% of the pairs, which the model should tell by their content; with single sentences (sentence_pair) in half of them.
The audit reports the figure (label_by_sides).
"""

from dataclasses import replace

import numpy as np

from pretrain.examples import Examples, Text
from pretrain.sentence.objective import NegativeSource, SentenceObjective


def arrange(
    examples: Examples, text: Text, pool: NegativeSource, rng: np.random.Generator
) -> tuple[Examples, Text, dict[str, int]]:
    """Swap A and B wherever the label is 1; the text is unchanged."""
    swapped = examples.labels == 1
    pairs = (("a_start", "b_start"), ("a_length", "b_length"), ("a_sentence", "b_sentence"))
    changed = {}
    for a, b in pairs:
        changed[a] = np.where(swapped, getattr(examples, b), getattr(examples, a))
        changed[b] = np.where(swapped, getattr(examples, a), getattr(examples, b))
    return replace(examples, **changed), text, {"pairs_swapped": int(swapped.sum())}


OBJECTIVE = SentenceObjective(labelled=True, replaces_b=False, arrange=arrange, options=("random_share",))
