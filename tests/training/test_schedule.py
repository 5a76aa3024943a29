import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert.training.config import TrainingConfig, check
from bert.training.schedule import SCHEDULES, constant, cosine, inverse_sqrt, linear

shares = st.floats(0, 1)
warmups = st.floats(0.01, 0.99)


def test_linear_rises_to_the_peak_and_falls_to_zero():
    assert [linear(p, warmup=0.5) for p in (0.0, 0.25, 0.5, 0.75, 1.0)] == [0.0, 0.5, 1.0, 0.5, 0.0]


def test_cosine_rises_to_the_peak_and_falls_along_half_a_cosine():
    found = [cosine(p, warmup=0.2) for p in (0.0, 0.1, 0.2, 0.4, 0.6, 1.0)]
    assert found == pytest.approx([0.0, 0.5, 1.0, (1 + math.sqrt(0.5)) / 2, 0.5, 0.0])


def test_constant_rises_to_the_peak_and_stays():
    assert [constant(p, warmup=0.5) for p in (0.0, 0.25, 0.5, 0.75, 1.0)] == [0.0, 0.5, 1.0, 1.0, 1.0]


def test_inverse_sqrt_has_half_the_peak_at_four_times_the_warm_up():
    assert [inverse_sqrt(p, warmup=0.25) for p in (0.0, 0.125, 0.25, 1.0)] == [0.0, 0.5, 1.0, 0.5]


@pytest.mark.parametrize("name", ["linear", "cosine", "constant"])
def test_without_a_warm_up_a_run_begins_at_the_peak(name):
    assert SCHEDULES[name](0.0, 0.0) == 1.0


@pytest.mark.parametrize("name", SCHEDULES)
@given(progress=shares, warmup=warmups)
def test_every_schedule_stays_between_zero_and_the_peak(name, progress, warmup):
    assert 0.0 <= SCHEDULES[name](progress, warmup) <= 1.0


@pytest.mark.parametrize("name", SCHEDULES)
@given(warmup=st.floats(0.01, 0.99))
def test_every_schedule_reaches_the_peak_where_the_warm_up_ends(name, warmup):
    assert SCHEDULES[name](warmup, warmup) == 1.0
    assert SCHEDULES[name](warmup / 2, warmup) == pytest.approx(0.5)


@pytest.mark.parametrize("name", SCHEDULES)
@given(warmup=warmups, places=st.tuples(shares, shares))
def test_no_schedule_rises_again_after_its_warm_up(name, warmup, places):
    before, after = (warmup + (1 - warmup) * place for place in sorted(places))
    assert SCHEDULES[name](before, warmup) >= SCHEDULES[name](after, warmup)


def test_inverse_sqrt_without_a_warm_up_is_refused():
    (said,) = check(TrainingConfig(steps=1, schedule="inverse_sqrt", warmup=0.0))
    assert said == "training.warmup: 0, but training.schedule=inverse_sqrt falls from its end; it must be above 0."
