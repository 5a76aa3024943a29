"""Line-addressed text files.

Every reader gives the same lines: strict UTF-8, split only at b"\n"; one "\r" before it and a byte order mark at the
file's start are dropped, everything else is kept.
"""

import linecache
import mmap
from abc import ABC, abstractmethod
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from bert.errors import UserError
from bert.progress import progress
from bert.registry import lookup
from pretrain.array_cache import GrowingArray, keep
from pretrain.read_ahead import read_ahead, read_bytes_ahead
from pretrain.utf8 import read_text, valid_chunks

_BLOCK = 1 << 20  # bytes of lines handed out at once
_MOST_OPEN = 32  # files of a corpus; systems allow a process 256 or 1024 open files, and each takes two


class Reader(ABC):
    """The lines of a UTF-8 file by number, from 0.

    Args:
        path: of the file.
        cache: the folder of what is kept on disk.
        fingerprint: what the file's must be; None where it is opened for the first time.

    Raises:
        UserError: a byte is not UTF-8 (line and offset are named), or the file has another fingerprint.
    """

    def __init__(self, path: Path, cache: Path, fingerprint: tuple[int, int] | None = None) -> None:
        self.path = Path(path)
        self.cache = Path(cache)
        self.fingerprint = fingerprint or _fingerprint(self.path)
        self.refuse_changed()

    @abstractmethod
    def __len__(self) -> int:
        """Number of lines; a last line without a line ending counts."""

    @abstractmethod
    def lines(self, start: int, stop: int) -> list[str]:
        """Lines start..stop - 1, without their endings. Raises IndexError unless 0 <= start <= stop <= len."""

    @abstractmethod
    def expect(self, first: np.ndarray, last: np.ndarray) -> None:
        """Prepare for these ranges of lines; `last` is exclusive."""

    @abstractmethod
    def blocks(self) -> Iterator[list[str]]:
        """All lines in order, in blocks of about a megabyte."""

    def refuse_changed(self) -> None:
        """Raise UserError if the file has changed since it was first opened."""
        _refuse_changed(self.path, self.fingerprint)

    def _check(self, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"lines {start}..{stop} of {self.path}, which has {len(self)}")


class MmapReader(Reader):
    """Lines from a memory map; their offsets are mapped too, so memory does not grow with the file."""

    def __init__(self, path: Path, cache: Path, fingerprint: tuple[int, int] | None = None) -> None:
        super().__init__(path, cache, fingerprint)
        identity = {"path": str(self.path.resolve())}
        _, arrays = keep(self.cache, "lines", identity, self.fingerprint, self._build)
        self._offsets = arrays["offsets"]  # (lines + 1,) bytes before each line
        with self.path.open("rb") as file:
            size = self.fingerprint[0]
            self._bytes = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b""

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def lines(self, start: int, stop: int) -> list[str]:
        self._check(start, stop)
        if start == stop:
            return []
        content = self._bytes[int(self._offsets[start]) : int(self._offsets[stop])]
        try:
            lines = content.decode().replace("\r\n", "\n").split("\n")
        except UnicodeDecodeError:  # it was valid when the offsets were taken
            self.refuse_changed()
            raise
        return lines[: stop - start]  # drops the empty string after the last newline

    def expect(self, first: np.ndarray, last: np.ndarray) -> None:
        if len(self):
            read_ahead(self._offsets, first, last + 1)
            read_bytes_ahead(self._bytes, self._offsets[first], self._offsets[last])

    def blocks(self) -> Iterator[list[str]]:
        start = 0
        while start < len(self):
            stop = int(np.searchsorted(self._offsets, self._offsets[start] + _BLOCK, side="right")) - 1
            stop = max(start + 1, stop)
            yield self.lines(start, stop)
            start = stop

    def _build(self, folder: Path) -> dict:
        with self.path.open("rb") as file:
            end = len(BOM_UTF8) if file.read(len(BOM_UTF8)) == BOM_UTF8 else 0  # of the last complete line
        size = 0
        bar = progress(
            total=self.fingerprint[0],
            desc=f"indexing {self.path.name}",
            unit="B",
            unit_scale=True,
            delay=2,
            leave=False,
        )
        with GrowingArray(folder / "offsets.npy", np.int64) as offsets, bar:
            offsets.extend([end])
            for chunk in valid_chunks(self.path):
                ends = np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n")) + (size + 1)
                offsets.extend(ends)
                size += len(chunk)
                end = int(ends[-1]) if len(ends) else end
                bar.update(len(chunk))
            if end < size:
                offsets.extend([size])
        self.refuse_changed()
        return {}


class _StrictLines(list):
    """Our own lines in linecache.cache, as a type distinct from what linecache itself reads, by its own guesses."""

    fingerprint: tuple[int, int]


class LinecacheReader(Reader):
    """Lines from `linecache`, whose process-wide cache is filled here by our rules."""

    def __init__(self, path: Path, cache: Path, fingerprint: tuple[int, int] | None = None) -> None:
        super().__init__(path, cache, fingerprint)
        self._key = str(self.path.resolve())
        self._length = len(self._cached())

    def __len__(self) -> int:
        return self._length

    def lines(self, start: int, stop: int) -> list[str]:
        self._check(start, stop)
        return self._cached()[start:stop]

    def expect(self, first: np.ndarray, last: np.ndarray) -> None:
        return  # all lines are in memory

    def blocks(self) -> Iterator[list[str]]:
        for start in range(0, len(self), 4096):  # slices of a list that is in memory anyway
            yield self.lines(start, min(start + 4096, len(self)))

    def _cached(self) -> list[str]:
        """The lines in linecache.cache, put there if they are missing or not ours."""
        entry = linecache.cache.get(self._key, ())
        if len(entry) == 4 and getattr(entry[2], "fingerprint", None) == self.fingerprint:
            return entry[2]
        lines = _StrictLines(read_text(self.path).replace("\r\n", "\n").split("\n"))
        if not lines[-1]:
            lines.pop()  # the empty string after the last newline
        lines.fingerprint = self.fingerprint
        status = self.path.stat()
        self.refuse_changed()
        linecache.cache[self._key] = (status.st_size, status.st_mtime, lines, self._key)
        return lines


READERS = {"linecache": LinecacheReader, "mmap": MmapReader}


class Files:
    """The files of a corpus, by number; each is opened when it is first read, in every process anew.

    Attributes:
        paths: of the files.
        cache: the folder of what their readers keep.
        fingerprints: of each file, when the first process saw it: size in bytes, and time of change in ns.
        reader: a function from a file's number to its reader.
    """

    def __init__(
        self, paths: Sequence[Path], reader: str, cache: Path, fingerprints: list[tuple[int, int]] | None = None
    ) -> None:
        self.paths, self.cache = list(paths), Path(cache)
        self.fingerprints = fingerprints = fingerprints or [_fingerprint(path) for path in self.paths]
        self._given = self.paths, reader, cache, fingerprints
        type_ = lookup(READERS, reader, "data.reader")
        # Not a method, which would keep all of this alive beyond its last use.
        self.reader = lru_cache(_MOST_OPEN)(lambda number: type_(paths[number], Path(cache), fingerprints[number]))

    def refuse_changed(self) -> None:
        """Raise UserError if a file has changed since the first process saw it."""
        for path, fingerprint in zip(self.paths, self.fingerprints, strict=True):
            _refuse_changed(path, fingerprint)

    def __reduce__(self) -> tuple:
        return type(self), self._given


def _fingerprint(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _refuse_changed(path: Path, fingerprint: tuple[int, int]) -> None:
    if _fingerprint(path) != fingerprint:
        raise UserError(f"{path}: the file changed while it was in use; start again once it is complete.")
