import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bert.errors import UserError
from bert.training import checkpoint
from bert.training.config import TrainingConfig
from bert.training.optim import build_optimizer
from tests.training.conftest import Toy, batch_of


def trained(steps: int = 2, seed: int = 0) -> tuple[Toy, torch.optim.Optimizer]:
    objective = Toy()
    optimizer = build_optimizer(objective, TrainingConfig(steps=1))
    for step in range(steps):
        objective(batch_of([seed, step + 1]))["token_loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    return objective, optimizer


def save(output: Path, step: int, keep: int = 2) -> Path:
    return checkpoint.save(output, *trained(), {"step": step}, keep)


def steps_in(output: Path) -> list[str]:
    return sorted(folder.name for folder in (output / "checkpoints").iterdir())


def flip_a_byte(file: Path, place: int = 100) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def test_weights_moments_and_state_come_back_to_the_last_bit(tmp_path):
    objective, optimizer = trained()
    folder = checkpoint.save(tmp_path, objective, optimizer, {"step": 2, "best": 0.1 + 0.2}, keep=2)
    other, other_optimizer = trained(steps=3, seed=7)
    assert checkpoint.restore(folder, other, other_optimizer) == {"step": 2, "best": 0.1 + 0.2}
    for mine, theirs in zip(objective.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)
        before, after = optimizer.state[mine], other_optimizer.state[theirs]
        assert before.keys() == after.keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(before[key], after[key]) for key in before)
        assert float(after["step"]) == 2.0


def test_a_checkpoint_is_a_model_s_folder_with_moments_state_and_sums(tmp_path):
    folder = save(tmp_path, 500)
    assert folder == tmp_path / "checkpoints" / "step-00000500"
    files = {"model.safetensors", "optimizer.safetensors", "state.json"}
    assert {file.name for file in folder.iterdir()} == files | {"manifest.json"}
    assert json.loads((folder / "manifest.json").read_text()).keys() == files
    moments = {f"{name}/{key}" for name in ("table", "bias") for key in ("step", "exp_avg", "exp_avg_sq")}
    assert load_file(folder / "optimizer.safetensors").keys() == moments


def test_only_the_newest_stay(tmp_path):
    for step in (5, 10, 15, 100):
        save(tmp_path, step, keep=2)
    assert steps_in(tmp_path) == ["step-00000015", "step-00000100"]


def test_saving_a_step_again_changes_nothing(tmp_path):
    folder = save(tmp_path, 5)
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert save(tmp_path, 5) == folder
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before


def test_a_folder_without_checkpoints_has_no_newest(tmp_path):
    assert checkpoint.newest(tmp_path) is None


def test_the_newest_is_that_of_the_highest_step(tmp_path):
    for step in (9, 10):
        save(tmp_path, step)
    assert checkpoint.newest(tmp_path) == tmp_path / "checkpoints" / "step-00000010"


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_one_flipped_bit_makes_it_fall_back_to_the_older_one_and_say_so(name, tmp_path, capsys):
    older, newer = save(tmp_path, 5), save(tmp_path, 10)
    flip_a_byte(newer / name, place=5)
    assert checkpoint.newest(tmp_path) == older
    assert capsys.readouterr().err == (
        f"{newer}: damaged (not what was written: {name}); looking for an older checkpoint.\n"
    )


@pytest.mark.parametrize("damage", ["file gone", "manifest gone", "manifest torn"])
def test_a_checkpoint_with_a_part_missing_is_damaged(damage, tmp_path, capsys):
    older, newer = save(tmp_path, 5), save(tmp_path, 10)
    if damage == "file gone":
        (newer / "optimizer.safetensors").unlink()
    elif damage == "manifest gone":
        (newer / "manifest.json").unlink()
    else:
        (newer / "manifest.json").write_text('{"model.safetensors": ')
    assert checkpoint.newest(tmp_path) == older
    assert f"{newer}: damaged" in capsys.readouterr().err


def test_with_every_checkpoint_damaged_the_run_does_not_start_anew_in_silence(tmp_path):
    for step in (5, 10):
        flip_a_byte(save(tmp_path, step) / "model.safetensors")
    with pytest.raises(UserError, match=r"^output: every checkpoint in '.*/checkpoints' is damaged; remove them .*\.$"):
        checkpoint.newest(tmp_path)


def test_a_damaged_checkpoint_is_replaced_when_its_step_is_reached_again(tmp_path):
    save(tmp_path, 5)
    newer = save(tmp_path, 10)
    flip_a_byte(newer / "model.safetensors")
    assert checkpoint.newest(tmp_path).name == "step-00000005"
    save(tmp_path, 10)
    assert checkpoint.newest(tmp_path) == newer


def test_a_save_that_fails_leaves_no_folder_behind(tmp_path):
    objective, optimizer = trained()
    objective.export = lambda folder: 1 / 0
    with pytest.raises(ZeroDivisionError):
        checkpoint.save(tmp_path, objective, optimizer, {"step": 5}, keep=2)
    assert steps_in(tmp_path) == []
    assert checkpoint.newest(tmp_path) is None


def test_what_a_crash_left_half_written_is_no_checkpoint(tmp_path):
    save(tmp_path, 5)
    unfinished = tmp_path / "checkpoints" / ".step-00000010.unfinished"
    unfinished.mkdir()
    (unfinished / "model.safetensors").write_bytes(b"torn")
    assert checkpoint.newest(tmp_path).name == "step-00000005"
    save(tmp_path, 20)  # another step: a save that was killed need not be repeated
    assert steps_in(tmp_path) == ["step-00000005", "step-00000020"]


def test_a_run_that_changes_its_course_leaves_a_best_model_of_a_later_step_behind(tmp_path, capsys):
    objective, _ = trained()
    checkpoint.export(objective, tmp_path / "best", {"best": 1.0, "best_step": 10})
    save(tmp_path, 10)
    assert checkpoint.change_course(tmp_path, objective, judged_alike=True) == 10
    assert checkpoint.recover_export(tmp_path / "best") == {"best": 1.0, "best_step": 10}
    assert checkpoint.change_course(tmp_path, objective, judged_alike=False) == 10
    assert checkpoint.recover_export(tmp_path / "best") is None
    assert "removed, since it was judged on other data" in capsys.readouterr().out
    checkpoint.export(objective, tmp_path / "best", {"best": 0.5, "best_step": 15})
    assert checkpoint.change_course(tmp_path, objective, judged_alike=True) == 10
    assert checkpoint.recover_export(tmp_path / "best") is None
    assert "removed, since it is of a later step than 10" in capsys.readouterr().out
    assert checkpoint.change_course(tmp_path / "empty", objective, judged_alike=True) == 0


def test_a_parameter_that_is_frozen_has_no_moments_to_restore(tmp_path):
    objective = Toy()
    objective.bias.requires_grad_(False)
    optimizer = build_optimizer(objective, TrainingConfig(steps=1))
    objective(batch_of([1]))["token_loss"].backward()
    optimizer.step()
    folder = checkpoint.save(tmp_path, objective, optimizer, {"step": 1}, keep=2)
    assert checkpoint.restore(folder, objective, optimizer) == {"step": 1}


def test_an_exported_model_replaces_the_one_before(tmp_path):
    before, after = trained(steps=1)[0], trained(steps=2)[0]
    for objective in (before, after):
        checkpoint.export(objective, tmp_path / "best", {"step": 3})
    assert torch.equal(load_file(tmp_path / "best" / "model.safetensors")["table"], after.table.detach())
    assert [entry.name for entry in tmp_path.iterdir()] == ["best"]


def test_an_export_that_fails_leaves_the_model_before(tmp_path):
    best, objective = tmp_path / "best", trained()[0]
    checkpoint.export(objective, best, {"best": 0.5})
    before = (best / "model.safetensors").read_bytes()
    objective.export = lambda folder: 1 / 0
    with pytest.raises(ZeroDivisionError):
        checkpoint.export(objective, best, {"best": 0.6})
    assert (best / "model.safetensors").read_bytes() == before
    assert checkpoint.recover_export(best) == {"best": 0.5}


def test_a_death_between_two_names_leaves_the_model_before(tmp_path):
    best = tmp_path / "best"
    checkpoint.export(trained()[0], best, {"best": 0.5})
    best.rename(tmp_path / ".best.before")
    assert checkpoint.recover_export(best) == {"best": 0.5}
    assert [entry.name for entry in tmp_path.iterdir()] == ["best"]


def test_where_no_model_was_exported_there_is_none(tmp_path):
    assert checkpoint.recover_export(tmp_path / "best") is None


@pytest.mark.parametrize("keep", [1, 2])
def test_a_later_checkpoint_that_is_damaged_costs_no_good_one(keep, tmp_path):
    save(tmp_path, 500)
    flip_a_byte(save(tmp_path, 600) / "model.safetensors")
    save(tmp_path, 550, keep)
    assert steps_in(tmp_path) == [*["step-00000500"][: keep - 1], "step-00000550", "step-00000600"]
    assert checkpoint.newest(tmp_path).name == "step-00000550"
    save(tmp_path, 600, keep)
    assert steps_in(tmp_path) == [*["step-00000550"][: keep - 1], "step-00000600"]
    assert checkpoint.newest(tmp_path).name == "step-00000600"
