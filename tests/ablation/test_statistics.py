"""The statistics against scipy, worked examples and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pretrain.ablation.statistics import compare, detectable, holm, summarise, uncertainty

VALUES = st.lists(st.integers(-1000, 1000), min_size=2, max_size=12)


def test_a_worked_example():
    # Differences 1, 2, 3, 4, 5: mean 3, deviation sqrt(2.5), standard error sqrt(0.5), t = 3 / sqrt(0.5) = 4.243.
    found = compare([2, 4, 6, 8, 10], [1, 2, 3, 4, 5])
    assert found.difference.mean == 3 and found.difference.deviation == pytest.approx(2.5**0.5)
    assert found.p == pytest.approx(0.013236, abs=1e-6)
    assert (found.difference.low, found.difference.high) == pytest.approx(
        (3 - 2.776445 * 0.5**0.5, 3 + 2.776445 * 0.5**0.5)
    )


@given(VALUES)
def test_a_summary_is_that_of_scipy(values):
    found = summarise(values)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.deviation == pytest.approx(np.std(values, ddof=1))
    if found.deviation:
        low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
        assert (found.low, found.high) == pytest.approx((low, high))


@given(st.data())
def test_a_comparison_is_the_paired_t_test_of_scipy(data):
    baseline = data.draw(VALUES)
    variant = data.draw(st.lists(st.integers(-1000, 1000), min_size=len(baseline), max_size=len(baseline)))
    found = compare(variant, baseline)
    if found.difference.deviation > 0:
        expected = stats.ttest_rel(variant, baseline)
        assert found.p == pytest.approx(expected.pvalue, rel=1e-9, abs=1e-12)
        interval = expected.confidence_interval(0.95)
        assert (found.difference.low, found.difference.high) == pytest.approx((interval.low, interval.high))


def test_one_seed_gives_a_difference_and_no_more():
    found = compare([2.0], [1.5])
    assert found.difference.mean == 0.5
    assert all(
        map(math.isnan, (found.difference.deviation, found.difference.low, found.p, detectable(found.difference, 1)))
    )


def test_differences_without_any_spread_are_not_tested():
    for variant, difference in (([2, 3], 1), ([1, 2], 0), ([1.1, 2.1], 0.1)):
        found = compare(variant, [1, 2])
        assert (found.difference.mean, found.difference.deviation) == (pytest.approx(difference), 0.0)
        unknown = (found.p, detectable(found.difference, 1), found.difference.low, found.difference.high)
        assert all(map(math.isnan, unknown))


def test_a_difference_that_is_a_rounding_error_is_none():
    # Tenths are not exact: 0.1 + 0.2 is 0.30000000000000004.
    assert compare([0.1 + 0.2], [0.3]).difference.mean == 0.0
    assert compare([0.1 + 0.2, 0.7], [0.3, 0.1 * 7]).difference.mean == 0.0


def test_holm_on_the_worked_example_of_four():
    # Sorted 0.005, 0.01, 0.03, 0.04: times 4, 3, 2, 1, never falling.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_never_exceeds_one_and_leaves_out_what_was_not_tested():
    assert holm([0.6, float("nan"), 0.9])[::2] == [1.0, 1.0]
    assert math.isnan(holm([0.6, float("nan"), 0.9])[1])
    assert holm([0.02, float("nan")])[0] == 0.02
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_lies_between_p_and_bonferroni(p_values):
    adjusted = holm(p_values)
    assert all(p <= a <= min(1, len(p_values) * p) + 1e-12 for p, a in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


@pytest.mark.parametrize("tests", [1, 4])
@pytest.mark.parametrize("n", [2, 5, 20])
def test_the_detectable_difference_is_found_four_times_in_five_by_the_corrected_test(n, tests):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(20_000, n))
    error = 1 / n**0.5  # the true one; `detectable` is given a sample whose own deviation is 1
    sample = np.linspace(-1, 1, n) / np.std(np.linspace(-1, 1, n), ddof=1)
    size = detectable(summarise(sample), tests)
    p = stats.ttest_1samp(noise + size, 0, axis=1).pvalue
    found = ((p < 0.05 / tests) & ((noise + size).mean(1) > 0)).mean()
    assert size > 2.7 * error and abs(found - 0.8) < 5 * (0.16 / 20_000) ** 0.5


def test_a_deviation_of_five_seeds_says_the_true_one_to_a_factor_of_three():
    # (n - 1) s^2 / sigma^2 lies between 0.4844 and 11.143, the table's 2.5 and 97.5% of chi-square with 4 degrees.
    assert uncertainty(5) == pytest.approx(((4 / 11.143) ** 0.5, (4 / 0.4844) ** 0.5), rel=1e-4)
