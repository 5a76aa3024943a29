"""Every fault we promise to survive, many times over, with a table of what was tried and survived.

    make faults

Prints a row for each kind as it is done, and ends with 1 if anything did not hold.
"""

import contextlib
import io
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bert.training import checkpoint
from tests.faults.run_with_fault import FAULTS
from tests.faults.runs import Place, kill

POINTS = [f"{name}:die:{time}" for name, time in zip(list(FAULTS)[:9], (4, 3, 2, 5, 31, 3, 4, 1, 2), strict=True)]
POINTS.append("before_renaming:die:1")


def main() -> int:
    """Run the battery."""
    dice, failed = random.Random(0), 0
    with tempfile.TemporaryDirectory(prefix="faults ") as folder:
        place = Place(Path(folder))
        began = time.perf_counter()
        code, said = place.run("whole")
        assert code == 0, said
        seconds, end = time.perf_counter() - began, place.end("whole")
        kinds: list[tuple[str, Callable[[], Iterator[bool]]]] = [
            ("kill -9 at a random moment", lambda: _killed(place, end, dice, seconds, 30, 1)),
            ("kill -9 at a random moment, twice in a run", lambda: _killed(place, end, dice, seconds, 5, 2)),
            ("kill -9 inside saving, renaming or pruning", lambda: _killed_inside(place, end)),
            ("SIGTERM or SIGINT: exit 75 within 10 s, same end", lambda: _asked(place, end, dice, seconds)),
            ("SIGINT twice: exit within 10 s, same end", lambda: _interrupted(place, end)),
            ("disk full inside a save", lambda: _full(place, end)),
            ("a bit of a checkpoint flipped", lambda: _damaged(place, dice, 200, _flip)),
            ("a file of a checkpoint cut short", lambda: _damaged(place, dice, 50, _cut)),
            ("a block of a checkpoint zeroed", lambda: _damaged(place, dice, 50, _zero)),
            ("a file of a checkpoint missing", lambda: _damaged(place, dice, 5, lambda file, dice: file.unlink())),
            ("another number of loader workers, before and after a kill", lambda: _workers(place, end)),
        ]
        print(f"one run: {seconds:.0f} s\n\n| fault | tried | survived | minutes |\n|---|---|---|---|", flush=True)
        for name, attempts in kinds:
            began = time.perf_counter()
            survived = list(attempts())
            failed += len(survived) - sum(survived)
            minutes = (time.perf_counter() - began) / 60
            print(f"| {name} | {len(survived)} | {sum(survived)} | {minutes:.1f} |", flush=True)
    return int(failed > 0)


def _comes_to(place: Place, name: str, end: str) -> bool:
    """Whether the same command finishes the run, with the same end; what it left is removed."""
    code, said = place.run(name)
    held = code == 0 and place.end(name) == end
    if not held:
        print(f"{name}: exit code {code}\n{said[-2000:]}", file=sys.stderr)
    shutil.rmtree(place.folder / name)
    return held


def _killed(place: Place, end: str, dice: random.Random, seconds: float, times: int, kills: int) -> Iterator[bool]:
    for number in range(times):
        name = f"killed {kills} {number}"
        while not all(_struck(place, name, dice.uniform(0.3 * seconds / kills, seconds)) for _ in range(kills)):
            shutil.rmtree(place.folder / name)  # it had ended before
        (place.folder / name).mkdir(exist_ok=True)
        yield _comes_to(place, name, end)


def _struck(place: Place, name: str, after: float) -> bool:
    """Kill a run after so many seconds; False if it had come to its end by then."""
    process = place.start(name)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(after)
    kill(process)
    process.communicate()
    return process.returncode != 0


def _killed_inside(place: Place, end: str) -> Iterator[bool]:
    for number, point in enumerate(POINTS):
        code, _ = place.run(f"point {number}", point)
        yield code == -signal.SIGKILL and _comes_to(place, f"point {number}", end)


def _asked(place: Place, end: str, dice: random.Random, seconds: float) -> Iterator[bool]:
    for number, asked in enumerate((signal.SIGTERM, signal.SIGINT) * 3):
        name, code = f"asked {number}", 0
        while code == 0:  # it had ended before
            shutil.rmtree(place.folder / name, ignore_errors=True)
            process = place.start(name)
            place.wait_for_training(name, process)
            time.sleep(dice.uniform(0, 0.3 * seconds))
            began = time.perf_counter()
            kill(process, asked)
            process.communicate(timeout=30)
            code = process.returncode
        yield code == 75 and time.perf_counter() - began < 10 and _comes_to(place, name, end)


def _interrupted(place: Place, end: str) -> Iterator[bool]:
    for number in range(3):
        name = f"interrupted {number}"
        process = place.start(name)
        place.wait_for_training(name, process)
        began = time.perf_counter()
        kill(process, signal.SIGINT)
        kill(process, signal.SIGINT)
        process.communicate(timeout=30)
        on_time = process.returncode in (75, 130) and time.perf_counter() - began < 10
        yield on_time and _comes_to(place, name, end)


def _full(place: Place, end: str) -> Iterator[bool]:
    for number, point in enumerate(("before_saving_moments", "after_saving_moments", "before_the_manifest") * 2):
        name = f"full {number}"
        code, said = place.run(name, f"{point}:full:{number + 2}")
        left = [file.name for file in (place.folder / name / "checkpoints").iterdir()]
        clean = code == 2 and "No space left" in said and not any("unfinished" in file for file in left)
        yield clean and checkpoint.newest(place.folder / name) is not None and _comes_to(place, name, end)


def _damaged(
    place: Place, dice: random.Random, times: int, damage: Callable[[Path, random.Random], None]
) -> Iterator[bool]:
    """Whether the damage is found, and the checkpoint before it taken instead."""
    source = place.folder / "whole" / "checkpoints"
    older, newest = sorted(source.iterdir())
    for _ in range(times):
        output = place.folder / "damaged"
        shutil.copytree(source, output / "checkpoints")
        damage(dice.choice(sorted((output / "checkpoints" / newest.name).iterdir())), dice)
        with contextlib.redirect_stderr(io.StringIO()) as said:
            found = checkpoint.newest(output)
        yield found is not None and found.name == older.name and "damaged" in said.getvalue()
        shutil.rmtree(output)


def _flip(file: Path, dice: random.Random) -> None:
    content = bytearray(file.read_bytes())
    content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    file.write_bytes(content)


def _cut(file: Path, dice: random.Random) -> None:
    file.write_bytes(file.read_bytes()[: dice.randrange(file.stat().st_size)])


def _zero(file: Path, dice: random.Random) -> None:
    content = bytearray(file.read_bytes())
    first = dice.randrange(max(1, len(content) - 64))
    while not any(content[first : first + 64]):  # zeros are no damage
        first = dice.randrange(max(1, len(content) - 64))
    content[first : first + 64] = bytes(min(64, len(content) - first))
    file.write_bytes(content)


def _workers(place: Place, end: str) -> Iterator[bool]:
    for before, after in ((0, 2), (2, 0), (2, 4)):
        name = f"workers {before} {after}"
        code, _ = place.run(name, "after_renaming:die:4", workers=before)
        again, said = place.run(name, workers=after)
        held = code == -signal.SIGKILL and again == 0 and place.end(name) == end
        if not held:
            print(f"{name}: {code}, {again}\n{said[-2000:]}", file=sys.stderr)
        yield held


if __name__ == "__main__":
    sys.exit(main())
