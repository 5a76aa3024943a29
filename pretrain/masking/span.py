"""Span masking: runs of whole words, of geometric length (Joshi et al. 2020, SpanBERT, section 3.1)."""

import numpy as np

from pretrain.masking.units import draw, spans, words

P, LONGEST = 0.2, 10
_LENGTHS = np.arange(1, LONGEST + 1)
_CHANCES = P * (1 - P) ** (_LENGTHS - 1) / (1 - (1 - P) ** LONGEST)
"""Probability of each length in words: geometric, cut at LONGEST and normalised, as in the paper's code; mean 3.8."""


def choose(
    maskable: np.ndarray,
    word_starts: np.ndarray,
    cu_seqlens: np.ndarray,
    rate: float,
    bernoulli: bool,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose spans uniformly at random; the expected share of tokens is the rate.

    A sequence is divided into consecutive spans of random length, and some of these are taken whole. The paper draws
    spans one by one until the share is reached and cuts the last one; here only the end of the sequence or segment
    cuts one, so lengths stay geometric, and the share is reached on average.

    Args:
        maskable: True where a token may be masked (special tokens may not), (T,).
        word_starts: True where a token begins a word, (T,).
        cu_seqlens: where each sequence starts, and T last, (N + 1,).
        rate: share of the maskable tokens to choose, in (0, 1]; a short sequence may get none.
        bernoulli: draw each span independently, instead of keeping each sequence as near to the rate as possible.
        rng: the generator of this micro-batch's masks.

    Returns:
        Chosen positions, ascending, (K,), and the span each belongs to, (K,): a span is replaced as a unit.
    """
    first, length = words(maskable, word_starts, cu_seqlens)
    wanted = rng.choice(_LENGTHS, len(first), p=_CHANCES)
    return draw(*spans(first, length, cu_seqlens, wanted), cu_seqlens, rate, bernoulli, rng)
