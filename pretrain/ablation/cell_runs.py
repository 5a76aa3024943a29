"""A cell's runs, and the folder that they are in.

OUTPUT/cells/VARIANT/seed-N/
    pretrain/                       the output of its pretraining
    TASK-SEED/                      that of a fine-tuning run on the finished model
    TASK-SEED-step-00000500/        and of one on a checkpoint of pretraining
    RUN.yaml, RUN.log               the options of each run's command, and what it printed
    failed.txt, .lock               why the last attempt failed; held while commands run
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert.errors import UserError
from bert.training import checkpoint
from bert.training.identity import RESULT, is_finished, metrics_in
from pretrain.ablation.grid import AblateConfig, Cell


@dataclass(frozen=True)
class CellRun:
    """One of a cell's runs: of pretraining, or on a fine-tuning task.

    Attributes:
        task: the task's name; None for pretraining.
        seed: of fine-tuning; None for pretraining, which has the cell's.
        step: of the checkpoint that fine-tuning starts from; None where it starts from the finished model.
    """

    task: str | None = None
    seed: int | None = None
    step: int | None = None

    @property
    def name(self) -> str:
        """Its folder's, and that of the files beside it."""
        if self.task is None:
            return "pretrain"
        return f"{self.task}-{self.seed}" + ("" if self.step is None else f"-{checkpoint.name_of(self.step)}")

    def output(self, folder: Path) -> Path:
        """Its output folder in a cell's folder."""
        return folder / self.name

    def options(self, folder: Path) -> Path:
        """The YAML file of its command's options in a cell's folder."""
        return folder / f"{self.name}.yaml"

    def log(self, folder: Path) -> Path:
        """What its command printed, in a cell's folder."""
        return folder / f"{self.name}.log"

    def is_finished(self, folder: Path) -> bool:
        """Whether it is, in a cell's folder."""
        return is_finished(self.output(folder))


PRETRAINING = CellRun()


def cell_folder(config: AblateConfig, cell: Cell) -> Path:
    """The folder with a cell's runs."""
    return Path(config.output) / "cells" / cell.name


def any_is_pretrained(output: Path) -> bool:
    """Whether a cell in a grid's folder is, be it of the grid as it is now or as it was."""
    return any(map(PRETRAINING.is_finished, output.glob("cells/*/*")))


def runs_of(config: AblateConfig) -> list[CellRun]:
    """The runs that give a cell's result: pretraining, and each task with each of its seeds on the finished model."""
    return [PRETRAINING, *(CellRun(name, seed) for name, task in config.finetune.items() for seed in task.seeds)]


def checkpoint_runs(folder: Path, run: CellRun) -> Iterator[CellRun]:
    """The finished runs on checkpoints that a cell's folder holds, of a run's task and seed, in the order of steps.

    The checkpoints themselves may have been removed since.
    """
    for output in sorted(folder.glob(f"{run.name}-{checkpoint.NAMES}")):
        if is_finished(output):
            yield CellRun(run.task, run.seed, checkpoint.step_of(output.name.removeprefix(f"{run.name}-")))


def text_of(output: Path, name: str) -> str:
    """A file that a finished run left in its output folder.

    Raises:
        UserError: it has been removed.
    """
    file = output / name
    if not file.is_file():
        lost = f"output: '{file}' is missing, which the run wrote before it was finished"
        raise UserError(f"{lost}. Put it back, or remove '{output.parent}', so that this cell is run again.")
    return file.read_text(encoding="utf-8")


def record_of(output: Path, name: str) -> dict[str, Any]:
    """A JSON file that a finished run left in its output folder; raises as `text_of` does."""
    return json.loads(text_of(output, name))


def metrics_of(output: Path) -> dict[str, float]:
    """The metrics of a finished run."""
    return metrics_in(text_of(output, RESULT))
