"""Stopping when asked to: the current step is finished, the state saved, and the exit code says so.

After the last step there is nothing to stop: the run ends as usual, and a signal's announcement says that.
"""

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator

EXIT_CODE = 75
"""... and 0 under torchrun, which would restart a process that ends with any other."""


class Stopped(Exception):
    """The run was asked to stop, and its state is saved."""


class _Note:
    """A signal handler that remembers the signals, and whether the run has taken its last step."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.ending = False

    def __call__(self, number: int, frame) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked.append(number)
        _leave_broken_pipes()
        self.announce(_ENDING if self.ending else _STOPPING)

    def announce(self, what: str) -> None:
        with contextlib.suppress(OSError):  # a print() in a handler fails where it interrupts another one
            os.write(2, f"\n{signal.Signals(self.asked[-1]).name}: {what}\n".encode())

    def came(self) -> bool:
        return bool(self.asked)


_STOPPING = "saving after this step, then stopping."
_ENDING = "the last step is done; the run ends as usual, after evaluating and saving."


def note_last_step(done: bool) -> None:
    """Say whether the run has taken its last step; a signal that came during it is announced anew.

    Does nothing outside `stop_requests`.
    """
    if not isinstance(note := signal.getsignal(signal.SIGTERM), _Note):
        return
    before, note.ending = note.ending, done
    if done and not before and note.came():
        note.announce(_ENDING)


def _leave_broken_pipes() -> None:
    """Let what is printed go nowhere where nobody reads it: Ctrl-C ends `| tee log` too, and at once."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # not a file of the system
            pipe = select.poll()
            pipe.register(stream.fileno(), select.POLLERR)
            if pipe.poll(0):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Note SIGINT and SIGTERM in the block; yields a test of whether one came. A second SIGINT interrupts at once.

    A nested one knows what came before it.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield lambda: False
        return
    if isinstance(outer := signal.getsignal(signal.SIGTERM), _Note):
        yield outer.came
        return
    note = _Note()
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield note.came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
