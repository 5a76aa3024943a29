"""Tracking: every metric is a line on the local disk first, and MLflow is fed from those lines.

`metrics.jsonl` holds what was measured, `tracking.json` what MLflow is to get and how far that has come. Each
step of sending may be repeated without harm: points carry their recorded time, and a run is looked up by our
own id before it is created. So no crash, dead server or later `sync` loses a point or logs it twice. MLflow
is imported only where it is used: in the feeder's thread and in `sync`.
"""

import fcntl
import json
import math
import os
import re
import sys
import threading
import time
import uuid
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from bert.errors import UserError

METRICS, LEDGER = "metrics.jsonl", "tracking.json"
INTERVAL, LONGEST_DELAY, PATIENCE = 2.0, 60.0, 10.0  # seconds: between passes, after failures, at the end
METRICS_PER_CALL, PARAMS_PER_CALL, VALUE_LENGTH = 1000, 25, 6000  # MLflow takes no more
LINES_PER_PASS = 500
STORE_MODULES = ("mlflow.", "sqlalchemy.", "alembic.")  # whose errors are the store's, not ours
REFUSED_IN_NAMES = re.compile(r"[^\w/.\- :]")  # one such character, and MLflow refuses the whole batch
SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks")
NOTHING_SENT = {"sent": 0, "described": False, "artifacts_sent": 0, "status_sent": None}
ENVIRONMENT = {  # we retry, later; left to itself MLflow holds one call for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


@dataclass(frozen=True)
class TrackingConfig:
    """Where a run's metrics go besides its own folder."""

    uri: str = "sqlite:///mlflow.db"
    """MLflow store: sqlite:///file.db (relative to the working directory), http(s)://host:port, or none for
    no MLflow. A server's credentials belong in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."""

    experiment: str = "bert"
    """MLflow experiment to put the run in; created where there is none."""

    run_name: str | None = None
    """The run's name in MLflow; by default the name of the output folder."""


class Tracker:
    """One run's metrics, artifacts and end. MLflow's failures never raise, and only `finish` waits."""

    def __init__(
        self,
        folder: Path,
        config: TrackingConfig,
        *,
        params: dict[str, Any],
        tags: dict[str, str],
        resume: bool,
    ) -> None:
        """Open the run's metrics, and start feeding MLflow unless `config.uri` is none.

        Args:
            folder: the run's output folder, made where there is none.
            config: with `resume`, only its uri counts: experiment and name stay those of the first start.
            params: nested ones are flattened with dots; with `resume`, those of the first start stay.
            tags: added to those of an earlier start.
            resume: go on with the folder's run; otherwise its old files, if any, are set aside as `*.old`.

        Raises:
            UserError: an address MLflow has no store for, a damaged file, or a `sync` at work on this folder.
        """
        uri = _resolve(config.uri)
        folder.mkdir(parents=True, exist_ok=True)
        if not resume:
            _set_aside(folder)
        self._folder, path = folder, folder / METRICS
        size, self._seen = _read_back(path)
        self._ledger = _Ledger.load(folder) or _new_ledger(folder, uri, config, params)
        self._file = path.open("a", encoding="utf-8")
        if not _lock(self._file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB):
            self._file.close()
            raise UserError(f"output: a sync is sending {str(folder)!r} start again when it is done.")
        self._file.truncate(size)  # cuts a last line torn by a crash
        self._ledger.start(uri, tags, size)
        self._ended, self._abandoned = threading.Event(), threading.Event()
        self._last_progress, self._allowance = 0.0, 0.0
        self._feeder = threading.Thread(target=self._feed, name="mlflow-feeder", daemon=True)
        self._feeds = uri != "none"
        if self._feeds:
            self._feeder.start()

    @property
    def run_id(self) -> str | None:
        """The id MLflow gave the run; None until it is known."""
        return self._ledger["run_id"]

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Write one line; what is already written for this step (a replay after a crash) is left out.

        Values that are not finite are written as the strings nan, inf and -inf, which float() reads.
        """
        values = {key: float(value) for key, value in metrics.items() if _add(self._seen, key, step)}
        if values:
            written = {key: value if math.isfinite(value) else str(value) for key, value in values.items()}
            line = {"step": step, "time": round(time.time(), 3), "metrics": written}
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()

    def artifact(self, path: Path, folder: str = "") -> None:
        """Queue a file or directory, to be read when it is sent; MLflow gets it as `folder/<its name>`."""
        path, home = path.absolute(), self._folder.absolute()
        inside = path.is_relative_to(home)  # then the output folder may be moved before a sync
        self._ledger.add_artifact(str(path.relative_to(home) if inside else path), folder)

    def finish(self, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """Record the end, then wait for MLflow until it has all, or 10 s have passed without any progress.

        What is left unsent is a warning on stderr. A second call does nothing.
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
            if left := _unsent(self._folder, self._ledger):
                _warn(f"not sent to {self._ledger['uri']}: {left}. Later: python run.py sync {self._folder}")
        self._ledger.close()
        self._file.close()

    def _progress(self, allowance: float = 0.0) -> None:
        """Something arrived; or, with an allowance, is about to be sent and may take so many seconds more."""
        self._allowance = allowance
        if not allowance:
            self._last_progress = time.monotonic()

    def _may_wait(self) -> bool:
        return time.monotonic() < self._last_progress + PATIENCE + self._allowance

    def _feed(self) -> None:
        """The feeder's thread: a pass every few seconds, fewer while MLflow fails, until the end is sent."""
        sender = _Sender(self._folder, self._ledger, self._progress)
        delay, warned = INTERVAL, False
        while not self._abandoned.is_set():
            ended = self._ended.is_set()  # asked first: this pass then sends all that was logged before
            try:
                sender.send()
                delay = INTERVAL
                if ended:
                    return
            except Exception as error:  # whatever it is, it costs a run no more than a warning
                self._allowance = 0.0
                delay = min(2 * delay, LONGEST_DELAY)
                if not warned and not self._abandoned.is_set():
                    _warn(f"{self._ledger['uri']} fails, all is kept in {self._folder}: {_reason(error)}")
                    warned = True
            if ended:
                self._abandoned.wait(1.0)
            else:
                self._ended.wait(delay)


def sync(folder: Path, uri: str | None = None) -> int:
    """Send what a run's folder holds and MLflow lacks: parameters, tags, metrics, status, artifacts.

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
        raise UserError(f"sync: {str(folder)!r} holds no {LEDGER} and {METRICS}; give a run's output folder.")
    with (folder / METRICS).open("rb") as file:
        if not _lock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB):
            raise UserError(f"sync: a run is at work in {str(folder)!r}, and sends by itself.")
        ledger = _Ledger.load(folder)
        address = _resolve(uri or ledger["uri"])
        if address == "none":
            raise UserError(f"sync: {str(folder)!r} was tracked with uri none; name the store to send it to.")
        if ledger["status"] == "RUNNING":
            ledger.update(status="FAILED", ended=os.fstat(file.fileno()).st_mtime)
        ledger.aim(address)
        return _send_now(folder, ledger)


def _send_now(folder: Path, ledger: "_Ledger") -> int:
    try:
        return _Sender(folder, ledger, lambda allowance=0.0: None).send()
    except Exception as error:
        if not isinstance(error, OSError) and not type(error).__module__.startswith(STORE_MODULES):
            raise  # a fault of ours
        left = _unsent(folder, ledger)
        raise UserError(f"sync: {ledger['uri']} fails; still to send: {left}. {_reason(error)}") from error


class _Ledger:
    """What MLflow is to get of a run, and how much of it has been sent: the entries of `tracking.json`."""

    def __init__(self, folder: Path, entries: dict[str, Any]) -> None:
        self._path, self._entries = folder / LEDGER, entries
        self._lock, self._closed = threading.RLock(), False

    @classmethod
    def load(cls, folder: Path) -> "_Ledger | None":
        """The folder's ledger; None where it has none, a UserError where it cannot be read."""
        path = folder / LEDGER
        try:
            return cls(folder, json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None
        except ValueError as error:
            raise UserError(f"{path}: damaged ({error}); without it, MLflow gets a new run.") from error

    def __getitem__(self, name: str) -> Any:
        return self._entries[name]

    def update(self, **changes: Any) -> None:
        """Change entries, here and on disk in one piece; ValueError once the ledger is closed."""
        with self._lock:
            if self._closed:
                raise ValueError("the run has ended; the rest is left to a sync")
            self._entries.update(changes)
            draft = self._path.with_suffix(".tmp")
            with draft.open("w", encoding="utf-8") as file:
                json.dump(self._entries, file, ensure_ascii=False, indent=1)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)

    def start(self, uri: str, tags: dict[str, str], size: int) -> None:
        """The run is running (again), `metrics.jsonl` is `size` bytes long."""
        self.aim(uri)
        tags = self["tags"] | tags
        self.update(
            tags=tags,
            described=self["described"] and tags == self["tags"],
            sent=min(self["sent"], size),
            status="RUNNING",
            ended=None,
        )

    def aim(self, uri: str) -> None:
        """Send to this store from now on; what another one has been sent counts no more."""
        if uri not in ("none", self["uri"]):
            self.update(uri=uri, **NOTHING_SENT)

    def add_artifact(self, path: str, folder: str) -> None:
        with self._lock:
            self.update(artifacts=[*self["artifacts"], [path, folder]])

    def close(self) -> None:
        with self._lock:
            self._closed = True


class _Sender:
    """Brings a run in MLflow up to date with its folder; alone knows MLflow, and raises what that raises."""

    def __init__(self, folder: Path, ledger: _Ledger, progress: Callable[..., None]) -> None:
        self._folder, self._ledger, self._progress = folder, ledger, progress
        self._client: Any = None
        self._run_id: str | None = None

    def send(self) -> int:
        """Send all that is not sent yet; the number of metric lines among it."""
        if self._client is None:
            self._client = self._connect()
        if self._run_id is None:
            self._run_id = self._open_run()
        if not self._ledger["described"]:
            self._describe()
        lines = self._send_metrics()
        if self._ledger["status"] != self._ledger["status_sent"]:
            self._send_status()
        for path, folder in self._ledger["artifacts"][self._ledger["artifacts_sent"] :]:
            self._send_artifact(self._folder / path, folder)
        return lines

    def _connect(self) -> Any:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        import mlflow.entities
        import mlflow.exceptions

        self._mlflow = mlflow
        self._progress()
        database = _database(self._ledger["uri"])
        with _one_at_a_time(database.parent) if database else nullcontext():
            client = mlflow.MlflowClient(tracking_uri=self._ledger["uri"])
        self._progress()
        return client

    def _open_run(self) -> str:
        """The run that carries our id, else a new one; if it is not the one we knew, it gets everything."""
        experiment = self._experiment()
        ours = self._ledger["run"]
        found = self._client.search_runs([experiment], f"tags.`bert.run` = '{ours}'", max_results=1)
        run_id = found[0].info.run_id if found else self._create_run(experiment)
        if run_id != self._ledger["run_id"]:
            self._ledger.update(run_id=run_id, **NOTHING_SENT)
        self._progress()
        return run_id

    def _create_run(self, experiment: str) -> str:
        start, tags = round(1000 * self._ledger["started"]), {"bert.run": self._ledger["run"]}
        return self._client.create_run(experiment, start, tags, self._ledger["run_name"]).info.run_id

    def _experiment(self) -> str:
        """Id of the experiment, created where there is none, unless another process is quicker."""
        name, database = self._ledger["experiment"], _database(self._ledger["uri"])
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            location = (database.parent / "mlartifacts").as_uri() if database else None
            try:
                return self._client.create_experiment(name, artifact_location=location)
            except self._mlflow.exceptions.MlflowException as error:
                experiment = self._client.get_experiment_by_name(name)
                if error.error_code != "RESOURCE_ALREADY_EXISTS" or experiment is None:
                    raise
        return experiment.experiment_id

    def _describe(self) -> None:
        entities = self._mlflow.entities
        params = [entities.Param(_name(key), value) for key, value in self._ledger["params"].items()]
        for some in _batches(params, PARAMS_PER_CALL):
            self._client.log_batch(self._run_id, params=some)
        tags = [entities.RunTag(key, _cut(value)) for key, value in self._ledger["tags"].items()]
        self._client.log_batch(self._run_id, tags=tags)
        self._ledger.update(described=True)
        self._progress()

    def _send_metrics(self) -> int:
        count = 0
        for lines in _whole_lines(self._folder / METRICS, self._ledger["sent"]):
            points = [point for line in lines for point in _points(line)]
            metrics = [self._mlflow.entities.Metric(_name(key), *point) for key, *point in points]
            for some in _batches(metrics, METRICS_PER_CALL):
                self._client.log_batch(self._run_id, metrics=some)
            self._ledger.update(sent=self._ledger["sent"] + sum(map(len, lines)))
            count += len(lines)
            self._progress()
        return count

    def _send_status(self) -> None:
        status = self._ledger["status"]
        if status == "RUNNING":
            self._client.update_run(self._run_id, status)
        else:
            self._client.set_terminated(self._run_id, status, round(1000 * self._ledger["ended"]))
        self._ledger.update(status_sent=status)
        self._progress()

    def _send_artifact(self, path: Path, folder: str) -> None:
        if path.exists():
            size = sum(file.stat().st_size for file in [path, *path.rglob("*")])
            self._progress(size / 1e6)  # a second for each megabyte
            self._client.log_artifact(self._run_id, str(path), folder or None)
        else:
            _warn(f"artifact {path} is gone, and was not sent.")
        self._ledger.update(artifacts_sent=self._ledger["artifacts_sent"] + 1)
        self._progress()


def _new_ledger(folder: Path, uri: str, config: TrackingConfig, params: dict[str, Any]) -> _Ledger:
    run = {"run": uuid.uuid4().hex, "run_id": None, "started": time.time(), "params": _flat(params)}
    place = {
        "uri": uri,
        "experiment": config.experiment,
        "run_name": config.run_name or folder.absolute().name,
    }
    return _Ledger(folder, {**run, **place, "tags": {}, "artifacts": [], **NOTHING_SENT})


def _resolve(uri: str) -> str:
    """The address, a relative SQLite path in it made absolute; a UserError where MLflow has no such store."""
    scheme, found, rest = uri.partition("://")
    if uri in ("none", "databricks"):
        return uri
    if not found or scheme.partition("+")[0] not in SCHEMES or (scheme == "sqlite" and not rest[1:]):
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES[1:])
        raise UserError(f"tracking.uri: {uri!r} names no store; use none, sqlite:///file.db, or {known}...")
    return f"sqlite:///{Path(rest[1:]).absolute()}" if scheme == "sqlite" else uri


def _database(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def _set_aside(folder: Path) -> None:
    for path in (folder / METRICS, folder / LEDGER):
        if path.exists():
            path.replace(path.with_name(f"{path.name}.old"))


def _lock(descriptor: int, kind: int) -> bool:
    """Hold a file until it is closed: runs share theirs, a sync has it alone. False where it is taken."""
    try:
        fcntl.flock(descriptor, kind)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks (some Lustre and NFS mounts): go on as if alone
        return True
    return True


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Wait for other processes in here: two that create the same SQLite store would migrate it twice."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read_back(path: Path) -> tuple[int, dict[str, array]]:
    """Bytes of whole lines in `metrics.jsonl`, and the steps written of each metric, ascending."""
    path.touch()
    size, seen = 0, {}
    for number, line in enumerate((line for lines in _whole_lines(path, 0) for line in lines), start=1):
        try:
            for key, _, _, step in _points(line):
                _add(seen, key, step)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}:{number}: not a line of metrics; mend or remove it.") from error
        size += len(line)
    return size, seen


def _whole_lines(path: Path, offset: int) -> Iterator[list[bytes]]:
    """Lists of lines from a byte offset on, as far as they are complete."""
    with path.open("rb") as file:
        file.seek(offset)
        while lines := list(islice(file, LINES_PER_PASS)):
            torn = not lines[-1].endswith(b"\n")
            if whole := lines[: len(lines) - torn]:
                yield whole
            if torn:
                return


def _points(line: bytes) -> Iterator[tuple[str, float, int, int]]:
    """Each metric of a line: name, value, time in milliseconds, step."""
    entry = json.loads(line)
    for key, value in entry["metrics"].items():
        yield key, float(value), round(1000 * entry["time"]), entry["step"]


def _add(seen: dict[str, array], key: str, step: int) -> bool:
    """Note a metric's step (8 bytes each); False if it was there."""
    steps = seen.setdefault(key, array("q"))
    place = bisect_left(steps, step)
    if place < len(steps) and steps[place] == step:
        return False
    steps.insert(place, step)
    return True


def _flat(params: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat = {}
    for key, value in params.items():
        nested = isinstance(value, dict) and value
        flat |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": _cut(str(value))}
    return flat


def _cut(value: str, mark: str = "... [cut]") -> str:
    return value if len(value) <= VALUE_LENGTH else value[: VALUE_LENGTH - len(mark)] + mark


def _name(key: str) -> str:
    return REFUSED_IN_NAMES.sub("_", key)


def _batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _unsent(folder: Path, ledger: _Ledger) -> str:
    """What MLflow has not got yet, in words; empty where it has all."""
    lines = sum(map(len, _whole_lines(folder / METRICS, ledger["sent"])))
    artifacts = len(ledger["artifacts"]) - ledger["artifacts_sent"]
    left = [f"{lines} metric lines"] * bool(lines) + [f"{artifacts} artifacts"] * bool(artifacts)
    return ", ".join(left + [f"status {ledger['status']}"] * (ledger["status"] != ledger["status_sent"]))


def _reason(error: BaseException) -> str:
    """The start of an error in a line, and what was at the root of it."""
    root = error
    while root.__cause__ or root.__context__:
        root = root.__cause__ or root.__context__
    shown = [error] if root is error else [error, root]
    return "; ".join(f"{type(e).__name__}: {str(e).strip().partition(chr(10))[0][:120]}" for e in shown)


def _warn(message: str) -> None:
    print(f"tracking: {message}", file=sys.stderr, flush=True)
