"""Stopping when asked to: the current step is finished, the state saved, and the exit code says so.

After the last step there is nothing to stop: the run ends as usual, and a signal's announcement says that.
"""

import contextlib
import os
import signal
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


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Note SIGINT, SIGTERM and SIGHUP in the block; yields a test of whether one came. A second SIGINT interrupts.

    A nested one knows what came before it.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield lambda: False
        return
    if isinstance(outer := signal.getsignal(signal.SIGTERM), _Note):
        yield outer.came
        return
    note = _Note()
    asking = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # as nohup has it: the run is to outlive its terminal
        asking.remove(signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in asking}
    try:
        yield note.came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
