"""Running a grid's cells: each is a few commands in a folder of its own, run once however many processes ask for it.

A cell's folder is locked while its commands run, and the commands hold the lock themselves: so several processes can
share a grid, and a cell whose starter was killed stays taken until its last command ends. What is finished is skipped;
what was stopped resumes from its checkpoint, as every command does.
"""

import math
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import yaml

from bert import whole_file
from bert.counting import count_of
from bert.errors import REFUSED
from bert.training.lock import taken
from bert.training.stopping import EXIT_CODE
from pretrain.ablation import child
from pretrain.ablation.cell_runs import PRETRAINING, cell_folder, metrics_of
from pretrain.ablation.commands import checked, command, done, steps
from pretrain.ablation.grid import AblateConfig, Cell, models_are_alike
from pretrain.ablation.grid_run import note_scores
from pretrain.validation import LEARNED, below_unigram

_POLL = 1.0  # seconds

_FAILED = "failed.txt"
"""In a cell's folder: why its last attempt failed. Its combination's other seeds would be a biased selection."""


def failures(config: AblateConfig, cells: list[Cell]) -> dict[Cell, str]:
    """Which of these cells failed at the last attempt, by any process, and why.

    A cell that is complete by now is not counted: what failed is no longer asked for, or was run by hand.
    """
    files = {cell: cell_folder(config, cell) / _FAILED for cell in cells}
    failed = {cell: file.read_text(encoding="utf-8") for cell, file in files.items() if file.is_file()}
    return {cell: fault for cell, fault in failed.items() if not done(config, cell)}


def run_cells(
    config: AblateConfig, cells: list[Cell], parent: str | None, stop_asked: Callable[[], bool]
) -> dict[Cell, str]:
    """Run unfinished cells, `config.jobs` at a time; wait for those that others run.

    Args:
        config: the grid.
        cells: in the order in which they are wanted.
        parent: MLflow's id of the grid's run.
        stop_asked: whether to have the commands save a checkpoint and stop.

    Returns:
        The cells that failed, and why.
    """
    progress = _Progress(config, cells)
    with ThreadPoolExecutor(config.jobs) as pool:
        environments = [child.environment(config.jobs, job) for job in range(config.jobs)]
        workers = [pool.submit(_work, config, cells, parent, progress, stop_asked, its) for its in environments]
        # A signal may arrive at another thread, but only this one acts on it, and only when it wakes up.
        while wait(workers, timeout=_POLL).not_done:
            pass
    for worker in workers:
        worker.result()
    return progress.failed


@dataclass(frozen=True)
class _Fault:
    """Why a cell failed.

    Attributes:
        said: which command, and its last line of output.
        of_all: whether fine-tuning refuses its options or files with this model, and so with every other one.
    """

    said: str
    of_all: bool = False


class _Progress:
    """The outcome of each cell, printed as it happens."""

    def __init__(self, config: AblateConfig, cells: list[Cell]) -> None:
        self.lock = threading.Lock()
        self.failed: dict[Cell, str] = {}
        self.failed_before = {cell: _last_failure(config, cell) for cell in cells}
        self.settled: set[Cell] = set()
        self.ended = False
        self.config, self.total, self.jobs, self.seconds = config, len(cells), config.jobs, []

    def note(self, cell: Cell, fault: _Fault | None, seconds: float | None) -> None:
        """Record a finished or failed cell; a fault that all others would share ends the grid."""
        with self.lock:
            self.settled.add(cell)
            if seconds is None:
                return
            said = f"{len(self.settled)} of {count_of(self.total, 'cell')}: {cell.name}"
            if fault is not None:
                self.failed[cell] = fault.said
                print(f"{said}: failed: {fault.said}", file=sys.stderr, flush=True)
                if fault.of_all:
                    self.ended = True
                    print("no further cell is started: its model would be refused too", file=sys.stderr, flush=True)
                return
            self.seconds.append(seconds)
            left = math.ceil((self.total - len(self.settled)) / self.jobs) * sum(self.seconds) / len(self.seconds)
            print(f"{said} in {seconds:.0f} s; about {left / 60:.0f} min to go{self._unlearned(cell)}", flush=True)

    def _unlearned(self, cell: Cell) -> str:
        """A warning where the model has learned too little to be compared."""
        below = below_unigram(metrics_of(PRETRAINING.output(cell_folder(self.config, cell))))
        if below >= LEARNED:
            return ""
        return (
            f"\nWARNING: {cell.name} is {abs(below):.2f} nats {'below' if below >= 0 else 'above'} the unigram "
            f"cross-entropy; with less than {LEARNED} below a model has not learned, and is not compared: more tokens, "
            f"in another folder, may help"
        )


def _last_failure(config: AblateConfig, cell: Cell) -> tuple[int, int] | None:
    """What tells a cell's failure from a later one; None if it has not failed."""
    file = cell_folder(config, cell) / _FAILED
    return (file.stat().st_mtime_ns, file.stat().st_ino) if file.is_file() else None


def _work(config: AblateConfig, cells: list[Cell], parent, progress: _Progress, stop_asked, environment) -> None:
    """Run cell after cell until all are settled; one that another process holds is tried again."""

    def ended() -> bool:
        return stop_asked() or progress.ended

    while not ended() and (open_ := [cell for cell in cells if cell not in progress.settled]):
        for cell in open_:
            if ended():
                return
            folder = cell_folder(config, cell)
            folder.mkdir(parents=True, exist_ok=True)
            with taken(folder / ".lock") as lock:
                if lock is not None and cell not in progress.settled:
                    began, before = time.monotonic(), done(config, cell)
                    failure = _last_failure(config, cell)
                    tried = failure not in (None, progress.failed_before[cell])  # in vain, by another process
                    fault = None if before or tried else _run_cell(config, cell, parent, lock, stop_asked, environment)
                    if not stop_asked():
                        progress.note(cell, fault, None if before or tried else time.monotonic() - began)
        time.sleep(_POLL / 10 if progress.jobs == 1 else _POLL)


def _run_cell(
    config: AblateConfig, cell: Cell, parent: str | None, lock: int, stop_asked, environment: dict[str, str]
) -> _Fault | None:
    """Run a cell's unfinished commands; returns why it failed, or None. An earlier failure stands until they end."""
    fault = _run_steps(config, cell, parent, lock, stop_asked, environment)
    failed = cell_folder(config, cell) / _FAILED
    if fault is not None:
        whole_file.write(failed, fault.said)
    elif not stop_asked():
        failed.unlink(missing_ok=True)
    return fault


def _run_steps(
    config: AblateConfig, cell: Cell, parent: str | None, lock: int, stop_asked, environment: dict[str, str]
) -> _Fault | None:
    folder = cell_folder(config, cell)
    # In one write, since cells may run in parallel.
    print(f"{cell.name}: started; its commands' output is in {folder}/*.log\n", end="", flush=True)
    for step in steps(config, cell, parent):
        if step.run.is_finished(folder):
            continue
        file, log = step.run.options(folder), step.run.log(folder)
        file.write_text(yaml.safe_dump(step.options, sort_keys=False, allow_unicode=True), encoding="utf-8")
        code = child.run(command(step, file), log, lock, stop_asked, environment)
        if stop_asked():
            return None
        if code == EXIT_CODE:
            return _Fault(f"{step.run.name}: someone else asked it to stop; the same command continues from there")
        if code != 0:
            last = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
            said = f"{step.run.name}: exit code {code}: {last[-1] if last else 'no output'} (all of it in {log})"
            return _Fault(said, of_all=code == REFUSED and step.run != PRETRAINING and _refused_by_all(config, file))
    note_scores(config, cell)
    return None


def _refused_by_all(config: AblateConfig, file: Path) -> bool:
    """Whether a refused fine-tuning run would be refused with every model: for its options, where models are alike."""
    return models_are_alike(config) and checked(file).returncode == REFUSED
