"""The documents of a corpus, which is one file or several, and the index of them."""

import hashlib
import sys
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np

from bert.counting import count_of
from bert.errors import UserError
from bert.progress import progress
from bert.registry import lookup
from pretrain import ragged
from pretrain.array_cache import keep
from pretrain.corpus_files import refuse_unreadable
from pretrain.documents import FORMATS, CorpusFormat, write_index
from pretrain.read_ahead import read_ahead
from pretrain.readers import Files

LINECACHE_WARNS_ABOVE = 200_000_000
"""Size of a corpus in bytes above which mmap is recommended in place of linecache."""


class Corpus:
    """The documents of some files, 0..num_documents - 1; it can be pickled, and reads the files anew when unpickled.

    A document ends where its file does. So the corpus of several files is that of one file with the same documents.

    Attributes:
        files, format: that it is read from, and what they hold.
        text_bytes: bytes of the documents' text in each file, (files,).
        first_lines: how many lines are before each file, and the total last, (files + 1,).
        num_documents, num_sentences: how many there are.
        empty_documents, blank_lines: documents of JSON lines files that have no text and therefore no number, and their
            lines without even a document.
        refused, faults: how many lines were left out as faulty, and what is wrong with the first.
        num_bytes: size of the files.
        document_sentences: sentences before each document, and the total last, int64 (num_documents + 1,).
        document_hashes: first 8 bytes, little-endian, of the BLAKE2b of a document's sentences joined by
            newlines, uint64 (num_documents,). Both arrays are memory maps.
    """

    def __init__(self, files: Files, corpus_format: CorpusFormat) -> None:
        self.files = files
        self.format = corpus_format
        self.num_bytes = sum(size for size, _ in files.fingerprints)
        identity = {"path": "\n".join(str(path.resolve()) for path in files.paths), **asdict(corpus_format)}
        fingerprint = [number for fingerprint in files.fingerprints for number in fingerprint]
        facts, arrays = keep(files.cache, "documents", identity, fingerprint, self._build)
        self.empty_documents, self.blank_lines = facts["empty_documents"], facts["blank_lines"]
        self.refused, self.faults = facts["refused"], facts["faults"]
        self.text_bytes = np.array(facts["text_bytes"], np.float64)
        self.first_lines = ragged.offsets(np.array(facts["lines"]))  # of each file, and the end
        self.document_sentences = arrays["document_sentences"]
        self.document_hashes = arrays["document_hashes"]
        self._document_lines = arrays["document_lines"]  # (num_documents, 2) first line, line after the last
        self.num_documents = len(self.document_hashes)
        self.num_sentences = int(self.document_sentences[-1])
        self._sentences_of = lookup(FORMATS, corpus_format.format, "data.format").sentences

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the documents' text and order; independent of the files' names, times and number."""
        return hashlib.sha256(np.ascontiguousarray(self.document_hashes)).hexdigest()

    @cached_property
    def file_offsets(self) -> np.ndarray:
        """How many documents are before each file, and the total last, (files + 1,)."""
        documents = range(self.num_documents)
        return np.array([bisect_left(documents, n, key=lambda d: self._document_lines[d, 0]) for n in self.first_lines])

    @property
    def name(self) -> str:
        """The file, or how many there are, for messages."""
        paths = self.files.paths
        return f"'{paths[0]}'" if len(paths) == 1 else f"{len(paths):,} files"

    @property
    def empty_files(self) -> int:
        """How many files have no document."""
        return int((np.diff(self.file_offsets) == 0).sum())

    def sentences(self, document: int) -> list[str]:
        """A document's sentences, stripped, at least one. Raises IndexError outside 0..num_documents - 1."""
        if not 0 <= document < self.num_documents:
            raise IndexError(f"document {document} of {self.name}, with {self.num_documents}")
        start, stop = self._document_lines[document].tolist()
        file = int(self._file_of_line(start))
        before = int(self.first_lines[file])
        lines = self.files.reader(file).lines(start - before, stop - before)
        return [sentence for line in lines for sentence in self._sentences_of(line, self.format)]

    def expect(self, documents: np.ndarray) -> None:
        """Have the system read these documents' text in one go, before they are asked for one by one."""
        read_ahead(self._document_lines, documents, documents + 1)
        lines = self._document_lines[documents]
        files = self._file_of_line(lines[:, 0])
        for file in np.unique(files).tolist():
            first, last = (lines[files == file] - self.first_lines[file]).T
            self.files.reader(file).expect(first, last)

    def files_of(self, documents: np.ndarray) -> np.ndarray:
        """The number of each document's file."""
        return ragged.containing(self.file_offsets, documents)

    def __reduce__(self) -> tuple:
        return type(self), (self.files, self.format)

    def _file_of_line(self, lines: np.ndarray | int) -> np.ndarray:
        """Which file each line is in."""
        return ragged.containing(self.first_lines, lines)

    def _build(self, folder: Path) -> dict:
        counts: list[int] = []
        facts = write_index(folder, self._lines(counts), self.format)
        self.files.refuse_changed()
        # In order: the next process may call the same files by other paths.
        return facts | {"lines": counts, "text_bytes": [facts["text_bytes"][str(path)] for path in self.files.paths]}

    def _lines(self, counts: list[int]) -> Iterator[tuple[Path, int, str]]:
        """All lines, each with its file and its number there, from 1; how many each file has is added to `counts`."""
        with progress(
            total=self.num_bytes, desc="finding documents", unit="B", unit_scale=True, delay=2, leave=False
        ) as bar:
            for file, path in enumerate(self.files.paths):
                reader, number = self.files.reader(file), 0
                counts.append(len(reader))
                for block in reader.blocks():
                    for line in block:
                        number += 1
                        yield path, number, line
                    bar.update(reader.fingerprint[0] * len(block) / len(reader))


def open_corpus(
    paths: Sequence[Path], reader: str, format: CorpusFormat, cache: Path, argument: str = "data.train"
) -> Corpus:
    """The documents of some files; their index is made once and kept in the folder `cache`.

    Args:
        paths: of the files, at least one.
        reader: a name in READERS.
        format: what the files hold.
        cache: where indexes are kept; created if missing.
        argument: the option that named them, for errors.

    Raises:
        UserError: they cannot be read as such a corpus; the message says what to do instead.
    """
    for path in paths:
        refuse_unreadable(path, argument)
    lookup(FORMATS, format.format, "data.format")
    files = Files(paths, reader, cache)
    size = sum(size for size, _ in files.fingerprints)
    if reader == "linecache" and size > LINECACHE_WARNS_ABOVE:
        warning = f"data.reader: linecache holds all {size // 1_000_000} MB of {argument} in every process's memory"
        print(f"{warning}; data.reader=mmap leaves it on disk.", file=sys.stderr)
    corpus = Corpus(files, format)
    if corpus.num_documents == 0:
        raise UserError(f"{argument}: no document in {corpus.name}: {_why_none(corpus)}.")
    return corpus


def _why_none(corpus: Corpus) -> str:
    if corpus.refused:
        return f"{count_of(corpus.refused, 'line')} refused, as {corpus.faults[0].removesuffix('.')}"
    if corpus.empty_documents:
        return f"the field {corpus.format.text!r} is blank throughout ({count_of(corpus.empty_documents, 'line')})"
    return f"no sentence in its {count_of(int(corpus.first_lines[-1]), 'line')}"
