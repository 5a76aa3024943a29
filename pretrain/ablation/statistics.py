"""The statistics of an ablation: paired differences, their intervals, and what could have been detected.

Letters: n seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

CONFIDENCE, POWER, SIGNIFICANT = 0.95, 0.80, 0.05

_ROUNDING = 1e-9
"""Differences and deviations up to this share of the values are rounding errors."""


@dataclass(frozen=True)
class Summary:
    """The mean of several seeds, and its uncertainty.

    Attributes:
        n: number of seeds.
        mean: over seeds.
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
        difference: mean, deviation and 95% interval of the n differences; what is a rounding error is 0.
        p: of the paired t-test, two-sided; nan for one seed, and where all differences are the same: a few seeds whose
            scores are counts can agree by chance, and there is no spread to test against. The interval is then nan too.
    """

    difference: Summary
    p: float


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
    difference, unknown = summarise(differences), float("nan")
    rounding = _ROUNDING * np.abs([variant, baseline]).max()
    if abs(difference.mean) <= rounding:
        difference = replace(difference, mean=0.0)
    if difference.n < 2:
        return Comparison(difference, unknown)
    if difference.deviation <= rounding:
        return Comparison(replace(difference, deviation=0.0, low=unknown, high=unknown), unknown)
    error = difference.deviation / sqrt(difference.n)
    return Comparison(difference, float(2 * stats.t.sf(abs(difference.mean) / error, difference.n - 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for their number, in the order given (Holm 1979); nan stays nan and does not count."""
    adjusted, before = [float("nan")] * len(p_values), 0.0
    tested = [place for place, p in enumerate(p_values) if not np.isnan(p)]
    for rank, place in enumerate(sorted(tested, key=lambda place: p_values[place])):
        before = max(before, min(1.0, (len(tested) - rank) * p_values[place]))
        adjusted[place] = before
    return adjusted


def detectable(difference: Summary, tests: int) -> float:
    """The true difference that would be found in 80% of such experiments, by the noncentral t distribution.

    Args:
        difference: of n seeds; their deviation is taken for the true one (see `uncertainty`).
        tests: the number that Holm corrects for; found means significant in the strictest of them, at 5% / tests.

    Returns:
        nan for one seed, and where the differences do not vary.
    """
    from scipy import optimize, stats

    if not difference.deviation > 0:
        return float("nan")
    freedom = difference.n - 1
    critical = stats.t.ppf(1 - (1 - CONFIDENCE) / 2 / tests, freedom)

    def missing(effect: float) -> float:
        return stats.nct.sf(critical, freedom, effect) - POWER

    return float(optimize.brentq(missing, 0.0, 2 * critical + 10)) * difference.deviation / sqrt(difference.n)


def uncertainty(n: int) -> tuple[float, float]:
    """The 95% interval of a true deviation, as multiples of that of n seeds (normal values; chi-square)."""
    from scipy import stats

    tail = (1 - CONFIDENCE) / 2
    return tuple(float(sqrt((n - 1) / stats.chi2.ppf(share, n - 1))) for share in (1 - tail, tail))
