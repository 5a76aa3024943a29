"""Tracking: every metric is a line on the local disk first, and MLflow is fed from those lines.

`metrics.jsonl` holds what was measured, `tracking.json` what MLflow is to get and how much has been sent. So no crash,
dead server or later `sync` loses a point or logs it twice. MLflow is imported only where it is used: in the feeder's
thread and in `sync`.
"""

import fcntl
import itertools
import math
import os
import re
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any, Literal

from bert.counting import count_of
from bert.errors import UserError, refuse_if
from bert.training import distributed
from bert.training.ledger import LEDGER, Ledger, new_ledger, unsent, warn
from bert.training.lock import take
from bert.training.metrics_file import METRICS, Appended, line_of, note_step, read_back
from bert.training.mlflow_feed import FIRST_CONTACT, STORE_MODULES, Sender, reason, resolve
from bert.training.provenance import UsedDataset
from bert.training.stopping import Stopped

INTERVAL, LONGEST_DELAY, PATIENCE = 2.0, 60.0, 10.0  # seconds: between passes, after failures, at the end


@dataclass(frozen=True)
class TrackingConfig:
    """Where a run's metrics go besides its own folder."""

    uri: str = "sqlite:///mlflow.db"
    """MLflow store: sqlite:///file.db (relative to the working directory), http(s)://host:port, or none for
    no MLflow. A server's credentials belong in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."""

    experiment: str = "bert"
    """MLflow experiment to put the run in; created if missing."""

    run_name: str | None = None
    """The run's name in MLflow; by default the name of the output folder."""

    tags: dict[str, str] = field(default_factory=dict)
    """Tags of your own on the run in MLflow."""


def unfit_names(names: Iterable[str]) -> list[str]:
    """Names that MLflow refuses for tags: those with anything but letters, digits, spaces and any of / : . _ -"""
    return [name for name in names if not re.fullmatch(r"[\w.\- /:]+", name)]


DESCRIPTION = "mlflow.note.content"
"""The tag with what MLflow shows as a run's description, in Markdown."""


class Tracker:
    """One run's metrics, artifacts and end. MLflow's failures never raise; only `awaited_run_id` and `finish` wait."""

    def __init__(
        self,
        folder: Path,
        config: TrackingConfig,
        *,
        params: dict[str, Any],
        tags: dict[str, str],
        resume: bool,
        last: float = math.inf,
    ) -> None:
        """Open the run's metrics, and start feeding MLflow unless `config.uri` is none.

        Args:
            folder: the run's output folder, created if missing.
            config: with `resume`, only its uri counts: experiment and name stay those of the first start.
            params: nested ones are flattened with dots; with `resume`, those of the first start stay.
            tags: added to those of an earlier start.
            resume: continue the folder's run; otherwise its old files, if any, are set aside as `*.old`.
            last: with `resume`, the step to continue from, where what follows is not what was logged before. Those
                lines are set aside; MLflow, which cannot forget, keeps the points and gets the new ones besides.

        Raises:
            UserError: an address MLflow has no store for, a damaged file, or a `sync` at work on this folder.
        """
        uri = resolve(config.uri)
        folder.mkdir(parents=True, exist_ok=True)
        if not resume:
            _set_aside(folder)
        self._folder, path = folder, folder / METRICS
        size, self._seen = read_back(path, last)
        if size < path.stat().st_size and last < math.inf:
            shutil.copy2(path, _free_name(path))
        self._ledger = Ledger.load(folder) or new_ledger(folder, uri, config.experiment, config.run_name, params)
        self._say_what_stays(config)
        self._file = Appended(path)
        if not take(self._file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB):
            self._file.close()
            raise UserError(f"output: a sync is sending '{folder}'; start again when it is done.")
        self._file.truncate(size)  # without a last line torn by a crash
        self._ledger.start(uri, tags, size)
        self._ended, self._abandoned, self._failed = threading.Event(), threading.Event(), threading.Event()
        self._last_progress, self._allowance, self._stuck = 0.0, 0.0, False
        self._feeder = threading.Thread(target=self._feed, name="mlflow-feeder", daemon=True)
        self._feeds = uri != "none"
        if self._feeds:
            self._feeder.start()

    def _say_what_stays(self, config: TrackingConfig) -> None:
        """Say where the folder's run keeps a place in MLflow other than the one asked for."""
        for name, asked in (("experiment", config.experiment), ("run_name", config.run_name)):
            if asked not in (None, self._ledger[name]):
                warn(f"{name}: the run stays {self._ledger[name]!r}, as it began; {asked!r} is not used")

    @property
    def run_id(self) -> str | None:
        """The id MLflow gave the run; None until it is known."""
        return self._ledger["run_id"]

    def awaited_run_id(self) -> str | None:
        """The id, after waiting for it, so that other runs can be this one's children; None where the store fails or
        there is none."""
        began = time.monotonic()
        while self.run_id is None and self._feeds and time.monotonic() - began < FIRST_CONTACT:
            if self._failed.wait(0.05):
                break
        return self.run_id

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Write one line; what is already written for this step (a replay after a crash) is left out.

        Values that are not finite are written as `finite_or_words` says.
        """
        values = {key: float(value) for key, value in metrics.items() if note_step(self._seen, key, step)}
        if values:
            self._file.write(line_of(step, values))

    def flush(self) -> None:
        """Wait until the disk has all lines."""
        self._file.flush()

    def artifact(self, path: Path, folder: str = "") -> None:
        """Queue a file or directory, to be read when it is sent; MLflow gets it as `folder/<its name>`."""
        path, home = path.absolute(), self._folder.absolute()
        inside = path.is_relative_to(home)  # then the output folder may be moved before a sync
        self._ledger.add_artifact(str(path.relative_to(home) if inside else path), folder)

    def tag(self, name: str, value: str) -> None:
        """Give the run in MLflow a tag, or another value of it."""
        self._ledger.tag(name, value)

    def datasets(self, datasets: list[UsedDataset]) -> None:
        """Record what the run reads."""
        self._ledger.describe_datasets([asdict(dataset) for dataset in datasets])

    def model(self, step: int) -> None:
        """Queue the model in the output folder, as of that step, with its served.json, for MLflow to serve."""
        self._ledger.update(model=step)

    def finish(self, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """Record the end, then wait for MLflow until it has everything, or 10 s have passed without progress.

        What is left unsent is named in a warning on stderr. A second call does nothing.
        """
        if self._file.closed:
            return
        self._ledger.update(status=status, ended=time.time())
        if self._feeds:
            self._last_progress = time.monotonic()
            self._ended.set()
            while self._feeder.is_alive() and self._may_wait():
                self._feeder.join(0.1)
            self._abandoned.set()
            if left := unsent(self._folder, self._ledger):
                later = f"python run.py sync --output {quote(str(self._folder))}"
                warn(f"not sent to {self._ledger['uri']}: {left}. Later: {later}")
        self._ledger.close()
        self._file.close()

    def _progress(self, allowance: float = 0.0) -> None:
        """Something arrived or, with an allowance, is about to be sent and may take that many seconds more."""
        if self._stuck:
            return
        self._allowance = allowance
        if not allowance:
            self._last_progress = time.monotonic()

    def _may_wait(self) -> bool:
        return time.monotonic() < self._last_progress + PATIENCE + self._allowance

    def _feed(self) -> None:
        """The feeder's thread: a pass every few seconds, fewer while MLflow fails, until the end is sent."""
        sender = Sender(self._folder, self._ledger, self._progress)
        delay, warned, left = INTERVAL, False, None
        while not self._abandoned.is_set():
            ended = self._ended.is_set()  # asked first: this pass then sends all that was logged before
            try:
                sender.send()
                delay = INTERVAL
                if ended:
                    return
            except Exception as error:  # whatever it is, it costs a run no more than a warning
                self._allowance = 0.0
                self._failed.set()
                # A store that takes a call and then fails as it did before is not getting anywhere.
                self._stuck = ended and left == unsent(self._folder, self._ledger)
                left = unsent(self._folder, self._ledger)
                delay = min(2 * delay, LONGEST_DELAY)
                if not warned and not self._abandoned.is_set():
                    warn(f"{self._ledger['uri']} fails; everything is kept in {self._folder}: {reason(error)}")
                    warned = True
            if ended:
                self._abandoned.wait(1.0)
            else:
                self._ended.wait(delay)


class _Silent:
    """The tracker of ranks other than 0, which track nothing."""

    run_id = None

    def awaited_run_id(self) -> None:
        """None."""

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Nothing."""

    def tag(self, name: str, value: str) -> None:
        """Nothing."""

    def datasets(self, datasets: list[UsedDataset]) -> None:
        """Nothing."""

    def model(self, step: int) -> None:
        """Nothing."""


@contextmanager
def track(
    folder: Path,
    config: TrackingConfig,
    params: dict[str, Any],
    tags: dict[str, str],
    resume: bool,
    last: float = math.inf,
) -> Iterator[Tracker]:
    """A Tracker, which explains the arguments; the run ends as FINISHED, as KILLED if it was asked to stop, or as
    FAILED on an error."""
    if not distributed.is_first():
        yield _Silent()
        return
    refuse_if([f"tracking.tags: {name!r} is not a valid tag name in MLflow." for name in unfit_names(config.tags)])
    tracker = Tracker(folder, config, params=params, tags=tags | config.tags, resume=resume, last=last)
    status = "FAILED"
    try:
        yield tracker
        status = "FINISHED"
    except (Stopped, KeyboardInterrupt):
        status = "KILLED"
        raise
    finally:
        tracker.finish(status)


def log_afterwards(folder: Path, metrics: dict[str, float]) -> None:
    """Add a line of metrics to a run that has ended, behind its last step, and send it; its status and times stay.

    A store that fails costs a warning; a later `sync` sends what it missed.

    Raises:
        UserError: something else is at work in the folder.
    """
    path = folder / METRICS
    with path.open("r+b") as file:  # NFS locks it for one alone only where it may be written
        if not take(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB):
            raise UserError(f"output: something is at work in '{folder}'.")
        size, seen = read_back(path)
        added = Appended(path)
        added.truncate(size)
        added.write(line_of(1 + max((steps[-1] for steps in seen.values()), default=0), metrics))
        added.close()
        ledger = Ledger.load(folder)
        if ledger is None or ledger["uri"] == "none":
            return
        try:
            Sender(folder, ledger, lambda allowance=0.0: None).send()
        except Exception as error:  # whatever it is, it costs no more than a warning
            warn(f"{ledger['uri']} fails; everything is kept in {folder}: {reason(error)}")


@dataclass(frozen=True)
class SyncConfig:
    """Send MLflow what a run could not send while it ran."""

    output: str = "runs/pretrain"
    """The run's folder."""

    uri: str | None = None
    """A store other than the one the run was started with."""


def print_synced(config: SyncConfig) -> None:
    """Send what is missing, and print how much it was."""
    print(f"{count_of(sync(Path(config.output), config.uri), 'line')} of metrics sent, and whatever else was missing")


def sync(folder: Path, uri: str | None = None) -> int:
    """Send what a run's folder holds and MLflow lacks: parameters, tags, datasets, metrics, status, artifacts, model.

    A run that died before it could say so (still RUNNING, but no process holds its files) becomes FAILED.

    Args:
        folder: the run's output folder.
        uri: send to this store from now on, instead of the one the run was started with.

    Returns:
        The number of metric lines sent.

    Raises:
        UserError: no tracked run there, no store named, a run still at work, or a store that fails.
    """
    if not (folder / METRICS).exists() or not (folder / LEDGER).exists():
        raise UserError(f"sync: {str(folder)!r} lacks {LEDGER} or {METRICS}; give a run's output folder.")
    with (folder / METRICS).open("r+b") as file:  # NFS locks it for one alone only where it may be written
        if not take(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB):
            raise UserError(f"sync: a run is at work in {str(folder)!r}, and sends its own metrics.")
        ledger = Ledger.load(folder)
        address = resolve(uri or ledger["uri"])
        if address == "none":
            raise UserError(f"sync: {str(folder)!r} was tracked with uri none; --uri names the store to send it to.")
        if ledger["status"] == "RUNNING":
            ledger.update(status="FAILED", ended=os.fstat(file.fileno()).st_mtime)
        ledger.aim(address)
        return _send_now(folder, ledger)


def _send_now(folder: Path, ledger: "Ledger") -> int:
    try:
        return Sender(folder, ledger, lambda allowance=0.0: None).send()
    except Exception as error:
        if not isinstance(error, OSError) and not type(error).__module__.startswith(STORE_MODULES):
            raise  # a bug of ours
        left = unsent(folder, ledger)
        raise UserError(f"sync: {ledger['uri']} fails; still to send: {left}. {reason(error)}") from error


def _set_aside(folder: Path) -> None:
    for path in (folder / METRICS, folder / LEDGER):
        if path.exists():
            path.replace(_free_name(path))


def _free_name(path: Path) -> Path:
    """The path with .old, or with .old-2 and so on where there is one already."""
    names = (f"{path.name}.old{'' if number == 1 else f'-{number}'}" for number in itertools.count(1))
    return next(aside for name in names if not (aside := path.with_name(name)).exists())
