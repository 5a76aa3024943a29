"""N-gram masking: one to three whole words, shorter ones more often (Lan et al. 2020, ALBERT, section 4.1)."""

import numpy as np

from pretrain.masking.units import draw, spans, words

LONGEST = 3
_LENGTHS = np.arange(1, LONGEST + 1)
_CHANCES = (1 / _LENGTHS) / (1 / _LENGTHS).sum()
"""Probability of each length in words: 6/11, 3/11, 2/11."""


def choose(
    maskable: np.ndarray,
    word_starts: np.ndarray,
    cu_seqlens: np.ndarray,
    rate: float,
    bernoulli: bool,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose n-grams uniformly at random; the expected share of tokens is the rate.

    A sequence is divided into consecutive n-grams of random length, and some of these are taken whole.

    Args:
        maskable: True where a token may be masked (special tokens may not), (T,).
        word_starts: True where a token begins a word, (T,).
        cu_seqlens: where each sequence starts, and T last, (N + 1,).
        rate: share of the maskable tokens to choose, in (0, 1]; a short sequence may get none.
        bernoulli: draw each n-gram independently, instead of keeping each sequence as near to the rate as possible.
        rng: the generator of this micro-batch's masks.

    Returns:
        Chosen positions, ascending, (K,), and the n-gram each belongs to, (K,): an n-gram is replaced as a unit.
    """
    first, length = words(maskable, word_starts, cu_seqlens)
    wanted = rng.choice(_LENGTHS, len(first), p=_CHANCES)
    return draw(*spans(first, length, cu_seqlens, wanted), cu_seqlens, rate, bernoulli, rng)
