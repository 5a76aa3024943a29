"""What the sampler's tests share: a made-up corpus on disk, and token sources and samplers that need none."""

import hashlib
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bert.packed import PackedBatch
from bert.tokenizer import Tokenizer, TokenizerConfig, train
from pretrain import ragged
from pretrain.block import Block
from pretrain.config import DataConfig, MaskingConfig, SentenceConfig
from pretrain.corpus import Corpus, open_corpus
from pretrain.data import Recipe, Sampler
from pretrain.documents import CorpusFormat
from pretrain.token_source import TokenSource
from pretrain.token_store import TokenStore, open_store

PAD, UNK, CLS, SEP, MASK = range(5)
FIRST = 5
"""The lowest id of text in a `ListSource`."""


class ListSource(TokenSource):
    """Documents given as lists of sentences, each a list of ids; every third token goes on with a word.

    They are in one file, or in files of so many.
    """

    def __init__(self, documents: list[list[list[int]]], files: Sequence[int] = ()) -> None:
        sentences = [sentence for document in documents for sentence in document]
        self.documents = documents
        self.token_offsets = ragged.offsets(np.array([len(sentence) for sentence in sentences]))
        self.ids = np.array([number for sentence in sentences for number in sentence], np.int64)
        self.word_starts = np.arange(len(self.ids)) % 3 != 2
        self.word_starts[self.token_offsets[:-1][np.diff(self.token_offsets) > 0]] = True
        texts = [hashlib.blake2b(repr(document).encode(), digest_size=8).digest() for document in documents]
        file_offsets = ragged.offsets(np.array(files or [len(documents)]))
        corpus = SimpleNamespace(
            document_sentences=ragged.offsets(np.array([len(document) for document in documents])),
            document_hashes=np.array([int.from_bytes(text, "little") for text in texts], np.uint64),
            num_bytes=4.0 * len(self.ids),
            num_documents=len(documents),
            file_offsets=file_offsets,
            files_of=partial(ragged.containing, file_offsets),
        )
        super().__init__(corpus)

    def counts(self, first, last):
        offsets = self.token_offsets
        lengths = [offsets[s + 1] - offsets[s] for a, b in zip(first, last, strict=True) for s in range(a, b)]
        return np.array(lengths, np.int64)

    def read(self, first, last):
        pieces = [slice(self.token_offsets[a], self.token_offsets[b]) for a, b in zip(first, last, strict=True)]
        return np.concatenate([self.ids[p] for p in pieces]), np.concatenate([self.word_starts[p] for p in pieces])

    def sentence_at(self, ids):
        """The sentence each id is from, where every token of the corpus has an id of its own (see `numbered`)."""
        return np.searchsorted(self.token_offsets, np.asarray(ids) - FIRST, side="right") - 1

    def document_at(self, ids):
        """The document each id is from, likewise."""
        return self.document_of(self.sentence_at(ids))

    def tokenizer(self) -> SimpleNamespace:
        """The ids that a sampler asks a tokenizer for."""
        size = int(self.ids.max()) + 1
        return SimpleNamespace(
            unk_id=UNK,
            cls_id=CLS,
            sep_id=SEP,
            mask_id=MASK,
            special_ids=np.arange(FIRST),
            ordinary_ids=np.arange(FIRST, size),
            vocab_size=size,
        )


def numbered(lengths: list[list[int]]) -> ListSource:
    """Documents with sentences of these lengths, whose tokens are numbered through: FIRST, FIRST + 1, ..."""
    documents, number = [], FIRST
    for of_document in lengths:
        ends = np.cumsum([number, *of_document]).tolist()
        documents.append([list(range(a, b)) for a, b in pairwise(ends)])
        number = ends[-1]
    return ListSource(documents)


def random_lengths(documents: int, seed: int, sentences: int = 14, tokens: int = 12) -> list[list[int]]:
    """Documents of 2 to `sentences` sentences of 1 to `tokens` tokens."""
    rng = np.random.default_rng(seed)
    return [rng.integers(1, tokens + 1, size).tolist() for size in rng.integers(2, sentences + 1, documents)]


def make_recipe(seed: int = 0, batch_size: int = 8, micro_batches: int = 1, **options) -> Recipe:
    """A Recipe from options as the command line has them, dots written as __: masking__rate=0.3."""
    sections = {"data": {"max_length": 32}, "sentence": {}, "masking": {}}
    for name, value in options.items():
        section, option = name.split("__")
        sections[section][option] = value
    return Recipe(
        DataConfig(**sections["data"]),
        SentenceConfig(**sections["sentence"]),
        MaskingConfig(**sections["masking"]),
        batch_size,
        seed,
        micro_batches,
    )


def make_sampler(source: TokenSource, tokenizer=None, block_documents: int = 16, held_out=(), **options) -> Sampler:
    """A sampler over the documents that are not held out, with blocks of so many documents."""
    drawn = np.flatnonzero(~np.isin(np.arange(len(source.document_hashes)), held_out))
    chosen = tokenizer or source.tokenizer()
    sampler = Sampler(source, drawn, chosen, make_recipe(**options))
    sampler.num_blocks = -(-len(drawn) // block_documents)
    return sampler


def blocks_of(sampler: Sampler, epoch: int = 0) -> list[Block]:
    return [sampler.block(epoch, number) for number in range(sampler.num_blocks)]


def batches_of(sampler: Sampler, epoch: int = 0) -> list[PackedBatch]:
    return [block.micro_batch(n) for block in blocks_of(sampler, epoch) for n in range(len(block))]


def fields(batch: PackedBatch) -> dict[str, torch.Tensor]:
    names = ("token_ids", "segment_ids", "position_ids", "cu_seqlens")
    return {**{name: getattr(batch, name) for name in names}, **batch.targets}


def same(one: PackedBatch, other: PackedBatch) -> bool:
    a, b = fields(one), fields(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def unmasked(block: Block) -> np.ndarray:
    """The ids of all of a block's sequences as they were before masking, (T,)."""
    ids = block.sequences.ids.copy()
    ids[block.masked] = block.masked_labels
    return ids


def pairs_of(sampler: Sampler, epochs: int = 1) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """Every pair of some epochs as (ids of A, ids of B, label), unmasked and without special tokens."""
    pairs = []
    for epoch in range(epochs):
        for number in range(sampler.num_blocks):
            block = sampler.block(epoch, number)
            ids, segments = unmasked(block), block.sequences.segments
            for begin, end, label in zip(
                block.sequences.cu_seqlens, block.sequences.cu_seqlens[1:], block.sequences.labels, strict=False
            ):
                first = begin + int((segments[begin:end] == 0).sum())
                pairs.append((ids[begin + 1 : first - 1], ids[first : end - 1], int(label)))
    return pairs


def made_up_text(documents: int = 60, seed: int = 7) -> list[list[str]]:
    """Documents of one to twelve sentences in made-up English and Korean words, frequent ones first."""
    rng = np.random.default_rng(seed)
    latin = ["".join(rng.choice(list("abdegiklmnorstu"), rng.integers(2, 8))) for _ in range(120)]
    hangul = ["".join(chr(0xAC00 + 28 * int(n)) for n in rng.integers(0, 40, rng.integers(1, 4))) for _ in range(120)]
    shares = 1 / np.arange(1, 121)
    shares /= shares.sum()

    def sentence(words: list[str]) -> str:
        chosen = [words[place] for place in rng.choice(120, rng.integers(2, 14), p=shares)]
        return " ".join(chosen).capitalize() + rng.choice([".", "?", " 3.5."])

    sizes = [1, 1, *rng.integers(2, 13, documents - 2).tolist()]
    return [[sentence(latin if rng.random() < 0.6 else hangul) for _ in range(size)] for size in sizes]


def write_text(path: Path, documents: list[list[str]]) -> Path:
    """A text corpus: one sentence per line, a blank line between documents."""
    path.write_text("\n\n".join("\n".join(document) for document in documents) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def text_file(tmp_path_factory) -> Path:
    """The made-up corpus of 60 documents, two of them one sentence long, and two copies of others."""
    documents = made_up_text()
    return write_text(tmp_path_factory.mktemp("text") / "corpus.txt", [*documents, documents[10], documents[20]])


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def corpus(text_file, cache) -> Corpus:
    return open_corpus([text_file], "mmap", CorpusFormat(), cache)


@pytest.fixture(scope="session")
def tokenizer(corpus) -> Tokenizer:
    lines = [line for document in range(corpus.num_documents) for line in corpus.sentences(document)]
    return train(lines, TokenizerConfig(vocab_size=500))


@pytest.fixture(scope="session")
def store(corpus, tokenizer, cache) -> TokenStore:
    return open_store(corpus, tokenizer, cache, 1)
