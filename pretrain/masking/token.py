"""Token masking: every maskable token is a unit of its own (Devlin et al. 2019, section 3.1).

Letters: N sequences.
"""

import numpy as np

from pretrain.masking.strategy import Strategy, Tokens


def choose(tokens: Tokens, rate: float, bernoulli: bool, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Choose tokens as `strategy.Choose` says, without replacement within each sequence; words are not needed here.

    A sequence with any maskable token gets at least one; with `bernoulli` it may get none.
    """
    positions = np.flatnonzero(tokens.maskable)
    if bernoulli:
        chosen = positions[rng.random(len(positions)) < rate]
        return chosen, np.arange(len(chosen))
    sequence = tokens.sequence_of(positions)
    available = np.bincount(sequence, minlength=len(tokens.cu_seqlens) - 1)  # (N,)
    wanted = np.where(available > 0, np.maximum(1, np.rint(rate * available)), 0)  # (N,)
    shuffled = positions[np.argsort(sequence + rng.random(len(positions)))]  # still grouped by sequence
    rank = np.arange(len(positions)) - (np.cumsum(available) - available)[sequence]
    chosen = np.sort(shuffled[rank < wanted[sequence]])
    return chosen, np.arange(len(chosen))


STRATEGY = Strategy(choose)
