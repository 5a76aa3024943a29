"""metrics.jsonl: every metric of a run, a line at a time, on the local disk before anywhere else."""

import json
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from bert.errors import UserError

METRICS = "metrics.jsonl"
LINES_PER_PASS = 500


def read_back(path: Path) -> tuple[int, dict[str, array]]:
    """Bytes of whole lines in `metrics.jsonl`, and the steps written for each metric, ascending."""
    path.touch()
    size, seen = 0, {}
    for number, line in enumerate((line for lines in whole_lines(path, 0) for line in lines), start=1):
        try:
            for key, _, _, step in points_of(line):
                note_step(seen, key, step)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}:{number}: not a line of metrics; fix or remove it.") from error
        size += len(line)
    return size, seen


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


def note_step(seen: dict[str, array], key: str, step: int) -> bool:
    """Note a metric's step (8 bytes each); False if it was already there."""
    steps = seen.setdefault(key, array("q"))
    place = bisect_left(steps, step)
    if place < len(steps) and steps[place] == step:
        return False
    steps.insert(place, step)
    return True
