"""File locks, exclusive or shared; one run at a time in an output folder."""

import contextlib
import fcntl
import json
import os
import socket
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from bert.errors import UserError
from bert.training import distributed

_LOCK = ".lock"


def take(descriptor: int, kind: int) -> bool:
    """Lock a file until it is closed, exclusively or shared (fcntl.LOCK_EX, LOCK_SH); False where it is taken.

    On a file system without locks (some Lustre and NFS mounts) every file counts as free.
    """
    try:
        fcntl.flock(descriptor, kind)
    except BlockingIOError:
        return False
    except OSError as error:
        warnings.warn(
            f"cannot lock the files this process works on, so nothing keeps others out: {error.strerror}", stacklevel=2
        )
    return True


@contextlib.contextmanager
def taken(file: Path) -> Iterator[int | None]:
    """Make a file and lock it in the block: its descriptor, which a child process may hold on to; None where another
    process or thread has it."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT)
    try:
        yield descriptor if take(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB) else None
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def hold(output: Path) -> Iterator[None]:
    """Make the folder and lock it in the block; the system releases it when the process ends, however it does.

    Raises:
        UserError: another process holds it, or it cannot be written to.
    """
    if not distributed.is_first():
        yield
        return
    try:
        if output.is_file():
            raise UserError(f"output: '{output}' is a file; a run needs a folder.")
        output.mkdir(parents=True, exist_ok=True)
        file = (output / _LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise UserError(f"output: cannot write to '{output}': {error.strerror}.") from error
    with file:
        if not take(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB):
            raise UserError(f"output: '{output}' is in use by {_holder(output)}.")
        file.truncate(0)
        file.write(json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": time.ctime()}))
        file.flush()
        try:
            yield
        finally:
            with contextlib.suppress(FileNotFoundError):  # somebody removed the folder: an error from inside says more
                if [found.name for found in output.iterdir()] == [_LOCK]:  # refused before it began: leave nothing
                    (output / _LOCK).unlink()
                    output.rmdir()


def _holder(output: Path) -> str:
    try:
        said = json.loads((output / _LOCK).read_text(encoding="utf-8"))
        return f"process {said['process']} on {said['host']} (since {said['since']})"
    except (OSError, ValueError, KeyError):
        return "another process"
