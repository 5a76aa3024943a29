"""metrics.jsonl: every metric of a run, a line at a time, on the local disk before anywhere else."""

import contextlib
import errno
import json
import math
import os
import sys
import time
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from bert.errors import UserError

METRICS = "metrics.jsonl"
LINES_PER_PASS = 500


class Appended:
    """A file to append lines to, once `truncate` has said how much of it is kept.

    What a full disk does not take waits for the next line.
    """

    def __init__(self, path: Path) -> None:
        # Also to read: NFS locks a file for sharing only where it may be read.
        self._file, self._waiting, self._warned = path.open("a+b", buffering=0), b"", False

    def fileno(self) -> int:
        """The descriptor, to lock."""
        return self._file.fileno()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._file.closed

    def truncate(self, size: int) -> None:
        """Keep only so many bytes."""
        self._file.truncate(size)
        self._size = size

    def write(self, line: str) -> None:
        """Append a line, after those that wait."""
        self._waiting += line.encode()
        try:
            if self._file.write(self._waiting) < len(self._waiting):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(self._size)  # no part of a line
            if not self._warned:
                said = f"{self._file.name} cannot be written ({error.strerror}); its lines wait for the next"
                print(f"tracking: {said}", file=sys.stderr, flush=True)
            self._warned = True
        else:
            self._size, self._waiting = self._size + len(self._waiting), b""

    def flush(self) -> None:
        """Wait until the disk has what was written."""
        with contextlib.suppress(OSError):  # as `write`, which has said so
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Write what waits, if the disk takes it now, and close the file."""
        if self._waiting:
            self.write("")
        self._file.close()


def line_of(step: int, metrics: dict[str, float]) -> str:
    """A line, as of now; what is not finite is as in `finite_or_words`."""
    line = {"step": step, "time": round(time.time(), 3), "metrics": finite_or_words(metrics)}
    return json.dumps(line, ensure_ascii=False) + "\n"


def read_back(path: Path, last: float = math.inf) -> tuple[int, dict[str, array]]:
    """Bytes of whole lines in `metrics.jsonl`, and the steps written for each metric, ascending.

    Args:
        path: the file; created if missing.
        last: stop before the first line of a later step.
    """
    path.touch()
    size, seen = 0, {}
    for number, line in enumerate((line for lines in whole_lines(path, 0) for line in lines), start=1):
        try:
            points = list(points_of(line))
            if any(step > last for *_, step in points):
                break
            for key, _, _, step in points:
                note_step(seen, key, step)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}:{number}: not a line of metrics; fix or remove it.") from error
        size += len(line)
    return size, seen


def values_at(path: Path, step: int, prefix: str) -> dict[str, float]:
    """The metrics of one step whose names begin so."""
    lines = (line for lines in whole_lines(path, 0) for line in lines)
    points = (point for line in lines for point in points_of(line))
    return {key: value for key, value, _, at in points if at == step and key.startswith(prefix)}


def whole_lines(path: Path, offset: int) -> Iterator[list[bytes]]:
    """Lists of complete lines from a byte offset on."""
    with path.open("rb") as file:
        file.seek(offset)
        while lines := list(islice(file, LINES_PER_PASS)):
            torn = not lines[-1].endswith(b"\n")
            if whole := lines[: len(lines) - torn]:
                yield whole
            if torn:
                return


def points_of(line: bytes) -> Iterator[tuple[str, float, int, int]]:
    """Each metric of a line: name, value, time in milliseconds, step."""
    entry = json.loads(line)
    for key, value in entry["metrics"].items():
        yield key, float(value), round(1000 * entry["time"]), entry["step"]


def finite_or_words(metrics: dict[str, float]) -> dict[str, float | str]:
    """Metrics as JSON takes them: nan, inf and -inf, for which it has no numbers, as strings that float() reads."""
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in metrics.items()
    }


def note_step(seen: dict[str, array], key: str, step: int) -> bool:
    """Note a metric's step (8 bytes each); False if it was already there."""
    steps = seen.setdefault(key, array("q"))
    place = bisect_left(steps, step)
    if place < len(steps) and steps[place] == step:
        return False
    steps.insert(place, step)
    return True
