import math

import pytest
import torch

from bert.training.step import StepResult
from bert.training.window import Window

WEIGHTS = {"masked_lm_loss": 1.0, "sentence_loss": 0.5}


def step(masked: tuple[float, float], sentences: tuple[float, float], norm: float, skipped: float = 0.0) -> StepResult:
    """A step of these sums and counts."""
    both = {"masked_lm_loss": masked, "sentence_loss": sentences}
    sums, counts = ({name: torch.tensor(pair[place]) for name, pair in both.items()} for place in (0, 1))
    return StepResult(sums, counts, torch.tensor(norm), torch.tensor(skipped))


def test_a_line_has_the_means_over_its_targets_and_over_the_steps_that_counted():
    window = Window()
    window.add(step((6.0, 3), (1.0, 2), norm=2.0), tokens=10, flops=100.0, seconds=2.0)
    window.add(step((2.0, 1), (2.0, 4), norm=4.0), tokens=20, flops=200.0, seconds=3.0)
    window.add(step((0.0, 0), (0.0, 0), norm=0.0, skipped=1.0), tokens=30, flops=300.0, seconds=1.0)
    assert window.metrics(WEIGHTS) == {
        "train/loss": 2.25,  # 8 / 4 and half of 3 / 6
        "train/masked_lm_loss": 2.0,
        "train/sentence_loss": 0.5,
        "train/gradient_norm": 3.0,
        "train/skipped_steps": 1.0,
        "speed/tokens_per_second": 10.0,  # 60 in 6 s
    }
    assert (window.steps, window.flops, float(window.skipped_in_a_row)) == (3, 600.0, 1.0)


@pytest.mark.parametrize("masked", [(0.5, 1), (0.0, 0)])
def test_one_target_is_its_own_mean_and_none_at_all_is_no_fault(masked):
    window = Window()
    window.add(step(masked, (0.0, 0), norm=0.25), tokens=1, flops=1.0, seconds=1.0)
    found = window.metrics(WEIGHTS)
    assert (found["train/masked_lm_loss"], found["train/gradient_norm"]) == (masked[0], 0.25)


def test_a_window_of_skipped_steps_alone_has_no_norm_and_no_loss():
    window = Window(skipped_in_a_row=2.0)
    window.add(step((0.0, 0), (0.0, 0), norm=0.0, skipped=1.0), tokens=1, flops=1.0, seconds=1.0)
    found = window.metrics(WEIGHTS)
    assert found["train/gradient_norm"] == 0.0
    assert math.isnan(found["train/loss"]) and math.isnan(found["train/masked_lm_loss"])
    assert float(window.skipped_in_a_row) == 3.0
    window.add(step((1.0, 1), (1.0, 1), norm=1.0), tokens=1, flops=1.0, seconds=1.0)
    assert float(window.skipped_in_a_row) == 0.0


def test_a_window_goes_on_where_it_was_saved():
    window = Window()
    window.add(step((6.0, 3), (1.0, 2), norm=2.0), tokens=10, flops=100.0, seconds=2.0)
    window.elapsed = 7.0
    again = Window.from_json(window.to_json())
    for each in (window, again):
        each.add(step((2.0, 1), (2.0, 4), norm=4.0), tokens=20, flops=200.0, seconds=3.0)
    assert again.metrics(WEIGHTS) == window.metrics(WEIGHTS)
    assert vars(again).keys() == vars(window).keys() and again.elapsed == 7.0
