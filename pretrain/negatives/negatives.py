"""What a kind of negatives defines: how random Bs are drawn, and from where.

Letters: E examples, R runs of sentences.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pretrain import ragged
from pretrain.examples import Cutting, Examples, Text
from pretrain.token_source import TokenSource


@dataclass(frozen=True)
class Drawn:
    """Random Bs.

    Attributes:
        examples: those that can be kept, (E,).
        first, last: a run of sentences, with its end exclusive, for each of these with label 1.
        left_out: counts of the others.
    """

    examples: Examples
    first: np.ndarray
    last: np.ndarray
    left_out: dict[str, int]


@dataclass(frozen=True)
class Negatives:
    """Where a random B comes from.

    Attributes:
        draw: (examples, text, pool, rng) -> Drawn. Which examples are kept does not depend on their labels.
        own_document: whether it may be A's own document.
        other_documents: whether it may be another; if not, B's length inevitably reveals a little about the label.
        other_files: whether it may be in another file than A.
        rule: incremented when the same text gets different random Bs; a run refuses to resume under another.
    """

    draw: Callable[[Examples, Text, "NegativeSource", np.random.Generator], Drawn]
    own_document: bool = True
    other_documents: bool = True
    other_files: bool = True
    rule: int = 1


@dataclass(frozen=True)
class NegativeSource:
    """What negatives may be drawn from.

    Attributes:
        source: the corpus.
        documents: numbers of the documents to draw from, ascending.
        negatives: how they are drawn.
        cutting: how examples are cut from documents, including those that negatives are taken from.
    """

    source: TokenSource
    documents: np.ndarray
    negatives: Negatives
    cutting: Cutting

    def tokens(self, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Tokens of each run of sentences, (R,)."""
        counts = self.source.counts(first, last)
        return np.add.reduceat(counts, ragged.offsets(last - first)[:-1])

    def repeats_true_b(self, examples: Examples, text: Text, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Whether each example's run has exactly its true B's tokens, (E,)."""
        if len(first) == 0:
            return np.zeros(0, bool)
        lengths = self.tokens(first, last)
        same = lengths == examples.b_length
        if not same.any():
            return same
        ids, _ = self.source.read(first[same], last[same])
        true = text.ids[ragged.ranges(examples.b_start[same], lengths[same])]
        differing = np.add.reduceat(ids != true, ragged.offsets(lengths[same])[:-1], dtype=np.int64)
        same[same] = differing == 0
        return same


def keep_those_with_a_run(examples: Examples, first: np.ndarray, last: np.ndarray) -> Drawn:
    """Leave out the examples for which no run was found (first is -1), whatever their label."""
    kept = first >= 0
    examples, first, last = examples.take(kept), first[kept], last[kept]
    random = examples.labels == 1
    return Drawn(examples, first[random], last[random], {"pairs_left_out": int((~kept).sum())})
