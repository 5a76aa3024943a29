"""Which files a corpus is read from, and whether they can be text."""

import glob
import os
from pathlib import Path

from bert.errors import UserError
from bert.registry import did_you_mean


def named_files(named: list[str] | str, argument: str) -> list[Path]:
    """The files that an option names, in order.

    Args:
        named: a path, or a pattern such as shards/*.txt for all files that match it, by name; or several of these.
        argument: the option, for errors.

    Raises:
        UserError: a pattern matches nothing, or a file is named twice.
    """
    patterns = named if isinstance(named, list) else [named]
    files = [file for pattern in patterns for file in _matching(str(pattern), argument)]
    if not files:
        raise UserError(f"{argument}: an empty list; name one file at least.")
    places = [file.resolve() for file in files]
    if len(set(places)) < len(places):
        twice = [str(file) for file, place in zip(files, places, strict=True) if places.count(place) > 1]
        raise UserError(f"{argument}: one file is named more than once: {', '.join(twice)}.")
    return files


def _matching(pattern: str, argument: str) -> list[Path]:
    """The files that a path or a pattern stands for; a path need not exist."""
    if not pattern:
        raise UserError(f"{argument}: '' names no file.")
    if Path(pattern).exists():
        return [Path(pattern)]
    if pattern[0] == "[" and pattern[-1] == "]":  # a list with something else than names in it
        quoted = f"put a name that reads as a number in quotes, as in --{argument} '[\"2019\", b.txt]'"
        raise UserError(f"{argument}: {pattern} is no list of names; {quoted}.")
    if set(pattern) & set("*?["):
        found = sorted(Path(match) for match in glob.glob(pattern, recursive=True) if not Path(match).is_dir())
        if not found:
            raise UserError(f"{argument}: no file matches {pattern!r}.")
        return found
    parts = [part.strip() for part in pattern.split(",")]
    if len(parts) > 1 and all(map(os.path.exists, parts)):
        raise UserError(f"{argument}: no such file: '{pattern}'; a list is written as \"[{', '.join(parts)}]\".")
    return [Path(pattern)]


_SIGNATURES = {
    b"\x1f\x8b": "is compressed; unpack it first: gunzip",
    b"PK\x03\x04": "is a zip archive; unpack it first: unzip",
    b"BZh91AY&SY": "is compressed; unpack it first: bunzip2",
    b"\xfd7zXZ": "is compressed; unpack it first: unxz",
    b"\x28\xb5\x2f\xfd": "is compressed; unpack it first: unzstd",
    b"PAR1\x15": "is a Parquet file; write its text as JSON lines and set data.format=jsonl",
    b"\xff\xfe": "is UTF-16; convert it: iconv -f UTF-16 -t UTF-8",
    b"\xfe\xff": "is UTF-16; convert it: iconv -f UTF-16 -t UTF-8",
}


def refuse_unreadable(path: Path, argument: str) -> None:
    """Refuse anything but a regular, readable text file, since it is read more than once.

    Raises:
        UserError: it is missing, a folder, a pipe, unreadable, empty, compressed or binary.
    """
    if path.is_dir():
        raise UserError(
            f"{argument}: '{path}' is a folder; name its files, as in --{argument} '{path}/*' (with the quotes)."
        )
    if not path.exists():
        raise UserError(f"{argument}: no such file: '{path}'{_closest_file(path)}.")
    if not path.is_file():
        raise UserError(f"{argument}: '{path}' is not a regular file; it is read more than once.")
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise UserError(f"{argument}: '{path}' cannot be read: {error.strerror}.") from None
    if not head:
        raise UserError(f"{argument}: '{path}' is empty.")
    for signature, what in _SIGNATURES.items():
        if head.startswith(signature):
            raise UserError(f"{argument}: '{path}' {what}.")
    if b"\0" in head and "\ufffd" in head[:-3].decode(errors="replace"):
        raise UserError(f"{argument}: '{path}' is a binary file, not UTF-8 text.")
    if 4 * head.count(b"\0") > len(head):
        raise UserError(
            f"{argument}: '{path}' is UTF-16 or UTF-32 by its zero bytes; convert it: iconv -t UTF-8 -f UTF-16LE."
        )


def _closest_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f" (nor is there a folder '{path.parent}')"
    return did_you_mean(path.name, [entry.name for entry in path.parent.iterdir() if entry.is_file()])
