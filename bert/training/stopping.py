"""Stopping when asked to: the current step is finished, the state saved, and the exit code says so."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator

EXIT_CODE = 75
"""... and 0 under torchrun, which would restart a process that ends with any other."""


class Stopped(Exception):
    """The run was asked to stop, and its state is saved."""


class _Note:
    """A signal handler that remembers the signals."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, number: int, frame) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked.append(number)
        print(f"\n{signal.Signals(number).name}: saving after this step, then stopping.", file=sys.stderr)

    def came(self) -> bool:
        return bool(self.asked)


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
