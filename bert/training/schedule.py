"""The learning rate over a run: pure functions of the share of the budget spent, as a factor of the peak.

All rise linearly from 0 to 1 over the first `warmup` of the budget.
"""

import math


def linear(progress: float, warmup: float) -> float:
    """Then fall linearly to 0 (Devlin et al. 2019, appendix A.2)."""
    if progress < warmup:
        return progress / warmup
    return max(0.0, (1 - progress) / (1 - warmup))


def cosine(progress: float, warmup: float) -> float:
    """Then fall to 0 along half a cosine (Loshchilov and Hutter 2017, equation 5)."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))


def constant(progress: float, warmup: float) -> float:
    """Then stay at 1."""
    return min(1.0, progress / warmup) if warmup else 1.0


def inverse_sqrt(progress: float, warmup: float) -> float:
    """Then fall with the inverse square root of time (Vaswani et al. 2017, section 5.3); warmup must be above 0."""
    if progress < warmup:
        return progress / warmup
    return math.sqrt(warmup / progress)


SCHEDULES = {"linear": linear, "cosine": cosine, "constant": constant, "inverse_sqrt": inverse_sqrt}
