"""Random Bs from A's own document.

Letters: E examples, S sentences of their documents.
"""

from collections.abc import Callable

import numpy as np

from pretrain import ragged
from pretrain.examples import Examples
from pretrain.token_source import TokenSource

_ROUNDS = 32


def have_others(examples: Examples, source: TokenSource) -> np.ndarray:
    """Whether a document has any sentence but its first, those of A, and the one that truly follows, (E,)."""
    first, last = _documents(examples, source)
    return (examples.a_sentence > first) | (examples.next_sentence + 1 < last)


def draw(
    examples: Examples,
    source: TokenSource,
    differs: Callable[[Examples, np.ndarray, np.ndarray], np.ndarray],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """A run of sentences for each example: first and end, (E,) each; -1 where the document offers none.

    It begins at random, is at least as long as the true B wherever the document has such a run, no longer than it must
    be, and holds neither A nor the beginning of what truly follows; nor does it begin the document, as no true B does.

    Args:
        examples: those that want one.
        source: the corpus.
        differs: whether a run (first, end) says something else than the true B, word for word.
        rng: the generator of this block's pairs.
    """
    first, last = _documents(examples, source)
    documents, which = np.unique(examples.document, return_inverse=True)
    begins, ends = source.sentence_offsets[documents] + 1, source.sentence_offsets[documents + 1]
    tokens = ragged.offsets(source.counts(begins, ends))  # tokens before each sentence of these documents, (S + 1,)
    shift = ragged.offsets(ends - begins)[:-1][which] - first  # from a sentence's number to its place in tokens
    run_first, run_last = np.full(len(examples), -1), np.full(len(examples), -1)
    for wanted in (np.maximum(1, examples.b_length), np.ones(len(examples), np.int64)):
        for _ in range(_ROUNDS):
            open_ = np.flatnonzero(run_first < 0)
            start = first[open_] + (rng.random(len(open_)) * (last - first)[open_]).astype(np.int64)
            place = start + shift[open_]
            end = start + np.searchsorted(tokens, tokens[place] + wanted[open_]) - place
            fits = (end <= last[open_]) & _apart(start, end, examples.take(open_))
            tried = np.flatnonzero(fits)
            fits[tried] = differs(examples.take(open_[tried]), start[tried], end[tried])
            run_first[open_[fits]], run_last[open_[fits]] = start[fits], end[fits]
    return run_first, run_last


def _documents(examples: Examples, source: TokenSource) -> tuple[np.ndarray, np.ndarray]:
    """Where the sentences that may stand as B begin and end: all but the document's first."""
    return source.sentence_offsets[examples.document] + 1, source.sentence_offsets[examples.document + 1]


def _apart(first: np.ndarray, last: np.ndarray, examples: Examples) -> np.ndarray:
    """Whether a run ends before A, or begins behind the sentence that truly follows."""
    return (last <= examples.a_sentence) | (first > examples.next_sentence)
