"""Stopping when asked to: the step in hand is finished, the state saved, and the exit code says so."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator

EXIT_CODE = 75
"""... and 0 under torchrun, which would start a process that ends with another again."""


class Stopped(Exception):
    """The run was asked to stop, and its state is saved."""


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Within it, SIGINT and SIGTERM are noted; the value says whether one came. A second SIGINT interrupts at once."""
    asked = []

    def note(number: int, frame) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)
        print(f"\n{signal.Signals(number).name}: saving after this step, then stopping.", file=sys.stderr)

    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield lambda: False
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
