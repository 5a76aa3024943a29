"""The manners of the processes that build blocks ahead: they get no signals, and end when the run does."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

_TELLS_THE_SENDER = hasattr(signal, "sigtimedwait")
"""Not so on macOS, where anybody's SIGTERM ends a worker."""


@contextmanager
def unsignalled() -> Iterator[None]:
    """What asks to stop has to wait until this ends; the processes that are started meanwhile never get it.

    A signal to all processes at once (Ctrl-C, `timeout`, torchrun, Slurm) is the run's to answer, which needs batches
    for the step in hand.
    """
    resource_tracker.ensure_running()  # starting it later would let signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def follow_the_run(worker: int) -> None:
    """Have a worker that was started unsignalled end when the run says so by SIGTERM, or is there no more.

    One with a block to hand over would wait for ever.
    """
    run = os.getppid()
    if not _TELLS_THE_SENDER:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])

    def watch() -> None:
        while os.getppid() == run and not _told_by(run, within=1.0):
            pass
        os._exit(0)

    threading.Thread(target=watch, name="watch-run", daemon=True).start()


def _told_by(process: int, within: float) -> bool:
    """Wait so many seconds for a process to send SIGTERM, and say whether it did."""
    if not _TELLS_THE_SENDER:
        time.sleep(within)
        return False
    came = signal.sigtimedwait([signal.SIGTERM], within)
    return came is not None and came.si_pid == process
