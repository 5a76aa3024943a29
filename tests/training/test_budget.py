import json
from dataclasses import asdict

import pytest

from bert.training.budget import Budget, Progress
from bert.training.config import TrainingConfig
from bert.training.position import Position


def progress(unit: str, amount: float, **changes) -> Progress:
    start = {"step": 0, "tokens": 0, "sequences": 0, "epochs": 0.0, "position": Position()}
    return Progress(**start | changes, budget=Budget(unit, amount))


@pytest.mark.parametrize("unit", ["steps", "epochs", "tokens", "minutes"])
def test_the_budget_is_the_one_that_was_given(unit):
    assert Budget.of(TrainingConfig(**{unit: 3})) == Budget(unit, 3)


def test_the_share_is_counted_in_the_budget_s_own_unit():
    done = {"step": 10, "tokens": 4000, "epochs": 0.5}
    assert progress("steps", 40, **done).share == 0.25
    assert progress("tokens", 5000, **done).share == 0.8
    assert progress("epochs", 2.0, **done).share == 0.25


def test_the_share_is_never_above_one():
    assert progress("tokens", 1000, tokens=1300).share == 1.0


def test_a_step_adds_its_tokens_and_sequences_and_moves_on():
    before = progress("tokens", 1000, step=3, tokens=100, sequences=10, epochs=0.1)
    after = before.after_step(tokens=50, sequences=4, position=Position(0, 2, 1, 8), epochs=0.2)
    assert after == progress(
        "tokens", 1000, step=4, tokens=150, sequences=14, epochs=0.2, position=Position(0, 2, 1, 8)
    )
    assert before.step == 3


def test_progress_comes_back_from_json_to_the_last_bit():
    before = progress("epochs", 0.1 + 0.2, step=7, epochs=1 / 3, position=Position(1, 2, 3, 4), best=0.7, best_step=5)
    assert Progress.from_json(json.loads(json.dumps(asdict(before)))) == before
