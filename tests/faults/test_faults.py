"""A part of the battery: enough to see a promise broken. `make faults` runs all of it."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.faults.runs import Place, kill


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    return Place(tmp_path_factory.mktemp("faults"), steps=24, save_every=4, eval_every=12)


@pytest.fixture(scope="module")
def end(place) -> str:
    """That of the undisturbed run."""
    code, said = place.run("whole")
    assert code == 0, said
    return place.end("whole")


@pytest.mark.parametrize("fault", ["before_renaming:die:3", "while_pruning:die:1", "while_syncing:die:12"])
def test_killed_inside_a_save_the_same_command_comes_to_the_same_end(fault, place, end):
    name = fault.split(":")[0]
    code, _ = place.run(name, fault)
    assert code == -signal.SIGKILL
    code, said = place.run(name)
    assert code == 0 and "resuming from" in said, said
    assert place.end(name) == end


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("moments", "forget_moments+after_renaming:die:3", "none:die:1"),
        ("position", "after_renaming:die:3", "forget_the_position:die:1"),
    ],
)
def test_a_trainer_that_forgets_a_part_of_its_state_comes_to_another_end(name, first, second, place, end):
    code, _ = place.run(name, first)
    assert code == -signal.SIGKILL
    code, said = place.run(name, second)
    assert code == 0 and "resuming from" in said, said
    assert place.end(name) != end


def test_two_runs_in_one_folder_the_second_is_told_of_the_first(place):
    first = place.start("shared", steps=3000)
    place.wait_for_training("shared", first)
    code, said = place.run("shared", steps=3000)
    kill(first, signal.SIGTERM)
    first.communicate(timeout=60)
    assert code == 2 and f"is in use by process {first.pid} on" in said, said
    assert first.returncode == 75


@pytest.mark.parametrize("setting", ["stop", "go_on"])
def test_a_full_disk_leaves_the_last_checkpoint_and_nothing_half_written(setting, place, end):
    name = f"full_{setting}"
    code, said = place.run(name, "before_the_manifest:full:3", save_error=setting)
    checkpoints = sorted(os.listdir(place.folder / name / "checkpoints"))
    assert f"output: cannot write to '{place.folder / name}': [Errno 28] No space left on device" in said
    assert not [file for file in checkpoints if "unfinished" in file]
    assert code == (2 if setting == "stop" else 0)
    assert "step-00000008" in checkpoints if setting == "stop" else "step-00000024" in checkpoints
    if setting == "stop":
        assert place.run(name, save_error="stop")[0] == 0
        assert place.end(name) == end


def test_loader_workers_end_with_a_run_that_is_killed(place):
    process = place.start("orphans", steps=3000, save_every=3000, workers=2)
    place.wait_for_training("orphans", process)
    workers = children(process)
    assert len(workers) >= 2
    kill(process)
    process.communicate(timeout=15)  # ends when nobody holds its output any more
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(Path(f"/proc/{worker}").exists() for worker in workers):
        time.sleep(0.1)
    assert [worker for worker in workers if Path(f"/proc/{worker}").exists()] == []


def test_a_run_that_breaks_ends_with_its_loader_workers(place):
    process = place.start("broken", "before_saving_moments:break:1", workers=2)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 1 and said.rstrip().endswith("ZeroDivisionError"), said


@pytest.mark.parametrize(("number", "when"), [("SIGINT", "later"), ("SIGTERM", "later"), ("SIGTERM", "at once")])
def test_a_signal_to_the_loader_workers_too_is_the_run_s_to_answer(number, when, place):
    name = f"all_{number}_{when}"
    process = place.start(name, steps=3000, save_every=3000, workers=2)
    if when == "later":
        place.wait_for_training(name, process)
    else:  # while they are starting
        while process.poll() is None and not (
            (place.folder / name / "run.yaml").exists() and len(children(process)) > 1
        ):
            time.sleep(0.01)
    for child in (*children(process), process.pid):
        os.kill(child, signal.Signals[number])
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 75 and "the same command continues from there" in said, said


def children(process: subprocess.Popen) -> list[int]:
    """The loader workers of a run, and whatever else it started."""
    return [int(n) for n in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
