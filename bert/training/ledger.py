"""tracking.json: what MLflow is to get of a run, and how much has been sent."""

import json
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from bert import whole_file
from bert.counting import count_of
from bert.errors import UserError
from bert.training.metrics_file import METRICS, whole_lines

LEDGER = "tracking.json"
NOTHING_SENT = {
    "sent": 0,
    "described": False,
    "datasets_sent": False,
    "artifacts_sent": 0,
    "status_sent": None,
    "model_sent": None,  # the id MLflow gave it
}
NOTHING_TO_SEND = {"tags": {}, "datasets": [], "artifacts": [], "model": None}
VALUE_LENGTH = 6000  # MLflow takes nothing longer


class Ledger:
    """What MLflow is to get of a run, and how much of it has been sent: the entries of `tracking.json`."""

    def __init__(self, folder: Path, entries: dict[str, Any]) -> None:
        self._path, self._entries = folder / LEDGER, entries
        self._lock, self._closed, self._warned = threading.RLock(), False, False

    @classmethod
    def load(cls, folder: Path) -> "Ledger | None":
        """The folder's ledger; None where it has none, a UserError where it cannot be read."""
        path = folder / LEDGER
        try:
            if not path.exists():
                return None
            entries = json.loads(path.read_text(encoding="utf-8"))
            if lost := {**NOTHING_SENT, **NOTHING_TO_SEND}.keys() - entries:
                raise ValueError(f"without {', '.join(sorted(lost))}")
            return cls(folder, entries)
        except ValueError as error:
            raise UserError(f"{path}: damaged ({error}); without it, MLflow gets a new run.") from error

    def __getitem__(self, name: str) -> Any:
        return self._entries[name]

    def update(self, **changes: Any) -> None:
        """Change entries, here and atomically on disk; ValueError once the ledger is closed.

        Where the disk takes nothing, it is left for the next change: the worst that a crash can do by then is that
        MLflow gets a point twice.
        """
        with self._lock:
            if self._closed:
                raise ValueError("the run has ended; the rest is left to a sync")
            self._entries.update(changes)
            try:
                with whole_file.replacing(self._path) as draft:
                    draft.write_text(json.dumps(self._entries, ensure_ascii=False, indent=1), encoding="utf-8")
            except OSError as error:
                if not self._path.exists():
                    raise
                if not self._warned:
                    warn(f"{self._path} cannot be written ({error.strerror}); going on without")
                self._warned = True

    def start(self, uri: str, tags: dict[str, str], size: int) -> None:
        """Record that the run is running (again), with a `metrics.jsonl` of `size` bytes."""
        self.aim(uri)
        tags = self["tags"] | tags
        self.update(
            tags=tags,
            described=self["described"] and tags == self["tags"],
            sent=min(self["sent"], size),
            status="RUNNING",
            ended=None,
        )

    def tag(self, name: str, value: str) -> None:
        """Record a tag; sent anew where it differs from before."""
        with self._lock:
            if self["tags"].get(name) != value:
                self.update(tags=self["tags"] | {name: value}, described=False)

    def note_sent_tags(self, sent: dict[str, str]) -> None:
        """Record that MLflow has these, which may not be what is recorded by now."""
        with self._lock:
            self.update(described=sent == self["tags"])

    def aim(self, uri: str) -> None:
        """Send to this store from now on; what was sent to another one no longer counts."""
        if uri not in ("none", self["uri"]):
            self.update(uri=uri, **NOTHING_SENT)

    def add_artifact(self, path: str, folder: str) -> None:
        """Queue a file or directory, for MLflow to get as `folder/<its name>`."""
        with self._lock:
            self.update(artifacts=[*self["artifacts"], [path, folder]])

    def describe_datasets(self, datasets: list[dict[str, Any]]) -> None:
        """Record what the run reads; sent again where it differs from before."""
        if datasets != self["datasets"]:
            self.update(datasets=datasets, datasets_sent=False)

    def note_sent_datasets(self, sent: list[dict[str, Any]]) -> None:
        """Record that MLflow has these, which may not be what is recorded by now."""
        with self._lock:
            self.update(datasets_sent=sent == self["datasets"])

    def close(self) -> None:
        """Refuse changes from now on."""
        with self._lock:
            self._closed = True


def new_ledger(folder: Path, uri: str, experiment: str, run_name: str | None, params: dict[str, Any]) -> Ledger:
    """The ledger of a run that has sent nothing; its name is the folder's where none is given."""
    run = {"run": uuid.uuid4().hex, "run_id": None, "started": time.time(), "params": _flat(params)}
    place = {
        "uri": uri,
        "experiment": experiment,
        "run_name": run_name or folder.absolute().name,
    }
    return Ledger(folder, {**run, **place, **NOTHING_TO_SEND, **NOTHING_SENT})


def unsent(folder: Path, ledger: Ledger) -> str:
    """What MLflow has not got yet, in words; empty where it has everything."""
    lines = sum(map(len, whole_lines(folder / METRICS, ledger["sent"])))
    artifacts = len(ledger["artifacts"]) - ledger["artifacts_sent"]
    left = [count_of(number, noun) for number, noun in ((lines, "metric line"), (artifacts, "artifact")) if number]
    left += ["the datasets"] * (bool(ledger["datasets"]) and not ledger["datasets_sent"])
    left += ["the model"] * (ledger["model"] is not None and ledger["model_sent"] is None)
    return ", ".join(left + [f"status {ledger['status']}"] * (ledger["status"] != ledger["status_sent"]))


def _flat(params: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat = {}
    for key, value in params.items():
        nested = isinstance(value, dict) and value
        flat |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": cut(str(value))}
    return flat


def cut(value: str, mark: str = "... [cut]", most: int = VALUE_LENGTH) -> str:
    """The value, truncated to what MLflow takes, and marked if it was."""
    return value if len(value) <= most else value[: most - len(mark)] + mark


def warn(message: str) -> None:
    """Warn on stderr; a run goes on."""
    print(f"tracking: {message}", file=sys.stderr, flush=True)
