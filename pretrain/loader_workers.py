"""Signals and lifetime of the processes that build blocks ahead: they get no signals, and end when the run does."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

_TELLS_THE_SENDER = hasattr(signal, "sigtimedwait")
"""Not on macOS, where a SIGTERM from any process ends a worker."""


@contextmanager
def unsignalled() -> Iterator[None]:
    """Block signals that ask to stop until this ends; processes started meanwhile never get them.

    A signal to all processes at once (Ctrl-C, `timeout`, torchrun, Slurm) is for the run to handle, which still needs
    batches for the current step.
    """
    resource_tracker.ensure_running()  # starting it later would let signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def follow_the_run(worker: int) -> None:
    """Make a worker exit when the run sends SIGTERM or disappears.

    Otherwise it could block for ever on handing over a block.
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
    """Wait up to this many seconds for a process to send SIGTERM; whether it did."""
    if not _TELLS_THE_SENDER:
        time.sleep(within)
        return False
    came = signal.sigtimedwait([signal.SIGTERM], within)
    return came is not None and came.si_pid == process
