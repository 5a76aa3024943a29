"""Lines of text files: strict UTF-8, ending in LF or CRLF and nowhere else."""

from collections.abc import Iterator
from pathlib import Path

from bert.errors import UserError

TO_UTF8 = "convert the file with `iconv -f CP949 -t UTF-8`, or from what it is in (CP1252, UTF-16, ...)."

CARRIAGE_RETURN = "a carriage return inside the line; lines end in LF or CRLF"


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """A text file's lines with their numbers, from 1, without line ends; strict UTF-8, a BOM left out."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            yield number, text_of_line(raw, number, str(path))


def text_of_line(raw: bytes, number: int, name: str) -> str:
    """A line's text without its end.

    Args:
        raw: its bytes.
        number: from 1; the first may begin with a BOM, which is left out.
        name: of its source, for errors.

    Raises:
        UserError: it is not UTF-8, or holds a zero byte, a sign of UTF-16.
    """
    try:
        text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        byte = raw[error.start]
        where = f"byte {byte:#04x} at column {error.start + 1}"
        raise UserError(f"{name}:{number}: {where} is not UTF-8; {TO_UTF8}") from None
    if "\0" in text:
        column = raw.index(b"\0") + 1
        raise UserError(f"{name}:{number}: byte 0x00 at column {column} is not text; is the file in UTF-16?")
    return text.removesuffix("\n").removesuffix("\r")


def lone_surrogate(text: str) -> str | None:
    """Describe a lone surrogate in a text from JSON, which can spell what UTF-8 cannot; None where there is none."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"\\u{ord(text[error.start]):04x}, half of a surrogate pair, which is not a character"
    return None
