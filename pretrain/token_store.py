"""The tokenised corpus on disk: built once per corpus and tokenizer, in parallel, then only memory-mapped.

A store is a folder:

    ids.bin              every token, uint16 or uint32
    word_starts.bin      1 where a token begins a word, uint8
    token_offsets.npy    tokens before each sentence, and the total last, int64
    manifest.json        fingerprint, sizes, shares; written last
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from bert import whole_file
from bert.errors import UserError
from bert.progress import progress
from bert.tokenizer import Tokenizer
from bert.tokenizer_files import load as load_tokenizer
from pretrain import cached_folder, ragged
from pretrain.corpus import Corpus
from pretrain.read_ahead import read_ahead
from pretrain.token_source import TokenSource

_VERSION = 2
_SHARD_SENTENCES = 50_000
_SENTENCES_AT_ONCE = 1000
_BYTES_PER_PROCESS = 32 << 20
"""Minimum text per process: with less, starting it takes longer than the tokenizer's own threads do."""


class TokenStore(TokenSource):
    """A finished store, memory-mapped: only what is read takes memory."""

    def __init__(self, corpus: Corpus, folder: Path) -> None:
        super().__init__(corpus)
        self.folder = folder
        self.manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        self.token_offsets = np.load(folder / "token_offsets.npy", mmap_mode="r")
        self._ids = np.memmap(folder / "ids.bin", self.manifest["dtype"], "r")
        self._word_starts = np.memmap(folder / "word_starts.bin", np.uint8, "r")

    def __reduce__(self) -> tuple:
        return type(self), (self.corpus, self.folder)  # another process maps the same files

    def counts(self, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Tokens of each sentence in the ranges, concatenated."""
        read_ahead(self.token_offsets, first, last + 1)
        sentences = ragged.ranges(first, last - first)
        return self.token_offsets[sentences + 1] - self.token_offsets[sentences]

    def tokens_in(self, documents: np.ndarray | None = None) -> int:
        """Tokens of these documents together, or of all; from where they begin and end, however long they are."""
        if documents is None:
            return self.manifest["tokens"]
        first, last = self.sentences_of(documents)
        return int((self.token_offsets[last] - self.token_offsets[first]).sum())

    def read(self, first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids and word starts of the ranges' tokens, concatenated."""
        read_ahead(self.token_offsets, first, last + 1)
        begins, ends = self.token_offsets[first], self.token_offsets[last]
        read_ahead(self._ids, begins, ends)
        read_ahead(self._word_starts, begins, ends)
        tokens = ragged.ranges(begins, ends - begins)
        return self._ids[tokens].astype(np.int64), self._word_starts[tokens].astype(bool)


def open_store(corpus: Corpus, tokenizer: Tokenizer, cache: Path, processes: int, verify: bool = False) -> TokenStore:
    """The store of this corpus and tokenizer, built if the cache has none, or a damaged one.

    Args:
        corpus: the text.
        tokenizer: what it is tokenised with.
        cache: the folder of stores; each has its own folder in it, named by fingerprint.
        processes: how many build at once; the result is the same for any number.
        verify: read an existing store, and compare it with what was written.
    """
    folder = folder_of(corpus, tokenizer, cache)
    damage = _damage(folder, verify)
    if damage is not None:
        print(f"token store: '{folder}' is damaged ({damage}); rebuilding it")
        cached_folder.remove(folder)
    if not folder.is_dir():
        with cached_folder.building(folder) as unfinished:
            _build(corpus, tokenizer, unfinished, processes)
    return TokenStore(corpus, folder)


def folder_of(corpus: Corpus, tokenizer: Tokenizer, cache: Path) -> Path:
    """The folder of this corpus and tokenizer's store, built or not."""
    return cache / f"tokens-{_fingerprint(corpus, tokenizer)[:16]}"


def _fingerprint(corpus: Corpus, tokenizer: Tokenizer) -> str:
    return hashlib.sha256(f"{_VERSION} {corpus.fingerprint} {tokenizer.fingerprint}".encode()).hexdigest()


def _damage(folder: Path, verify: bool) -> str | None:
    """What is wrong with a store; None if it is intact, or not there.

    Content is read if it is to be verified, or if a file's modification time has changed.
    """
    if not folder.is_dir():
        return None
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        files = manifest["files"]
        found = {name: (folder / name).stat() for name in files}
    except (FileNotFoundError, ValueError, KeyError) as error:
        return f"{type(error).__name__}: {error}"
    except OSError as error:  # it may be intact
        raise UserError(f"data.cache: '{folder}' cannot be read: {error.strerror}.") from None
    if wrong := [name for name, known in files.items() if found[name].st_size != known["size"]]:
        return f"size of {', '.join(wrong)}"
    touched = [name for name, known in files.items() if verify or found[name].st_mtime_ns != known["time"]]
    if wrong := [name for name in touched if whole_file.sha256(folder / name) != files[name]["sha256"]]:
        return f"content of {', '.join(wrong)}"
    if any(found[name].st_mtime_ns != known["time"] for name, known in files.items()):
        with contextlib.suppress(OSError):  # an intact copy: note its times, to spare reading it at each start
            times = {name: known | {"time": found[name].st_mtime_ns} for name, known in files.items()}
            whole_file.write(folder / "manifest.json", json.dumps(manifest | {"files": times}, indent=2) + "\n")
    return None


@dataclass(frozen=True)
class _Shard:
    """A run of documents, and where to write its tokens."""

    first: int
    last: int
    folder: Path
    dtype: str

    def file(self, name: str) -> Path:
        return self.folder / f"shard-{self.first}-{name}"


def _build(corpus: Corpus, tokenizer: Tokenizer, folder: Path, processes: int) -> None:
    dtype = "uint16" if tokenizer.vocab_size <= 2**16 else "uint32"
    tokenizer.save(folder, corpus.num_bytes)
    shards = [_Shard(first, last, folder, dtype) for first, last in _shards(corpus)]
    lengths = np.lib.format.open_memmap(folder / "token_offsets.npy", "w+", np.int64, (corpus.num_sentences + 1,))
    counts = np.zeros(tokenizer.vocab_size, np.int64)
    bar = progress(total=corpus.num_sentences, unit=" sentences", desc="tokenising", unit_scale=True)
    with (
        (folder / "ids.bin").open("wb") as ids,
        (folder / "word_starts.bin").open("wb") as word_starts,
        bar,
    ):
        done = 0
        for shard in _encode_all(corpus, shards, processes):
            of_shard = np.load(shard.file("lengths.npy"))
            assert len(of_shard) == np.subtract(*corpus.document_sentences[[shard.last, shard.first]])
            lengths[done + 1 : done + 1 + len(of_shard)] = of_shard
            done += len(of_shard)
            counts += np.bincount(np.fromfile(shard.file("ids"), dtype), minlength=len(counts))
            _move(shard.file("ids"), ids)
            _move(shard.file("word_starts"), word_starts)
            shard.file("lengths.npy").unlink()
            bar.update(len(of_shard))
    if not counts.any():
        raise UserError(f"{corpus.name}: nothing in it is text to the tokenizer (only control characters?).")
    np.cumsum(lengths, out=lengths)
    lengths.flush()
    corpus.files.refuse_changed()  # or the store would be of two texts
    unknown_share = float(counts[tokenizer.unk_id] / counts.sum())
    write_manifest(folder, corpus, tokenizer, dtype, int(counts.sum()), unknown_share)


def write_manifest(
    folder: Path, corpus: Corpus, tokenizer: Tokenizer, dtype: str, tokens: int, unknown_share: float
) -> None:
    """Write what a store's files are of and what they hold, with their checksums; this completes the store."""
    manifest = {
        "version": _VERSION,
        "fingerprint": _fingerprint(corpus, tokenizer),
        "corpus": corpus.fingerprint,
        "tokenizer": tokenizer.fingerprint,
        "dtype": dtype,
        "documents": corpus.num_documents,
        "sentences": corpus.num_sentences,
        "tokens": tokens,
        "unknown_share": unknown_share,
    }
    manifest["files"] = {
        name: {"size": (folder / name).stat().st_size, "time": (folder / name).stat().st_mtime_ns}
        | {"sha256": whole_file.sha256(folder / name)}
        for name in ("ids.bin", "word_starts.bin", "token_offsets.npy")
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _shards(corpus: Corpus) -> Iterator[tuple[int, int]]:
    """Runs of documents of about _SHARD_SENTENCES sentences."""
    first = 0
    while first < corpus.num_documents:
        wanted = corpus.document_sentences[first] + _SHARD_SENTENCES
        last = int(np.searchsorted(corpus.document_sentences, wanted))
        last = min(max(last, first + 1), corpus.num_documents)
        yield first, last
        first = last


def _encode_all(corpus: Corpus, shards: list[_Shard], processes: int) -> Iterator[_Shard]:
    """The shards, in order, each once its files are written."""
    processes = min(processes, corpus.num_bytes // _BYTES_PER_PROCESS)
    if processes < 2 or len(shards) < 2:
        _start_worker(corpus, shards[0].folder)
        yield from map(_encode, shards)
        return
    with ProcessPoolExecutor(
        processes, get_context("spawn"), initializer=_start_worker, initargs=(corpus, shards[0].folder, True)
    ) as pool:
        yield from pool.map(_encode, shards)


_worker: dict = {}


def _start_worker(corpus: Corpus, folder: Path, alone: bool = False) -> None:
    if alone:  # one thread each: the processes are the parallelism
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _worker.update(corpus=corpus, tokenizer=load_tokenizer(folder))


def _encode(shard: _Shard) -> _Shard:
    corpus, tokenizer = _worker["corpus"], _worker["tokenizer"]
    lengths = []
    with shard.file("ids").open("wb") as ids, shard.file("word_starts").open("wb") as word_starts:
        documents = (corpus.sentences(document) for document in range(shard.first, shard.last))
        for some in _grouped(documents):
            encoded = tokenizer.encode_documents(some)
            encoded.ids.astype(shard.dtype).tofile(ids)
            encoded.word_starts.astype(np.uint8).tofile(word_starts)
            lengths.append(encoded.lengths)
    np.save(shard.file("lengths.npy"), np.concatenate(lengths))
    return shard


def _grouped(documents: Iterator[list[str]]) -> Iterator[list[list[str]]]:
    """Documents grouped until they have enough sentences for a call to the tokenizer to be worthwhile."""
    some: list[list[str]] = []
    sentences = 0
    for document in documents:
        some.append(document)
        sentences += len(document)
        if sentences >= _SENTENCES_AT_ONCE:
            yield some
            some, sentences = [], 0
    if some:
        yield some


def _move(file: Path, target) -> None:
    with file.open("rb") as source:
        shutil.copyfileobj(source, target, 1 << 22)
    file.unlink()
