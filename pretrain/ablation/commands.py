"""The commands that make a cell's runs, and whether finished ones were given the same options.

A cell is pretrained, then fine-tuned on each task with each seed: from the finished model and, where a task asks for
it, from every checkpoint. Each command reads its options from a YAML file in the cell's folder.
"""

import itertools
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bert.cli import put
from bert.counting import count_of
from bert.training import checkpoint
from bert.training.identity import flatten, is_free
from bert.training.ledger import LEDGER
from pretrain.ablation.cell_runs import PRETRAINING, CellRun, cell_folder, record_of, runs_of
from pretrain.ablation.grid import AblateConfig, Cell, pretrain_options
from pretrain.options import FREE, PATHS

ROOT = Path(__file__).parents[2]
"""Where run.py and run_finetune.py are."""


@dataclass(frozen=True)
class Step:
    """One command of a cell.

    Attributes:
        run: the run that it makes.
        program: run.py or run_finetune.py, and its verb.
        options: for --config.
    """

    run: CellRun
    program: tuple[str, str]
    options: dict[str, Any]


def steps(config: AblateConfig, cell: Cell, parent: str | None) -> Iterator[Step]:
    """A cell's commands; those that depend on pretraining are yielded once it is finished."""
    folder = cell_folder(config, cell)
    pretrained = PRETRAINING.output(folder)
    tags = {name: str(value) for name, value in cell.values.items()} | {"seed": str(cell.seed)}
    options = pretrain_options(config, cell, pretrained)
    yield Step(PRETRAINING, ("run.py", "pretrain"), _tracked(config, options, cell.name, tags, parent))
    child = record_of(pretrained, LEDGER)["run_id"]
    starts = {None: pretrained} | {checkpoint.step_of(saved.name): saved for saved in checkpoint.folders(pretrained)}
    for name, task in config.finetune.items():
        for seed, step in itertools.product(task.seeds, starts if task.checkpoints else [None]):
            run = CellRun(name, seed, step)
            options = deepcopy(task.options)
            output = str(run.output(folder))
            for option, value in (("training.seed", seed), ("init", str(starts[step])), ("output", output)):
                put(options, option, value)
            run_name, of_task = f"{cell.name} {run.name}", tags | {"finetune": name, "finetune_seed": str(seed)}
            yield Step(run, ("run_finetune.py", "train"), _tracked(config, options, run_name, of_task, child))


def _tracked(
    config: AblateConfig, options: dict[str, Any], run_name: str, tags: dict[str, str], parent: str | None
) -> dict[str, Any]:
    """The options with those for tracking in MLflow, under the grid's run or a cell's."""
    tags = config.tracking.tags | tags | ({"mlflow.parentRunId": parent} if parent else {})
    place = {"uri": config.tracking.uri, "experiment": config.tracking.experiment, "run_name": run_name, "tags": tags}
    return options | {"tracking": place}


def command(step: Step, file: Path) -> list[str]:
    """A step as a command line."""
    program, verb = step.program
    return [sys.executable, str(ROOT / program), verb, "--config", str(file)]


def checked(file: Path) -> subprocess.CompletedProcess[str]:
    """Fine-tuning's check of the options in a YAML file, and of the files and the model they name."""
    asked = [sys.executable, str(ROOT / "run_finetune.py"), "check", "--config", str(file)]
    return subprocess.run(asked, capture_output=True, text=True, check=False)


def done(config: AblateConfig, cell: Cell) -> bool:
    """Whether all commands of a cell are finished, including those on its checkpoints."""
    folder = cell_folder(config, cell)
    return PRETRAINING.is_finished(folder) and all(step.run.is_finished(folder) for step in steps(config, cell, None))


def differences(config: AblateConfig, cells: list[Cell]) -> list[str]:
    """Options of these cells' finished commands that differ from what they would be now: a report must not mix them."""
    found: dict[str, list[str]] = {}
    for cell in cells:
        folder = cell_folder(config, cell)
        if not PRETRAINING.is_finished(folder):
            if of_another := [run.name for run in runs_of(config) if run.is_finished(folder)]:
                said = f"{', '.join(of_another)} of a model that is gone"
                found.setdefault(said, []).append(str(folder))
            continue
        for step in steps(config, cell, None):
            file, of_pretraining = step.run.options(folder), step.run == PRETRAINING
            if not step.run.is_finished(folder) or not file.is_file():
                continue
            given = yaml.safe_load(file.read_text(encoding="utf-8"))
            before, now = (_telling(options, step.run) for options in (given, step.options))
            for name in sorted(before.keys() | now.keys()):
                if before.get(name) != now.get(name):
                    said = f"{step.program[0]}: {name}={before.get(name)}, and is now asked for with {now.get(name)}"
                    # Without its pretraining all of a cell is void.
                    found.setdefault(said, []).append(str(folder if of_pretraining else step.run.output(folder)))
    return [
        f"output: {count_of(len(folders), 'folder')} of this grid ('{folders[0]}' for one) had {said}. Use another "
        f"folder for the grid, or remove what was run so."
        for said, folders in found.items()
    ]


def _telling(options: dict[str, Any], run: CellRun) -> dict[str, Any]:
    """A command's options, without those that do not affect results, and without a task's starting model."""
    free = [name for name in FREE if name not in PATHS]
    free += [] if run == PRETRAINING else ["init"]
    return {name: value for name, value in flatten(options).items() if not is_free(name, free)}
