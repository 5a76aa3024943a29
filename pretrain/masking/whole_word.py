"""Whole-word masking: all tokens of a word, or none (google-research/bert's whole-word release, 2019)."""

import numpy as np

from pretrain.masking.units import draw, words


def choose(
    maskable: np.ndarray,
    word_starts: np.ndarray,
    cu_seqlens: np.ndarray,
    rate: float,
    bernoulli: bool,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose words at random, enough for a sequence's share of tokens.

    The expected number of tokens is exact and every word is equally likely, short or long. The release takes words
    while they fit: too few tokens, and long words too seldom.

    Args:
        maskable: True where a token may be masked (special tokens may not), (T,).
        word_starts: True where a token begins a word, (T,).
        cu_seqlens: where each sequence starts, and T last, (N + 1,).
        rate: share of a sequence's maskable tokens to choose, in (0, 1]; a sequence of few, long words may get none.
        bernoulli: draw each word independently, instead of keeping each sequence as near to the rate as possible.
        rng: the generator of this micro-batch's masks.

    Returns:
        Chosen positions, ascending, (K,), and the word each belongs to, (K,): a word is replaced as a unit.
    """
    return draw(*words(maskable, word_starts, cu_seqlens), cu_seqlens, rate, bernoulli, rng)
