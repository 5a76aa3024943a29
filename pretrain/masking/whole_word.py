"""Whole-word masking: all tokens of a word, or none (the whole-word release of google-research/bert, 2019).

Letters: T tokens in the micro-batch, N sequences, W words, K chosen tokens.
"""

import numpy as np

from pretrain import ragged


def choose(
    maskable: np.ndarray,
    word_starts: np.ndarray,
    cu_seqlens: np.ndarray,
    rate: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose words at random, so many that a sequence's share of tokens is reached.

    The expected number of tokens is exact and every word is as likely as any other, short or long (but where a
    sequence is so short that "at least one" decides). The release takes words while they fit: too few tokens, and
    long words too seldom.

    Args:
        maskable: True where a token may be masked (special tokens may not), (T,).
        word_starts: True where a token begins a word, (T,).
        cu_seqlens: where each sequence starts, and T last, (N + 1,).
        rate: share of a sequence's maskable tokens to choose, in (0, 1]; at least one word where there is any.
        rng: the generator of this micro-batch's masks.

    Returns:
        Chosen positions, ascending, (K,), and the word each belongs to, (K,): a word is replaced as one.
    """
    first, length = _words(maskable, word_starts, cu_seqlens)  # (W,), (W,)
    sequence = np.searchsorted(cu_seqlens, first, side="right") - 1
    order = np.argsort(sequence + rng.random(len(first)))  # shuffled, still grouped by sequence
    taken = order[_fill(length[order], sequence[order], rate, rng)]
    taken.sort()
    positions = ragged.ranges(first[taken], length[taken])
    return positions, np.repeat(np.arange(len(taken)), length[taken])


def _words(maskable: np.ndarray, word_starts: np.ndarray, cu_seqlens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First token and length of every run of maskable tokens that is one word."""
    begins = maskable & word_starts
    begins[1:] |= maskable[1:] & ~maskable[:-1]  # a word cut by a special token, or by truncation
    begins[cu_seqlens[:-1]] |= maskable[cu_seqlens[:-1]]
    first = np.flatnonzero(begins)
    word = np.cumsum(begins) - 1
    return first, np.bincount(word[maskable], minlength=len(first))


def _fill(length: np.ndarray, sequence: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    """Which words are taken, in the order given, (W,).

    A sequence's shuffled words lie on a circle, each as long as its tokens. An arc of the wanted length is laid down
    at random, and the words that begin in it are taken: every word with one probability, whatever its length.
    """
    if len(length) == 0:
        return np.zeros(0, bool)
    opens = np.r_[True, sequence[1:] != sequence[:-1]]  # a sequence's first word
    group = np.cumsum(opens) - 1
    before = np.cumsum(length) - length
    before -= before[opens][group]  # where each word begins on its circle
    around = np.bincount(group, weights=length)
    wanted = np.maximum(1, np.rint(rate * around))
    arc = rng.random(len(around)) * around
    taken = np.mod(before - arc[group], around[group]) < wanted[group]
    nothing = np.bincount(group, weights=taken) == 0
    return taken | (opens & nothing[group])
