"""Random Bs from A's own document.

A B is the run of sentences nearest in length. A document often has no second run as long as its longest B. Long Bs are
then true more often than not, and length reveals a little about the label.

Letters: E examples, S sentences of their documents.
"""

from collections.abc import Callable, Iterator

import numpy as np

from pretrain import ragged
from pretrain.examples import Cutting, Examples, Text
from pretrain.negatives.negatives import Drawn, NegativeSource, keep_those_with_a_run
from pretrain.token_source import TokenSource

RULE = 2
"""Incremented when the same text gets different random Bs; a run refuses to resume under another."""

STARTS = 32
"""Maximum sentences of a document to try as the beginning of an example's random B."""


def draw(examples: Examples, text: Text, pool: NegativeSource, rng: np.random.Generator) -> Drawn:
    """A run for each example with label 1, as `Negatives.draw` says.

    Every example draws one, and those whose document has nothing else to offer are left out.
    """
    if len(examples) == 0:
        return Drawn(examples, np.zeros(0, np.int64), np.zeros(0, np.int64), {})

    def differs(some: Examples, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        return ~pool.repeats_true_b(some, text, first, last)

    return keep_those_with_a_run(examples, *nearest_in_length(examples, pool.source, pool.cutting, differs, rng))


def nearest_in_length(
    examples: Examples,
    source: TokenSource,
    cutting: Cutting,
    differs: Callable[[Examples, np.ndarray, np.ndarray], np.ndarray],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """A run of sentences for each example: first and end, (E,) each; -1 where the document offers none.

    Of the runs that begin at `STARTS` sentences, spread evenly over the document, it is the one nearest to the true B's
    length, longer or shorter, with ties broken at random. It is a single sentence if the input's segments are, contains
    neither A nor the beginning of the true B, and does not begin the document, as no true B does.

    Args:
        examples: those that need one.
        source: the corpus.
        cutting: how examples are cut; lengths from its budget on count as equal.
        differs: whether a run (first, end) differs from the true B in any token.
        rng: the generator of this block's pairs.
    """
    tokens, begin, end = _lay_out(examples, source)
    shift = begin - source.sentence_offsets[examples.document]  # from a sentence's number to its place in tokens
    a, true_b = examples.a_sentence + shift, examples.next_sentence + shift
    wanted = np.minimum(examples.b_length, cutting.budget)
    run_first, run_last, least = np.full(len(a), -1), np.full(len(a), -1), np.full(len(a), np.inf)
    for some, first in _starts(begin, end, rng):
        has_text_before = tokens[first] > tokens[begin[some]]
        fits = has_text_before & ((first < a[some]) | (first > true_b[some]))
        some, first = some[fits], first[fits]
        stop = np.where(first < a[some], a[some], end[some])
        for last in _ends(tokens, first, stop, wanted[some], cutting.input.single_sentences):
            length = np.minimum(tokens[last] - tokens[first], cutting.budget)
            missed = np.abs(length - wanted[some]) + rng.random(len(some))  # plus less than one, to break ties
            better = np.flatnonzero((length > 0) & (missed < least[some]))
            move = shift[some[better]]
            better = better[differs(examples.take(some[better]), first[better] - move, last[better] - move)]
            chosen = some[better]
            least[chosen], run_first[chosen], run_last[chosen] = missed[better], first[better], last[better]
    found = run_first >= 0
    return np.where(found, run_first - shift, -1), np.where(found, run_last - shift, -1)


def _lay_out(examples: Examples, source: TokenSource) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens before each sentence of the examples' documents, (S + 1,); where each example's begins and ends, (E,)."""
    documents, which = np.unique(examples.document, return_inverse=True)
    first, last = source.sentences_of(documents)
    places = ragged.offsets(last - first)
    return ragged.offsets(source.counts(first, last)), places[which], places[which + 1]


def _starts(begin: np.ndarray, end: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Which examples have another sentence to try, and which: all, or `STARTS` evenly spaced, from a random one on."""
    size = end - begin
    tried, offset = np.minimum(STARTS, size), (rng.random(len(size)) * size).astype(np.int64)
    for step in range(tried.max(initial=0)):
        some = np.flatnonzero(step < tried)
        yield some, begin[some] + (offset[some] + step * size[some] // tried[some]) % size[some]


def _ends(
    tokens: np.ndarray, first: np.ndarray, stop: np.ndarray, wanted: np.ndarray, single: bool
) -> Iterator[np.ndarray]:
    """Where a run from each sentence may end, at most `stop`: after it, or on either side of the wanted length."""
    if single:
        yield first + 1
        return
    reached = np.searchsorted(tokens, tokens[first] + wanted)
    yield np.minimum(reached, stop)
    yield np.clip(reached - 1, first + 1, stop)
