"""Reading a file as strict UTF-8: an invalid byte is an error that names its line and offset."""

import codecs
from collections.abc import Iterator
from pathlib import Path

from bert.errors import UserError
from bert.lines import TO_UTF8

_CHUNK = 1 << 20  # bytes


def read_text(path: Path) -> str:
    """The whole file, without a byte order mark. Raises UserError at a byte that is not UTF-8."""
    try:
        return path.read_bytes().decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise _fault(path, error, 0, 0) from None


def valid_chunks(path: Path) -> Iterator[bytes]:
    """The file's bytes in chunks of at most a megabyte. Raises UserError at a byte that is not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    lines = size = 0  # before the chunk
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            _validate(decoder, chunk, path, lines, size)
            yield chunk
            lines, size = lines + chunk.count(b"\n"), size + len(chunk)
    _validate(decoder, b"", path, lines, size)


def _validate(decoder: codecs.IncrementalDecoder, chunk: bytes, path: Path, lines: int, size: int) -> None:
    pending = len(decoder.getstate()[0])  # bytes of a character split by the end of the last chunk
    try:
        decoder.decode(chunk, final=not chunk)
    except UnicodeDecodeError as error:
        raise _fault(path, error, lines, size - pending) from None


def _fault(path: Path, error: UnicodeDecodeError, lines: int, size: int) -> UserError:
    """The fault in a piece of the file preceded by this many lines and bytes."""
    line = lines + error.object.count(b"\n", 0, error.start) + 1
    where = f"byte {error.object[error.start]:#04x} at offset {size + error.start}"
    return UserError(f"{path}:{line}: {where} is not UTF-8; {TO_UTF8}")
