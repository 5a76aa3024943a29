"""Token masking: every maskable token is a unit of its own (Devlin et al. 2019, section 3.1)."""

import numpy as np


def choose(
    maskable: np.ndarray,
    word_starts: np.ndarray,
    cu_seqlens: np.ndarray,
    rate: float,
    bernoulli: bool,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose what to predict in a whole micro-batch, without replacement within each sequence.

    Args:
        maskable: True where a token may be masked (special tokens may not), (T,).
        word_starts: True where a token begins a word, (T,). Not needed here; every strategy takes it.
        cu_seqlens: where each sequence starts, and T last, (N + 1,).
        rate: share of a sequence's maskable tokens to choose, in (0, 1]; at least one where there is any.
        bernoulli: draw each token independently instead; then there may be none.
        rng: the generator of this micro-batch's masks.

    Returns:
        Chosen positions, ascending, (K,), and the unit each belongs to, (K,): its tokens are replaced alike.
    """
    positions = np.flatnonzero(maskable)
    if bernoulli:
        chosen = positions[rng.random(len(positions)) < rate]
        return chosen, np.arange(len(chosen))
    sequence = np.searchsorted(cu_seqlens, positions, side="right") - 1
    available = np.bincount(sequence, minlength=len(cu_seqlens) - 1)  # (N,)
    wanted = np.where(available > 0, np.maximum(1, np.rint(rate * available)), 0)  # (N,)
    shuffled = positions[np.argsort(sequence + rng.random(len(positions)))]  # still grouped by sequence
    rank = np.arange(len(positions)) - (np.cumsum(available) - available)[sequence]
    chosen = np.sort(shuffled[rank < wanted[sequence]])
    return chosen, np.arange(len(chosen))
