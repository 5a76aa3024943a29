"""Files that are there whole or not at all, even under concurrent reads and writes, and after a power cut."""

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, shared: bool = False) -> Iterator[Path]:
    """A file beside `path` to write to: it replaces `path` at the end, and is removed after an error.

    Args:
        path: the file to replace.
        shared: whether several processes may write it at once. A single one uses the same name each time, so that what
            a killed process left is overwritten.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    own = f"{os.getpid()}-{secrets.token_hex(4)}" if shared else "unfinished"
    unfinished = path.with_name(f".{path.name}.{own}")
    try:
        yield unfinished
        sync(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until the disk has the content of a file, or the names in a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(path: Path, content: str) -> None:
    """Replace the file's content, in UTF-8; a reader finds all of the old or all of the new."""
    with replacing(path, shared=True) as unfinished:
        unfinished.write_bytes(content.encode())
