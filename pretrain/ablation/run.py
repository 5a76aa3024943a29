"""Running a grid's cells: each is a few commands in a folder of its own, run once however many processes ask for it.

A cell's folder is locked while its commands run, and the commands hold the lock themselves: so several processes can
share a grid, and a cell whose starter was killed stays taken until its last command ends. What is finished is skipped;
what was stopped resumes from its checkpoint, as every command does.
"""

import fcntl
import itertools
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from bert import whole_file
from bert.cli import put
from bert.errors import REFUSED
from bert.training import checkpoint
from bert.training.identity import flatten, is_free
from bert.training.ledger import LEDGER
from bert.training.lock import take
from bert.training.stopping import EXIT_CODE
from pretrain.ablation.cell_runs import PRETRAINING, CellRun, cell_folder, metrics_of, record_of
from pretrain.ablation.grid import AblateConfig, Cell, models_are_alike, pretrain_options
from pretrain.options import FREE, PATHS
from pretrain.validation import LEARNED, below_unigram

ROOT = Path(__file__).parents[2]
"""Where run.py and run_finetune.py are."""

_POLL = 1.0  # seconds

_FAILED = "failed.txt"
"""In a cell's folder: why its last attempt failed. Its combination's other seeds would be a biased selection."""


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
        environments = [environment(config.jobs, job) for job in range(config.jobs)]
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
            said = f"{len(self.settled)} of {self.total} cells: {cell.name}"
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


def environment(jobs: int, job: int) -> dict[str, str]:
    """The environment variables of one job's commands: its share of the processors, and its own GPU of several."""
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    there = torch.cuda.device_count()  # CUDA ignores all GPUs named from the first missing one on
    gpus = named[:there] or named or [str(number) for number in range(there)]
    own = {"CUDA_VISIBLE_DEVICES": gpus[job % len(gpus)]} if jobs > 1 and gpus else {}
    threads = str(max(1, _processors() // jobs))  # training.threads, if given, overrides this
    return {"OMP_NUM_THREADS": threads} | os.environ | own


def _processors() -> int:
    """The processors that this process may use: under taskset or Slurm, not all there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _work(config: AblateConfig, cells: list[Cell], parent, progress: _Progress, stop_asked, environment) -> None:
    """Run cell after cell until all are settled; one that another process holds is tried again."""

    def ended() -> bool:
        return stop_asked() or progress.ended

    while not ended() and (open_ := [cell for cell in cells if cell not in progress.settled]):
        for cell in open_:
            if ended():
                return
            with _taken(cell_folder(config, cell)) as lock:
                if lock is not None and cell not in progress.settled:
                    began, before = time.monotonic(), done(config, cell)
                    failure = _last_failure(config, cell)
                    tried = failure not in (None, progress.failed_before[cell])  # in vain, by another process
                    fault = None if before or tried else _run_cell(config, cell, parent, lock, stop_asked, environment)
                    if not stop_asked():
                        progress.note(cell, fault, None if before or tried else time.monotonic() - began)
        time.sleep(_POLL / 10 if progress.jobs == 1 else _POLL)


@contextmanager
def _taken(folder: Path) -> Iterator[int | None]:
    """The descriptor of the folder's lock, held; None where another process or thread has it."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        yield descriptor if take(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB) else None
    finally:
        os.close(descriptor)


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


def differences(config: AblateConfig, cells: list[Cell]) -> list[str]:
    """Options of these cells' finished commands that differ from what they would be now: a report must not mix them."""
    found: dict[str, list[str]] = {}
    for cell in cells:
        folder = cell_folder(config, cell)
        if not PRETRAINING.is_finished(folder):
            continue
        for step in steps(config, cell, None):
            file = step.run.options(folder)
            if not step.run.is_finished(folder) or not file.is_file():
                continue
            given = yaml.safe_load(file.read_text(encoding="utf-8"))
            before, now = (_telling(options, step.run) for options in (given, step.options))
            for name in sorted(before.keys() | now.keys()):
                if before.get(name) != now.get(name):
                    said = f"{step.program[0]}: {name}={before.get(name)}, and is now asked for with {now.get(name)}"
                    found.setdefault(said, []).append(str(step.run.output(folder)))
    return [
        f"output: {len(runs)} finished runs of this grid ('{runs[0]}' for one) had {said}. Use another folder, or "
        f"remove those runs."
        for said, runs in found.items()
    ]


def _telling(options: dict[str, Any], run: CellRun) -> dict[str, Any]:
    """A command's options, without those that do not affect results, and without a task's starting model."""
    free = [name for name in FREE if name not in PATHS]
    free += [] if run == PRETRAINING else ["init"]
    return {name: value for name, value in flatten(options).items() if not is_free(name, free)}


def done(config: AblateConfig, cell: Cell) -> bool:
    """Whether all commands of a cell are finished, including those on its checkpoints."""
    folder = cell_folder(config, cell)
    return PRETRAINING.is_finished(folder) and all(step.run.is_finished(folder) for step in steps(config, cell, None))


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
        code = _command(command(step, file), log, lock, stop_asked, environment)
        if stop_asked():
            return None
        if code == EXIT_CODE:
            return _Fault(f"{step.run.name}: someone else asked it to stop; the same command continues from there")
        if code != 0:
            last = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
            said = f"{step.run.name}: exit code {code}: {last[-1] if last else 'no output'} (all of it in {log})"
            return _Fault(said, of_all=code == REFUSED and step.run != PRETRAINING and _refused_by_all(config, file))
    return None


def _refused_by_all(config: AblateConfig, file: Path) -> bool:
    """Whether a refused fine-tuning run would be refused with every model: for its options, where models are alike."""
    return models_are_alike(config) and checked(file).returncode == REFUSED


def checked(file: Path) -> subprocess.CompletedProcess[str]:
    """Fine-tuning's check of the options in a YAML file, and of the files and the model they name."""
    asked = [sys.executable, str(ROOT / "run_finetune.py"), "check", "--config", str(file)]
    return subprocess.run(asked, capture_output=True, text=True, check=False)


def command(step: Step, file: Path) -> list[str]:
    """A step as a command line."""
    program, verb = step.program
    return [sys.executable, str(ROOT / program), verb, "--config", str(file)]


def _command(
    arguments: list[str], log: Path, lock: int, stop_asked: Callable[[], bool], environment: dict[str, str]
) -> int:
    """Run a command, its output going to a file; it inherits the lock, and is asked to stop when this process is."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            arguments,
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            pass_fds=(lock,),
            start_new_session=True,
        )
        asked = False
        while process.poll() is None:
            if stop_asked() and not asked:
                process.send_signal(signal.SIGTERM)
                asked = True
            time.sleep(0.1)
    return process.returncode
