"""Line-addressed corpus files, and the index of their documents.

Every reader gives the same lines: strict UTF-8, split at b"\\n" alone (one "\\r" before it is dropped), a byte order
mark at the file's start dropped, everything else kept.
"""

import codecs
import contextlib
import hashlib
import json
import linecache
import mmap
import os
import secrets
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bert.errors import UserError, refuse_if
from bert.registry import did_you_mean, lookup
from pretrain.documents import FORMATS, CorpusFormat, split_sentences

__all__ = ["READERS", "Corpus", "CorpusFormat", "Reader", "open_corpus", "open_reader", "split_sentences"]

INDEX_VERSION = 1
"""Raised when the rules change, so that older indexes are made again."""

LINECACHE_WARNS_ABOVE = 200_000_000
"""Bytes of a file above which the linecache reader recommends the other."""

_CHUNK = 1 << 20  # bytes read at once


class Reader(ABC):
    """The lines of a UTF-8 file by number, from 0; it can be pickled, and is then opened anew.

    Raises:
        UserError: a byte is not UTF-8 (with line and offset), or the file changed since the pickled reader opened it.
    """

    def __init__(self, path: Path, cache: Path, fingerprint: tuple[int, int] | None = None) -> None:
        self.path = Path(path)
        self.cache = Path(cache)
        self.fingerprint = _fingerprint(self.path)  # size in bytes, mtime in ns
        if fingerprint not in (None, self.fingerprint):
            raise _changed(self.path)

    @abstractmethod
    def __len__(self) -> int:
        """Number of lines; a last line without a line ending counts."""

    @abstractmethod
    def line(self, number: int) -> str:
        """Line `number` (from 0) without its ending. Raises IndexError outside 0..len - 1."""

    @abstractmethod
    def lines(self, start: int, stop: int) -> list[str]:
        """Lines start..stop - 1. Raises IndexError unless 0 <= start <= stop <= len."""

    @abstractmethod
    def blocks(self) -> Iterator[list[str]]:
        """All lines in order, in blocks of about a megabyte."""

    def __reduce__(self) -> tuple:
        return type(self), (self.path, self.cache, self.fingerprint)

    def _check(self, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"lines {start}..{stop} of {self.path}, which has {len(self)}")


class MmapReader(Reader):
    """Lines from a memory map; the lines' offsets are a memory map too, so memory does not grow with the file."""

    def __init__(self, path: Path, cache: Path, fingerprint: tuple[int, int] | None = None) -> None:
        super().__init__(path, cache, fingerprint)
        identity = {"path": str(self.path.resolve())}
        _, arrays = _kept(self.cache, "lines", identity, self.fingerprint, self._build)
        self._offsets = arrays["offsets"]  # (lines + 1,) bytes before each line
        with self.path.open("rb") as file:
            size = self.fingerprint[0]
            self._bytes = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b""

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def line(self, number: int) -> str:
        return self.lines(number, number + 1)[0]

    def lines(self, start: int, stop: int) -> list[str]:
        self._check(start, stop)
        if start == stop:
            return []
        content = self._bytes[int(self._offsets[start]) : int(self._offsets[stop])]
        try:
            lines = content.decode().replace("\r\n", "\n").split("\n")
        except UnicodeDecodeError:  # it was valid when the offsets were taken
            raise _changed(self.path) from None
        return lines[: stop - start]  # drops what follows the last newline: nothing

    def blocks(self) -> Iterator[list[str]]:
        start = 0
        while start < len(self):
            stop = int(np.searchsorted(self._offsets, self._offsets[start] + _CHUNK, side="right")) - 1
            stop = max(start + 1, stop)
            yield self.lines(start, stop)
            start = stop

    def _build(self, folder: Path) -> dict:
        lines, size, start = 0, 0, 0
        with _GrowingArray(folder / "offsets.npy", np.int64) as offsets:
            for chunk in _valid_chunks(self.path):
                if size == 0:
                    start = len(codecs.BOM_UTF8) if chunk.startswith(codecs.BOM_UTF8) else 0
                    offsets.extend([start])
                newlines = np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n"))
                offsets.extend(newlines + (size + 1))
                lines, size = lines + len(newlines), size + len(chunk)
                start = size if chunk.endswith(b"\n") else start
            if size == 0 or start < size:
                offsets.extend([size])
        return {}


class _StrictLines(list):
    """Our own entry in linecache.cache, told from one that linecache read with its own guesses."""


class LinecacheReader(Reader):
    """Lines by `linecache.getline`, from its process-wide cache, filled here by our rules instead of its own."""

    def __init__(self, path: Path, cache: Path, fingerprint: tuple[int, int] | None = None) -> None:
        super().__init__(path, cache, fingerprint)
        if self.fingerprint[0] > LINECACHE_WARNS_ABOVE and fingerprint is None:
            megabytes = self.fingerprint[0] // 1_000_000
            print(
                f"data.reader: linecache keeps all {megabytes} MB of '{self.path}' in the memory of every process; "
                "data.reader=mmap keeps none.",
                file=sys.stderr,
            )
        self._key = str(self.path.resolve())
        self._length = len(self._entry())

    def __len__(self) -> int:
        return self._length

    def line(self, number: int) -> str:
        self._check(number, number + 1)
        self._entry()
        return linecache.getline(self._key, number + 1)

    def lines(self, start: int, stop: int) -> list[str]:
        self._check(start, stop)
        return self._entry()[start:stop]

    def blocks(self) -> Iterator[list[str]]:
        for start in range(0, len(self), 4096):  # slices of a list that is in memory anyway
            yield self.lines(start, min(start + 4096, len(self)))

    def _entry(self) -> list[str]:
        """The file's lines in linecache.cache; put there if they are not, or not by us, or of an older file."""
        entry = linecache.cache.get(self._key, (None, None, None, None))
        if isinstance(entry[2], _StrictLines) and entry[2].fingerprint == self.fingerprint:
            return entry[2]
    ...
