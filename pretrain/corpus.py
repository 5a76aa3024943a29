"""The documents of a corpus, which is one file or several, and the index of them."""

import errno
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from itertools import chain
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
from pretrain.readers import Reader, open_reader


class Corpus:
    """The documents of some files, 0..num_documents - 1; it can be pickled, and reopens the files when unpickled.

    A document ends where its file does. So the corpus of several files is that of one file with the same documents.

    Attributes:
        paths: of the files.
        num_documents, num_sentences: how many there are.
        empty_documents, blank_lines: documents of JSON lines files that have no text and therefore no number, and their
            lines without even a document.
        refused, faults: how many lines were left out as faulty, and what is wrong with the first.
        num_bytes: size of the files.
        document_sentences: sentences before each document, and the total last, int64 (num_documents + 1,).
        document_hashes: first 8 bytes, little-endian, of the BLAKE2b of a document's sentences joined by
            newlines, uint64 (num_documents,). Both arrays are memory maps.
    """

    def __init__(self, readers: Sequence[Reader], corpus_format: CorpusFormat) -> None:
        self.readers = readers
        self.format = corpus_format
        self.paths = [reader.path for reader in readers]
        self.num_bytes = sum(reader.fingerprint[0] for reader in readers)
        self._first_lines = ragged.offsets(np.array([len(reader) for reader in readers]))  # of each file, and the end
        identity = {"path": "\n".join(str(path.resolve()) for path in self.paths), **asdict(corpus_format)}
        fingerprint = [number for reader in readers for number in reader.fingerprint]
        facts, arrays = keep(readers[0].cache, "documents", identity, fingerprint, self._build)
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
        """SHA-256 of the documents' text and order; independent of the files' names, times and number."""
        return hashlib.sha256(np.ascontiguousarray(self.document_hashes)).hexdigest()

    @property
    def name(self) -> str:
        """The file, or how many there are, for messages."""
        return f"'{self.paths[0]}'" if len(self.paths) == 1 else f"{len(self.paths):,} files"

    def sentences(self, document: int) -> list[str]:
        """A document's sentences, stripped, at least one. Raises IndexError outside 0..num_documents - 1."""
        if not 0 <= document < self.num_documents:
            raise IndexError(f"document {document} of {self.name}, with {self.num_documents}")
        start, stop = self._document_lines[document].tolist()
        file = int(self._files_of(start))
        before = int(self._first_lines[file])
        lines = self.readers[file].lines(start - before, stop - before)
        return [sentence for line in lines for sentence in self._sentences_of(line, self.format)]

    def expect(self, documents: np.ndarray) -> None:
        """Have the system read these documents' text in one go, before they are asked for one by one."""
        read_ahead(self._document_lines, documents, documents + 1)
        lines = self._document_lines[documents]
        files = self._files_of(lines[:, 0])
        for file in np.unique(files).tolist():
            first, last = (lines[files == file] - self._first_lines[file]).T
            self.readers[file].expect(first, last)

    def refuse_changed(self) -> None:
        """Raise UserError if a file has changed since it was first opened."""
        for reader in self.readers:
            reader.refuse_changed()

    def __reduce__(self) -> tuple:
        return type(self), (self.readers, self.format)

    def _files_of(self, lines: np.ndarray | int) -> np.ndarray:
        """Which file each line is in; an empty one has none."""
        return np.searchsorted(self._first_lines, lines, side="right") - 1

    def _build(self, folder: Path) -> dict:
        total = int(self._first_lines[-1])
        lines = progress(
            self._lines(), total=total, desc="finding documents", unit=" lines", unit_scale=True, delay=2, leave=False
        )
        facts = write_index(folder, lines, self.format)
        self.refuse_changed()
        return facts

    def _lines(self) -> Iterator[tuple[Path, int, str]]:
        """All lines, each with its file and its number there, from 1."""
        for reader in self.readers:
            for number, line in enumerate(chain.from_iterable(reader.blocks()), 1):
                yield reader.path, number, line


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
    try:
        corpus = Corpus([open_reader(reader, path, cache) for path in paths], format)
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
        raise UserError(
            f"{argument}: {count_of(len(paths), 'file')}, more than this system lets a process keep open; allow more "
            f"(`ulimit -n {4 * len(paths)}`), or join some with `cat`."
        ) from None
    if corpus.num_documents == 0:
        raise UserError(f"{argument}: no document in {corpus.name}: {_why_none(corpus)}.")
    return corpus


def _why_none(corpus: Corpus) -> str:
    if corpus.refused:
        return f"{count_of(corpus.refused, 'line')} refused, as {corpus.faults[0].removesuffix('.')}"
    if corpus.empty_documents:
        return f"the field {corpus.format.text!r} is blank throughout ({count_of(corpus.empty_documents, 'line')})"
    return f"no sentence in its {count_of(sum(map(len, corpus.readers)), 'line')}"
