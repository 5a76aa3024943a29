import json
import math
import shutil
from pathlib import Path

import pytest

from bert.errors import UserError
from bert.training import identity

CONFIG = {"training": {"lr": 5e-5, "seed": 0, "minutes": None}, "output": "runs/a", "tracking": {"uri": "none"}}
FACTS = {"corpus": "abc"}
FREE = ("tracking.", "output")


def state_of(output: Path, config: dict = CONFIG, facts: dict = FACTS) -> str:
    return identity.state_of(output, config, facts, FREE)


def training(**changes) -> dict:
    return CONFIG | {"training": CONFIG["training"] | changes}


@pytest.fixture
def claimed(tmp_path) -> Path:
    """A run's folder, begun and with a checkpoint."""
    identity.claim(tmp_path, CONFIG, FACTS)
    (tmp_path / "checkpoints" / "step-00000001").mkdir(parents=True)
    return tmp_path


def test_a_folder_goes_from_new_to_unfinished_to_finished(tmp_path):
    output = tmp_path / "deep" / "run"
    assert state_of(output) == "new"
    identity.claim(output, CONFIG, FACTS)
    assert state_of(output) == "unfinished"
    identity.finish(output, {"valid/masked_lm_loss": 2.5})
    assert state_of(output) == "finished"
    assert (output / "metrics.json").read_text() == '{\n  "valid/masked_lm_loss": 2.5\n}\n'


def test_metrics_that_are_not_finite_are_strings_in_json_and_numbers_again_when_read(tmp_path):
    identity.finish(tmp_path, {"a": math.nan, "b": -math.inf, "best_step": None, "steps": 3})
    text = (tmp_path / "metrics.json").read_text()
    assert json.loads(text) == {"a": "nan", "b": "-inf", "best_step": None, "steps": 3}
    found = identity.metrics_in(text)
    assert math.isnan(found.pop("a")) and found == {"b": -math.inf, "best_step": None, "steps": 3}


def test_every_difference_is_named_and_another_folder_asked_for(claimed):
    with pytest.raises(UserError) as raised:
        state_of(claimed, training(lr=1e-4, seed=1), {"corpus": "xyz"})
    expected = [
        f"output: '{claimed}' was started with {name}={before}, and is now asked for with {now}."
        for name, before, now in (("corpus", "abc", "xyz"), ("training.lr", 5e-5, 0.0001), ("training.seed", 0, 1))
    ]
    said = " Use another folder, or continue anyway: --accept_changes '[corpus,training.lr,training.seed]'."
    assert list(raised.value.messages) == [*expected[:2], expected[2] + said]


def test_a_finished_run_is_changed_no_more_whatever_is_accepted(claimed):
    identity.finish(claimed, {})
    said = r"started with training.lr=5e-05, .* 0.1. Use another folder; a finished run cannot be changed\.$"
    with pytest.raises(UserError, match=said):
        identity.state_of(claimed, training(lr=0.1), FACTS, FREE, ("training.lr",))


def test_a_run_that_goes_on_otherwise_than_it_was_logged_is_changed(claimed, tmp_path):
    assert identity.state_of(claimed, training(lr=0.1), FACTS, FREE, ("training.lr",)) == "changed"
    assert identity.state_of(claimed, CONFIG, FACTS, FREE, ("training.lr",)) == "unfinished"
    identity.claim(tmp_path / "short", training(minutes=5), FACTS)  # and no checkpoint: they are measured again
    assert state_of(tmp_path / "short", training(minutes=5)) == "changed"


def test_minutes_are_fixed(claimed):
    with pytest.raises(UserError, match=r"training.minutes=None, and is now asked for with 5. Use another folder\.$"):
        identity.state_of(claimed, training(minutes=5), FACTS, FREE, ("training.minutes",))


def test_a_change_that_is_accepted_must_be_of_something(claimed):
    with pytest.raises(UserError, match=r"accept_changes: no 'training.lrr' \(did you mean training.lr\?\)\."):
        identity.state_of(claimed, CONFIG, FACTS, FREE, ("training.lrr",))


def test_it_must_be_of_something_in_a_new_folder_too(tmp_path):
    with pytest.raises(UserError, match=r"accept_changes: no 'training.lrr'"):
        identity.state_of(tmp_path / "new", CONFIG, FACTS, FREE, ("training.lrr",))


def test_mlflow_is_told_what_was_accepted():
    tag = identity.accepted_tag({"training": {"lr": 0.1, "seed": 3}}, FACTS, ("training.lr", "corpus"))
    assert tag == {"accept_changes": f"training.lr=0.1, corpus={FACTS['corpus']}"}
    assert identity.accepted_tag(CONFIG, FACTS, ()) == {}
    assert identity.accepted_tag(CONFIG, FACTS, ("packing",)) == {"accept_changes": "packing=None"}  # a fact no more


def test_an_option_newer_than_the_run_stands_for_its_default(claimed):
    defaults = training(layer_decay=1.0)
    for value, expected in ((1.0, "unfinished"), (0.9, None)):
        asked = training(layer_decay=value)
        if expected:
            assert identity.state_of(claimed, asked, FACTS, FREE, (), defaults) == expected
            continue
        with pytest.raises(
            UserError, match=r"was started with training.layer_decay=1.0, and is now asked for with 0.9"
        ):
            identity.state_of(claimed, asked, FACTS, FREE, (), defaults)


def test_options_that_change_no_result_may_differ(claimed):
    assert state_of(claimed, CONFIG | {"output": "elsewhere", "tracking": {"uri": "sqlite:///x.db"}}) == "unfinished"


def test_an_option_whose_name_begins_with_that_of_a_free_one_is_not_free(claimed):
    with pytest.raises(UserError, match=r"started with output_length=None, and is now asked for with 3\."):
        state_of(claimed, CONFIG | {"output_length": 3})


def test_a_run_that_reached_no_checkpoint_gives_way_to_another(tmp_path):
    identity.claim(tmp_path, CONFIG, FACTS)
    assert state_of(tmp_path, training(lr=1.0)) == "new"


def test_a_finished_run_gives_way_to_no_other_even_without_its_checkpoints(tmp_path):
    identity.claim(tmp_path, CONFIG, FACTS)
    identity.finish(tmp_path, {"valid/masked_lm_loss": 2.5})
    with pytest.raises(UserError, match=r"training\.lr"):
        state_of(tmp_path, training(lr=1.0))


def test_an_option_that_did_not_exist_before_counts_as_a_difference(claimed):
    with pytest.raises(UserError, match=r"started with training\.new=None, and is now asked for with 3\."):
        state_of(claimed, training(new=3))


def test_a_model_that_is_no_run_s_is_left_alone(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds a model, but no run of this project\. Use another folder\."):
        state_of(tmp_path)


def test_what_a_run_left_is_not_taken_up_without_its_options(claimed):
    (claimed / "run.yaml").unlink()
    said = r"holds what a run left, but not its run\.yaml, which says which run\. Restore that file, or use another"
    with pytest.raises(UserError, match=said):
        state_of(claimed)
    shutil.rmtree(claimed / "checkpoints")
    assert state_of(claimed) == "new"


@pytest.mark.parametrize("content", ["{", "- a\n- b", "", "text"])
def test_a_folder_whose_owner_cannot_be_read_is_refused_in_a_line(content, claimed):
    (claimed / "run.yaml").write_text(content)
    with pytest.raises(UserError, match=r"^output: '.*' does not say which run it holds"):
        state_of(claimed)


def test_numbers_survive_the_way_through_yaml(tmp_path):
    numbers = {"lr": 1e-5, "eps": 1e-12, "share": 1 / 3, "steps": 10**9, "on": True, "none": None, "text": "1e-5"}
    identity.claim(tmp_path, numbers, {})
    (tmp_path / "checkpoints" / "step-00000001").mkdir(parents=True)
    assert state_of(tmp_path, numbers, {}) == "unfinished"


def test_nested_options_are_named_with_dots():
    assert identity.flatten({"a": {"b": {"c": 1}, "d": None}, "e": 2}) == {"a.b.c": 1, "a.d": None, "e": 2}


def test_a_run_of_another_command_is_called_so_and_not_by_each_of_its_options(claimed):
    other = {"task": {"name": "ner", "head": "crf"}, "training": CONFIG["training"], "output": "runs/a"}
    with pytest.raises(UserError) as raised:
        state_of(claimed, other)
    assert str(raised.value) == f"output: '{claimed}' holds a run of another command. Use another folder."


def test_fingerprints_are_shortened_and_called_so(claimed):
    texts = " ".join(digit * 64 for digit in "ab")
    with pytest.raises(UserError, match=r"asked for with aaaaaaaa\.\.\. bbbbbbbb\.\.\. \(by its content\)\."):
        state_of(claimed, facts={"corpus": texts})
