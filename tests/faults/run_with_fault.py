"""run.py in a process with something wrong in it: python -m tests.faults.run_with_fault FAULT ARGUMENTS.

FAULT is NAMES:STRIKE:N: names from FAULTS joined by +, one of STRIKES, and at which time it strikes.
"""

import errno
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import run
from bert import whole_file
from bert.cli import main
from bert.training import checkpoint, loop
from bert.training.position import Position


def _at(number: int, call: Callable, strike: Callable[[], None], after: bool = False) -> Callable:
    """The call, with a strike before (or after) its N-th time."""
    times = iter(range(1, 10**9))

    def struck(*arguments, **options):
        now = next(times) == number
        if now and not after:
            strike()
        result = call(*arguments, **options)
        if now and after:
            strike()
        return result

    return struck


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "checkpoint")


def _break() -> None:
    raise ZeroDivisionError


def _before_saving_moments(number: int, strike: Callable) -> None:
    checkpoint.save_file = _at(number, checkpoint.save_file, strike)


def _after_saving_moments(number: int, strike: Callable) -> None:
    checkpoint.save_file = _at(number, checkpoint.save_file, strike, after=True)


def _before_the_manifest(number: int, strike: Callable) -> None:
    checkpoint._write_manifest = _at(number, checkpoint._write_manifest, strike)


def _after_the_manifest(number: int, strike: Callable) -> None:
    checkpoint._write_manifest = _at(number, checkpoint._write_manifest, strike, after=True)


def _while_syncing(number: int, strike: Callable) -> None:
    """While a file of a checkpoint, or of the best weights, is brought to the disk."""
    healthy, struck = whole_file.sync, _at(number, whole_file.sync, strike)
    whole_file.sync = lambda path: (struck if path.parent.name.endswith(".unfinished") else healthy)(path)


def _before_renaming(number: int, strike: Callable) -> None:
    Path.rename = _at(number, Path.rename, strike)


def _after_renaming(number: int, strike: Callable) -> None:
    Path.rename = _at(number, Path.rename, strike, after=True)


def _while_pruning(number: int, strike: Callable) -> None:
    """Some files of the old checkpoint are gone, the others still there."""
    whole = shutil.rmtree

    def half(folder, *arguments, **options):
        if Path(folder).name.startswith("step-"):
            next(Path(folder).iterdir()).unlink()
            strike()
        whole(folder, *arguments, **options)

    checkpoint.shutil.rmtree = half


def _after_exporting(number: int, strike: Callable) -> None:
    checkpoint.export = _at(number, checkpoint.export, strike, after=True)


def _forget_moments(number: int, strike: Callable) -> None:
    """A trainer that leaves AdamW's moments out of its checkpoints."""
    checkpoint._moments = lambda objective, optimizer: {}


def _forget_the_position(number: int, strike: Callable) -> None:
    """A trainer that begins its data anew when it is resumed."""
    restore = checkpoint.restore

    def forgetful(*arguments):
        return restore(*arguments) | {"position": vars(Position())}

    loop.checkpoint.restore = forgetful


FAULTS = {
    "before_saving_moments": _before_saving_moments,
    "after_saving_moments": _after_saving_moments,
    "before_the_manifest": _before_the_manifest,
    "after_the_manifest": _after_the_manifest,
    "while_syncing": _while_syncing,
    "before_renaming": _before_renaming,
    "after_renaming": _after_renaming,
    "while_pruning": _while_pruning,
    "after_exporting": _after_exporting,
    "forget_moments": _forget_moments,
    "forget_the_position": _forget_the_position,
    "none": lambda number, strike: None,
}
STRIKES = {"die": _die, "full": _full, "break": _break}


if __name__ == "__main__":
    faults, strike, number = sys.argv[1].split(":")
    for fault in faults.split("+"):
        FAULTS[fault](int(number), STRIKES[strike])
    sys.exit(main("run.py", "", run.VERBS, "pretrain", sys.argv[2:]))
