"""From the lines of corpus files to their documents: the file formats, and the index on disk.

A format is one function from a line to its sentences, and one entry in FORMATS.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bert.errors import UserError
from bert.lines import lone_surrogate
from bert.registry import did_you_mean, lookup
from bert.sentence_splitter import split_sentences
from pretrain.array_cache import GrowingArray

END_OF_DOCUMENT = "[EOD]"
"""A line of a text corpus that, like a blank one, ends a document."""


@dataclass(frozen=True)
class CorpusFormat:
    """What a corpus file holds."""

    format: str = "text"
    """text: a sentence per line, a blank line or [EOD] between documents; jsonl: a document per line."""

    text: str = "text"
    """The field of a JSON line that holds its text, in which newlines separate paragraphs."""

    split_sentences: bool = False
    """Split each line (of text) or paragraph (of jsonl) into sentences; otherwise each is one."""

    on_bad_row: str = "error"
    """What becomes of a line that is no document: error, or skip."""


def text_line(line: str, corpus_format: CorpusFormat) -> list[str] | None:
    """The sentences of a line of text; None where it separates documents."""
    stripped = line.strip()
    if not stripped or stripped == END_OF_DOCUMENT:
        return None
    return split_sentences(stripped) if corpus_format.split_sentences else [stripped]


def json_line(line: str, corpus_format: CorpusFormat) -> list[str] | None:
    """The sentences of the document in a line of JSON, [] where its text is blank; None for a blank line.

    Raises:
        UserError: the line is not a JSON object with a string in the field (the message lacks file and line).
    """
    if not line.strip():
        return None
    text = _json_text(line, corpus_format.text)
    if corpus_format.split_sentences:
        return split_sentences(text)
    return [stripped for paragraph in text.split("\n") if (stripped := paragraph.strip())]


_NO_FIELD = "no field"


def _json_text(line: str, field: str) -> str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        else_ = "one object per line is needed" if line[:1] in "[{" else "plain text is read with data.format=text"
        raise UserError(f"not a JSON object ({error}); {else_}.") from None
    if not isinstance(row, dict):
        raise UserError(f"not a JSON object with a field {field!r}, but {_shortened(row)}.")
    if field not in row:
        raise UserError(f"{_NO_FIELD} {field!r}; it has {', '.join(row) or 'none'}{did_you_mean(field, row)}.")
    text = row[field]
    if not isinstance(text, str):
        raise UserError(f"the field {field!r} holds {_shortened(text)}, not a string.")
    if not text.isascii() and (half := lone_surrogate(text)):
        raise UserError(f"the field {field!r} holds {half}.")
    return text


def _shortened(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


class LineFormat(NamedTuple):
    """How lines make up documents."""

    sentences: Callable[[str, CorpusFormat], list[str] | None]
    """From a line to its sentences; None for a line outside any document."""

    document_per_line: bool
    """True: a line is a document; False: a document is a run of lines between those that give None."""


FORMATS = {"text": LineFormat(text_line, False), "jsonl": LineFormat(json_line, True)}


_MOST_FAULTS = 10  # bad lines reported together
_ROWS_AT_ONCE = 1 << 14


def write_index(folder: Path, lines: Iterable[tuple[Path, int, str]], corpus_format: CorpusFormat) -> dict[str, Any]:
    """Write the arrays of a Corpus for the lines of its files, in constant memory; a document ends where a file does.

    Args:
        folder: gets document_lines.npy, (D, 2): a document's first line and the line after its last, numbered from 0
            through all files;
            document_sentences.npy, (D + 1,), and document_hashes.npy, (D,), as in Corpus.
        lines: all lines of the files, in order, each with its file and its number there, from 1.
        corpus_format: how they are read.

    Returns:
        {"empty_documents": number of JSON lines with a blank text, "blank_lines": number of blank lines where a line is
        a document (elsewhere they separate documents), "refused": number of faulty lines that were left out, "faults":
        the first of them, as file:line, "text_bytes": bytes of the documents' text, by file}.

    Raises:
        UserError: with the first faulty lines, as file:line, unless they are to be skipped.
    """
    sentences_of, document_per_line = lookup(FORMATS, corpus_format.format, "data.format")
    skipping = corpus_format.on_bad_row == "skip"
    faults, refused, empty_documents, blank_lines = [], 0, 0, 0
    text_bytes: Counter[str] = Counter()
    with _IndexWriter(folder) as index:
        for number, (path, in_file, line) in enumerate(lines):
            try:
                sentences = sentences_of(line, corpus_format)
            except UserError as error:
                refused += 1
                if len(faults) < _MOST_FAULTS:
                    faults.append(f"{path}:{in_file}: {error}")
                elif not skipping:
                    break
                continue
            if sentences is None or document_per_line or in_file == 1:
                index.end_document()
            if sentences:
                text_bytes[str(path)] += index.add_line(number, sentences)
            elif sentences is not None:
                empty_documents += 1
            elif document_per_line:
                blank_lines += 1
        index.end_document()
    if faults and not skipping:
        names = " data.text names the field with the text." if any(_NO_FIELD in fault for fault in faults) else ""
        raise UserError(*faults, f"data.on_bad_row=skip leaves out lines like these.{names}")
    counts = {"empty_documents": empty_documents, "blank_lines": blank_lines, "refused": refused}
    return counts | {"faults": faults, "text_bytes": text_bytes}


class _IndexWriter:
    def __init__(self, folder: Path) -> None:
        self._lines = GrowingArray(folder / "document_lines.npy", np.int64, (2,))
        self._sentences = GrowingArray(folder / "document_sentences.npy", np.int64)
        self._hashes = GrowingArray(folder / "document_hashes.npy", np.uint64)
        self._rows: list[tuple[int, int, int, int]] = []  # first line, line after the last, sentences, hash
        self._num_sentences = 0  # up to here
        self._hash = None  # of the document that is open
        self._start = self._stop = 0

    def __enter__(self) -> "_IndexWriter":
        self._sentences.extend([0])
        return self

    def __exit__(self, *exception: object) -> None:
        with ExitStack() as files:
            for array in (self._lines, self._sentences, self._hashes):
                files.enter_context(array)
            self._write_rows()

    def add_line(self, number: int, sentences: list[str]) -> int:
        """Continue the open document, or start one, with this line's sentences, at least one; how many bytes."""
        joined = "\n".join(sentences).encode()
        if self._hash is None:
            self._hash, self._start = hashlib.blake2b(joined), number
        else:
            self._hash.update(b"\n" + joined)
        self._num_sentences += len(sentences)
        self._stop = number + 1
        return len(joined)

    def end_document(self) -> None:
        """Complete the open document, if any."""
        if self._hash is None:
            return
        digest = int.from_bytes(self._hash.digest()[:8], "little")
        self._rows.append((self._start, self._stop, self._num_sentences, digest))
        self._hash = None
        if len(self._rows) == _ROWS_AT_ONCE:
            self._write_rows()

    def _write_rows(self) -> None:
        self._lines.extend([row[:2] for row in self._rows])
        self._sentences.extend([row[2] for row in self._rows])
        self._hashes.extend([row[3] for row in self._rows])
        self._rows.clear()
