"""The statistics of an ablation: paired differences, their intervals, and what could have been seen at all.

Letters: n seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

CONFIDENCE, POWER = 0.95, 0.80

_ROUNDING = 1e-9
"""Deviations that are no more than this share of the values are those of their last digits."""


@dataclass(frozen=True)
class Summary:
    """Several seeds of one thing.

    Attributes:
        n: how many.
        mean: of them.
        deviation: sample standard deviation, with n - 1; nan for one seed.
        low, high: 95% interval of the mean by Student's t; nan for one seed.
    """

    n: int
    mean: float
    deviation: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """A variant minus its baseline, paired by seed.

    Attributes:
        difference: mean, deviation and 95% interval of the n differences.
        p: of the paired t-test, two-sided; nan for one seed, and 1 where all differences are the same: a few seeds
            whose scores are counts can agree by chance, and there is no spread to test that against.
        detectable: the smallest true difference that a test at 5% would have found in 80% of such experiments, given
            how much these differences vary; nan for one seed, and where they do not vary, as is the interval.
    """

    difference: Summary
    p: float
    detectable: float


def summarise(values: Sequence[float]) -> Summary:
    """Mean, deviation and interval of one value per seed."""
    from scipy import stats

    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Summary(n, mean, float("nan"), float("nan"), float("nan"))
    deviation = float(np.std(values, ddof=1))
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1)) * deviation / sqrt(n)
    return Summary(n, mean, deviation, mean - half, mean + half)


def compare(variant: Sequence[float], baseline: Sequence[float]) -> Comparison:
    """The paired t-test (Student 1908) of values of the same seeds, in the same order."""
    from scipy import stats

    differences = np.subtract(variant, baseline)
    difference = summarise(differences)
    if difference.n < 2:
        return Comparison(difference, float("nan"), float("nan"))
    if difference.deviation <= _ROUNDING * np.abs([variant, baseline]).max():
        unknown = float("nan")
        return Comparison(replace(difference, deviation=0.0, low=unknown, high=unknown), 1.0, unknown)
    error = difference.deviation / sqrt(difference.n)
    p = float(2 * stats.t.sf(abs(difference.mean) / error, difference.n - 1))
    return Comparison(difference, p, _detectable(error, difference.n))


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for their number, in the order given (Holm 1979); nan stays, and counts as no test."""
    adjusted, before = [float("nan")] * len(p_values), 0.0
    tested = [place for place, p in enumerate(p_values) if not np.isnan(p)]
    for rank, place in enumerate(sorted(tested, key=lambda place: p_values[place])):
        before = max(before, min(1.0, (len(tested) - rank) * p_values[place]))
        adjusted[place] = before
    return adjusted


def _detectable(error: float, n: int) -> float:
    """The difference at which the two-sided test has the power asked for, by the noncentral t distribution."""
    from scipy import optimize, stats

    critical = stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1)

    def missing(effect: float) -> float:
        return stats.nct.sf(critical, n - 1, effect) - POWER

    return float(optimize.brentq(missing, 0.0, 2 * critical + 10)) * error
