"""Files that several processes may write and read at once."""

import os
import secrets
from pathlib import Path


def write(path: Path, content: str) -> None:
    """Put content, in UTF-8, in the place of what the file holds; a reader finds all of the one or of the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        unfinished.write_bytes(content.encode())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
