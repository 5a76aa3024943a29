"""Folders of the cache that are there whole or not at all, however many processes make or use them at once."""

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bert.errors import UserError

_ABANDONED = 3600
"""Seconds without a write after which an unfinished folder is that of a killed process."""


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """A folder to write to, which is given the name `folder` at the end, and removed after an error.

    If another process was faster, its folder, which is the same, is kept. What killed processes left is removed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f".{folder.name}-*"):
        if time.time() - _last_write(left) > _ABANDONED:
            shutil.rmtree(left, ignore_errors=True)
    unfinished = _beside(folder)
    unfinished.mkdir()
    try:
        yield unfinished
        try:
            unfinished.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def remove(folder: Path) -> None:
    """Remove a folder, never in part under its own name.

    Raises:
        UserError: it cannot be removed.
    """
    aside = _beside(folder)
    try:
        folder.rename(aside)
    except FileNotFoundError:  # another process was faster
        return
    except OSError as error:
        raise UserError(f"data.cache: '{folder}' is damaged and cannot be removed: {error.strerror}.") from None
    shutil.rmtree(aside, ignore_errors=True)


def _beside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}-{os.getpid()}-{secrets.token_hex(4)}")


def _last_write(folder: Path) -> float:
    """The newest modification time in a folder; now, if it is being removed."""
    with suppress(OSError):
        return max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    return time.time()
