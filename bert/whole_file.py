"""Files that are there whole or not at all, whoever reads and writes them at once."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, shared: bool = False) -> Iterator[Path]:
    """A file beside `path` to write to: it takes the place of `path` at the end, and is removed after an error.

    Args:
        path: the file's place.
        shared: whether several processes may write it at once. One alone uses the same name each time, so that what a
            killed process left is written over.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    own = f"{os.getpid()}-{secrets.token_hex(4)}" if shared else "unfinished"
    unfinished = path.with_name(f".{path.name}.{own}")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write(path: Path, content: str) -> None:
    """Put content, in UTF-8, in the place of what the file holds; a reader finds all of the one or of the other."""
    with replacing(path, shared=True) as unfinished:
        unfinished.write_bytes(content.encode())
