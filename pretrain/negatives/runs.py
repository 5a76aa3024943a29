"""The true Bs of documents drawn at random, and the one among them that is most like an example's own.

A true B ends with the sentence that filled the pair, so its last sentence tells something about A's length. A random B
therefore has not only the length of the true one, but also followed an A of this one's length, as near as there is one.
Given both lengths, its sentences are then distributed as those of a true B.

Letters: E examples, R runs of sentences that may serve as B.
"""

from dataclasses import dataclass

import numpy as np

from pretrain import ragged
from pretrain.examples import Examples, Sentences, Text, cut
from pretrain.negatives.negatives import NegativeSource
from pretrain.token_source import TokenSource

RULE = 2
"""Incremented when the same text gets different random Bs; a run refuses to resume under another."""

_MOST_DRAWS = 2000

DOCUMENTS = 64
"""In a draw, unless they are large: these have many Bs each, all of which are found."""

_LARGE, _FEWEST = 1 << 20, 16
"""Bytes from which on documents count as large, and how many of them there are in a draw at least: with very few, all
might be A's own."""

_FEWEST_RUNS = 96
"""How many runs there are at least, however few examples."""

_NEAREST = 32
"""How many of the runs nearest to an example are tried, before all others are."""

_FAR = 1 << 24
"""By how much a token of B's length counts more than one of A's."""


@dataclass(frozen=True)
class Runs:
    """Runs of whole sentences that may serve as B, (R,) each.

    Attributes:
        length: in tokens, capped at the budget.
        after: tokens of the A that each truly follows, capped at the budget.
        first, last: sentences, numbered through the corpus; last is exclusive.
        document: numbered through the corpus.
    """

    length: np.ndarray
    after: np.ndarray
    first: np.ndarray
    last: np.ndarray
    document: np.ndarray

    def __len__(self) -> int:
        return len(self.length)

    def take(self, numbers: np.ndarray) -> "Runs":
        """Those with these numbers."""
        return Runs(**{name: array[numbers] for name, array in vars(self).items()})


def documents_at_once(source: TokenSource) -> int:
    """How many documents there are in a draw."""
    return max(_FEWEST, min(DOCUMENTS, round(DOCUMENTS * _LARGE / source.mean_document_bytes)))


def draw_runs(pool: NegativeSource, examples: int, rng: np.random.Generator) -> Runs:
    """The true Bs of documents drawn from the pool, cut as the examples are; several for each of so many examples."""
    wanted, parts, total = max(_FEWEST_RUNS, 3 * examples), [], 0
    size, there = documents_at_once(pool.source), len(pool.documents)
    for _ in range(_MOST_DRAWS):
        places = rng.integers(0, there, size) if there > size else np.arange(there)  # few: all of them, cut anew
        documents = np.asarray(pool.documents[places])
        parts.append(_true_bs(pool, documents, rng))
        total += len(parts[-1])
        if total >= wanted:
            break
    return Runs(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])})


def _true_bs(pool: NegativeSource, documents: np.ndarray, rng: np.random.Generator) -> Runs:
    """Every true B of these documents, in order."""
    sentences = Sentences.of(pool.source, documents)
    pairs, _ = cut(sentences, pool.cutting, rng)
    last = np.searchsorted(ragged.offsets(sentences.counts), pairs.b_start + pairs.b_length) - 1  # B's last sentence
    return Runs(
        length=np.minimum(pairs.b_length, pool.cutting.budget),
        after=np.minimum(pairs.a_length, pool.cutting.budget),
        first=pairs.b_sentence,
        last=sentences.numbers[last] + 1,
        document=pairs.document,
    )


def nearest(examples: Examples, text: Text, runs: Runs, pool: NegativeSource, rng: np.random.Generator) -> np.ndarray:
    """For each example the allowed run that is nearest in B's length, then in A's: indices, (E,); -1 where none is.

    Ties are broken at random.
    """
    chosen = _among_nearest(examples, text, runs, pool, rng)
    if not pool.negatives.own_document:  # where most runs are of A's document, the nearest may all be
        hashes = pool.source.document_hashes
        of_runs, left = hashes[runs.document], np.flatnonzero(chosen < 0)
        of_left = hashes[examples.document[left]]
        for document in np.unique(of_left):
            others, asking = np.flatnonzero(of_runs != document), left[of_left == document]
            found = _among_nearest(examples.take(asking), text, runs.take(others), pool, rng)
            chosen[asking[found >= 0]] = others[found[found >= 0]]
    for example in np.flatnonzero(chosen < 0):
        one = np.full(len(runs), example)
        fits = np.flatnonzero(_may_stand(examples.take(one), text, runs, np.arange(len(runs)), pool))
        if len(fits):
            away = np.abs(runs.length[fits] - min(int(examples.b_length[example]), pool.cutting.budget))
            chosen[example] = fits[away.argmin()]
    return chosen


def _among_nearest(
    examples: Examples, text: Text, runs: Runs, pool: NegativeSource, rng: np.random.Generator
) -> np.ndarray:
    """As `nearest`, of the `_NEAREST` runs that are nearest to each example."""
    budget = pool.cutting.budget
    keys = _keys(runs.length, runs.after, rng)
    wanted = _keys(np.minimum(examples.b_length, budget), np.minimum(examples.a_length, budget), rng)
    order = np.argsort(keys)
    keys = np.concatenate([[-np.inf], keys[order], [np.inf]])
    above = np.searchsorted(keys, wanted)
    below, chosen = above - 1, np.full(len(examples), -1)
    for _ in range(min(_NEAREST, len(runs))):
        left = np.flatnonzero(chosen < 0)
        if len(left) == 0:
            return chosen
        goes_up = keys[above[left]] - wanted[left] < wanted[left] - keys[below[left]]
        tried = order[np.where(goes_up, above[left], below[left]) - 1]
        above[left] += goes_up
        below[left] -= ~goes_up
        fits = _may_stand(examples.take(left), text, runs, tried, pool)
        chosen[left[fits]] = tried[fits]
    return chosen


def _keys(length: np.ndarray, after: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Numbers that are near where both lengths are, B's before A's; less than 1 apart where both are equal."""
    return length * float(_FAR) + after * 3.0 + rng.random(len(length))


def _may_stand(examples: Examples, text: Text, runs: Runs, tried: np.ndarray, pool: NegativeSource) -> np.ndarray:
    """Whether each run avoids A and what truly follows, and is from a document that the negatives allow, (E,)."""
    first, last = runs.first[tried], runs.last[tried]
    allowed = (last <= examples.a_sentence) | (first > examples.b_sentence)
    if not pool.negatives.own_document:
        hashes = pool.source.document_hashes  # a copy of the document is the same document
        allowed &= hashes[runs.document[tried]] != hashes[examples.document]
    return allowed & ~pool.repeats_true_b(examples, text, first, last)
