"""Line-addressed corpus files, and the index of their documents.

Every reader gives the same lines: strict UTF-8, split only at b"\\n"; one "\\r" before it and a byte order mark at the
file's start are dropped, everything else is kept.
"""

import hashlib
import linecache
import mmap
import sys
from abc import ABC, abstractmethod
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bert.counting import count_of
from bert.errors import UserError
from bert.progress import progress
from bert.registry import did_you_mean, lookup
from bert.sentence_splitter import split_sentences
from pretrain.array_cache import GrowingArray, keep
from pretrain.documents import FORMATS, CorpusFormat, write_index
from pretrain.read_ahead import read_ahead, read_bytes_ahead
from pretrain.utf8 import read_text, valid_chunks

__all__ = ["READERS", "Corpus", "CorpusFormat", "Reader", "open_corpus", "open_reader", "split_sentences"]

LINECACHE_WARNS_ABOVE = 200_000_000
"""File size in bytes above which the linecache reader recommends mmap."""

_BLOCK = 1 << 20  # bytes of lines handed out at once


class Reader(ABC):
    """The lines of a UTF-8 file by number, from 0; it can be pickled, and reopens the file when unpickled.

    Raises:
        UserError: a byte is not UTF-8 (line and offset are named), or the file changed since it was pickled.
    """

    def __init__(self, path: Path, cache: Path, fingerprint: tuple[int, int] | None = None) -> None:
        self.path = Path(path)
        self.cache = Path(cache)
        self.fingerprint = fingerprint or _fingerprint(self.path)  # size in bytes, mtime in ns
        self.refuse_changed()

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
    def expect(self, first: np.ndarray, last: np.ndarray) -> None:
        """Prepare for these ranges of lines; `last` is exclusive."""

    @abstractmethod
    def blocks(self) -> Iterator[list[str]]:
        """All lines in order, in blocks of about a megabyte."""

    def refuse_changed(self) -> None:
        """Raise UserError if the file has changed since it was first opened."""
        if _fingerprint(self.path) != self.fingerprint:
            raise UserError(f"{self.path}: the file changed while it was in use; start again once it is complete.")

    def __reduce__(self) -> tuple:
        return type(self), (self.path, self.cache, self.fingerprint)

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
        with GrowingArray(folder / "offsets.npy", np.int64) as offsets, _progress(self, "B") as progress:
            offsets.extend([end])
            for chunk in valid_chunks(self.path):
                ends = np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n")) + (size + 1)
                offsets.extend(ends)
                size += len(chunk)
                end = int(ends[-1]) if len(ends) else end
                progress.update(len(chunk))
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
        if self.fingerprint[0] > LINECACHE_WARNS_ABOVE and fingerprint is None:
            megabytes = self.fingerprint[0] // 1_000_000
            warning = f"data.reader: linecache holds all {megabytes} MB of '{self.path}' in every process's memory"
            print(f"{warning}; data.reader=mmap leaves it on disk.", file=sys.stderr)
        self._key = str(self.path.resolve())
        self._length = len(self._cached())

    def __len__(self) -> int:
        return self._length

    def line(self, number: int) -> str:
        self._check(number, number + 1)
        self._cached()
        return linecache.getline(self._key, number + 1)

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


def open_reader(name: str, path: Path, cache: Path) -> Reader:
    """The reader of that name for a file; what it keeps on disk is in the folder `cache`."""
    return lookup(READERS, name, "data.reader")(path, cache)


def _fingerprint(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _progress(reader: Reader, unit: str) -> tqdm:
    """A progress bar over the file's bytes ("B") or lines, if it takes more than two seconds."""
    total = reader.fingerprint[0] if unit == "B" else len(reader)
    name = f"indexing {reader.path.name}"
    return progress(total=total, desc=name, unit=unit, unit_scale=True, delay=2, leave=False)


class Corpus:
    """The documents of a corpus file, 0..num_documents - 1; it can be pickled, and reopens the file when unpickled.

    Attributes:
        num_documents, num_sentences: how many there are.
        empty_documents, blank_lines: documents of a JSON lines file that have no text and therefore no number, and its
            lines without even a document.
        refused, faults: how many lines were left out as faulty, and what is wrong with the first.
        num_bytes: size of the file.
        document_sentences: sentences before each document, and the total last, int64 (num_documents + 1,).
        document_hashes: first 8 bytes, little-endian, of the BLAKE2b of a document's sentences joined by
            newlines, uint64 (num_documents,). Both arrays are memory maps.
    """

    def __init__(self, reader: Reader, corpus_format: CorpusFormat) -> None:
        self.reader = reader
        self.format = corpus_format
        identity = {"path": str(reader.path.resolve()), **asdict(corpus_format)}
        facts, arrays = keep(reader.cache, "documents", identity, reader.fingerprint, self._build)
        self.num_bytes = reader.fingerprint[0]
        self.empty_documents, self.blank_lines = facts["empty_documents"], facts["blank_lines"]
        self.refused, self.faults = facts["refused"], facts["faults"]
        self.document_sentences = arrays["document_sentences"]
        self.document_hashes = arrays["document_hashes"]
        self._document_lines = arrays["document_lines"]  # (num_documents, 2) first line, line after the last
        self.num_documents = len(self.document_hashes)
        self.num_sentences = int(self.document_sentences[-1])
        self._sentences_of = lookup(FORMATS, corpus_format.format, "data.format").sentences

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the documents' text and order; independent of the file's name and time."""
        return hashlib.sha256(np.ascontiguousarray(self.document_hashes)).hexdigest()

    def sentences(self, document: int) -> list[str]:
        """A document's sentences, stripped, at least one. Raises IndexError outside 0..num_documents - 1."""
        if not 0 <= document < self.num_documents:
            raise IndexError(f"document {document} of {self.reader.path}, which has {self.num_documents}")
        start, stop = self._document_lines[document].tolist()
        lines = self.reader.lines(start, stop)
        return [sentence for line in lines for sentence in self._sentences_of(line, self.format)]

    def expect(self, documents: np.ndarray) -> None:
        """Have the system read these documents' text in one go, before they are asked for one by one."""
        read_ahead(self._document_lines, documents, documents + 1)
        self.reader.expect(*self._document_lines[documents].T)

    def __reduce__(self) -> tuple:
        return type(self), (self.reader, self.format)

    def _build(self, folder: Path) -> dict:
        facts = write_index(folder, _numbered_lines(self.reader), self.format, self.reader.path)
        self.reader.refuse_changed()
        return facts


def _numbered_lines(reader: Reader) -> Iterator[tuple[int, str]]:
    number = 0
    with _progress(reader, " lines") as progress:
        for block in reader.blocks():
            yield from enumerate(block, start=number)
            number += len(block)
            progress.update(len(block))


def open_corpus(path: Path, reader: str, format: CorpusFormat, cache: Path, argument: str = "data.train") -> Corpus:
    """The documents of a corpus file; their index is made once and kept in the folder `cache`.

    Args:
        path: the file.
        reader: a name in READERS.
        format: what the file holds.
        cache: where indexes are kept; created if missing.
        argument: the option that gave the path, for errors.

    Raises:
        UserError: the file cannot be read as such a corpus; the message says what to do instead.
    """
    path = Path(path)
    refuse_unreadable(path, argument)
    lookup(FORMATS, format.format, "data.format")
    corpus = Corpus(open_reader(reader, path, cache), format)
    if corpus.num_documents == 0:
        raise UserError(f"{argument}: no document in '{path}': {_why_none(corpus)}.")
    return corpus


def _why_none(corpus: Corpus) -> str:
    if corpus.refused:
        return f"{count_of(corpus.refused, 'line')} refused, as {corpus.faults[0].removesuffix('.')}"
    if corpus.empty_documents:
        return f"the field {corpus.format.text!r} is blank throughout ({count_of(corpus.empty_documents, 'line')})"
    return f"no sentence in its {count_of(len(corpus.reader), 'line')}"


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
            f"{argument}: '{path}' is a folder; give one file. `cat` joins several into one, if each ends with a blank "
            f"line or [EOD]."
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
