import json
import os
import pickle
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers

from bert import whole_file
from bert.errors import UserError
from bert.tokenizer import SPECIAL_TOKENS, Tokenizer, TokenizerConfig, train
from pretrain import cached_folder, token_store
from pretrain.corpus import Corpus, open_corpus
from pretrain.documents import CorpusFormat
from pretrain.on_the_fly import OnTheFly
from pretrain.token_source import TokenSource
from pretrain.token_store import open_store
from tests.pretrain.conftest import make_sampler, pairs_of, write_text


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a store; the times in its manifest set aside."""
    found = {file.name: file.read_bytes() for file in folder.iterdir()}
    manifest = json.loads(found["manifest.json"])
    for of_file in manifest["files"].values():
        of_file["time"] = 0
    return found | {"manifest.json": json.dumps(manifest).encode()}


def only_store(cache: Path) -> Path:
    (folder,) = cache.glob("tokens-*")
    return folder


@pytest.fixture
def opened(tmp_path):
    """The corpus of a few documents."""

    def opener(documents: list[list[str]]) -> Corpus:
        return open_corpus([write_text(tmp_path / "few.txt", documents)], "mmap", CorpusFormat(), tmp_path / "few")

    return opener


@pytest.fixture(params=["store", "on_the_fly"])
def source(request, corpus, tokenizer, store) -> TokenSource:
    return store if request.param == "store" else OnTheFly(corpus, tokenizer)


# What is read.


def test_every_sentence_is_read_as_the_tokenizer_alone_encodes_it(source, corpus, tokenizer):
    number = 0
    for document in range(corpus.num_documents):
        for line in corpus.sentences(document):
            one, following = np.array([number]), np.array([number + 1])
            expected = tokenizer.backend.encode(line, add_special_tokens=False)
            ids, word_starts = source.read(one, following)
            assert ids.tolist() == expected.ids
            words = expected.word_ids
            assert word_starts.tolist() == [i == 0 or words[i] != words[i - 1] for i in range(len(words))]
            assert source.counts(one, following).tolist() == [len(expected.ids)]
            number += 1
    assert number == source.sentence_offsets[-1]


@given(data=st.data())
def test_ranges_are_read_end_to_end_and_alike_from_store_and_on_the_fly(store, corpus, tokenizer, data):
    on_the_fly = OnTheFly(corpus, tokenizer)
    documents = data.draw(st.lists(st.integers(0, corpus.num_documents - 1), min_size=1, max_size=8))
    ranges = []
    for document in documents:
        begin, end = store.sentence_offsets[document], store.sentence_offsets[document + 1]
        first = data.draw(st.integers(int(begin), int(end) - 1))
        ranges.append((first, data.draw(st.integers(first + 1, int(end)))))
    first, last = np.array(ranges).T
    for a, b in zip(store.read(first, last), on_the_fly.read(first, last), strict=True):
        assert a.dtype == b.dtype
        assert a.tolist() == b.tolist()
    assert store.counts(first, last).tolist() == on_the_fly.counts(first, last).tolist()
    assert store.counts(first, last).sum() == len(store.read(first, last)[0])


def test_a_sentence_belongs_to_the_document_it_stands_in(source, corpus):
    expected = [d for d in range(corpus.num_documents) for _ in corpus.sentences(d)]
    assert source.document_of(np.arange(len(expected))).tolist() == expected


def test_on_the_fly_forgets_documents_without_changing_what_is_read(corpus, tokenizer, store):
    on_the_fly = OnTheFly(corpus, tokenizer)
    on_the_fly.remembered = 300
    for document in [0, 5, 9, 0, 12, 13, 14, 0]:
        first, last = store.sentence_offsets[[document]], store.sentence_offsets[[document + 1]]
        assert on_the_fly.read(first, last)[0].tolist() == store.read(first, last)[0].tolist()
        tokens = sum(len(encoded.ids) for encoded in on_the_fly._latest.values())
        assert tokens == on_the_fly._tokens
        assert tokens <= 300 or list(on_the_fly._latest) == [document]
    assert 1 < len(on_the_fly._latest) < 7
    assert not pickle.loads(pickle.dumps(on_the_fly))._latest


def test_on_the_fly_keeps_what_the_request_at_hand_needs(corpus, tokenizer, store):
    on_the_fly = OnTheFly(corpus, tokenizer)
    on_the_fly.remembered = 300
    for documents in (np.arange(10), np.array([0, 11])):  # more than are remembered, then an old one and a new one
        first, last = store.sentence_offsets[documents], store.sentence_offsets[documents + 1]
        assert on_the_fly.read(first, last)[0].tolist() == store.read(first, last)[0].tolist()


# What is on disk.


def test_a_store_is_the_same_from_one_process_two_and_many_shards(corpus, tokenizer, tmp_path, monkeypatch):
    open_store(corpus, tokenizer, tmp_path / "whole", 1)
    monkeypatch.setattr(token_store, "_SHARD_SENTENCES", 100)
    monkeypatch.setattr(token_store, "_BYTES_PER_PROCESS", 1)
    open_store(corpus, tokenizer, tmp_path / "shards", 1)
    assert len(list(token_store._shards(corpus))) > 2
    open_store(corpus, tokenizer, tmp_path / "processes", 2)
    whole, shards, processes = (contents(only_store(tmp_path / name)) for name in ("whole", "shards", "processes"))
    assert whole == shards == processes
    assert set(whole) >= {"ids.bin", "word_starts.bin", "token_offsets.npy", "manifest.json"}


def test_shards_are_runs_of_whole_documents_without_gaps(corpus, monkeypatch):
    for size in (1, 7, 10**6):
        monkeypatch.setattr(token_store, "_SHARD_SENTENCES", size)
        shards = list(token_store._shards(corpus))
        assert [document for first, last in shards for document in range(first, last)] == list(
            range(corpus.num_documents)
        )


def test_the_counts_are_those_of_the_ids(store, tokenizer):
    ids, _ = store.read(store.sentence_offsets[:-1], store.sentence_offsets[1:])
    assert store.manifest["tokens"] == len(ids)
    assert store.manifest["unknown_share"] == (ids == tokenizer.unk_id).mean()


def test_tokens_of_documents_are_added_up_without_reading_them(store, source):
    documents = np.array([0, 3, len(store.sentence_offsets) - 2])
    read, _ = store.read(store.sentence_offsets[documents], store.sentence_offsets[documents + 1])
    whole, _ = store.read(store.sentence_offsets[:1], store.sentence_offsets[-1:])
    counted = source.tokens_in(documents), source.tokens_in(documents[:0]), source.tokens_in()
    assert counted == ((len(read), 0, len(whole)) if source is store else (None, None, None))


def test_a_finished_store_is_used_again(corpus, tokenizer, tmp_path, monkeypatch):
    open_store(corpus, tokenizer, tmp_path, 1)
    monkeypatch.setattr(token_store, "_build", None)  # building again would fail
    assert open_store(corpus, tokenizer, tmp_path, 1).manifest["sentences"] == corpus.num_sentences


def test_another_corpus_or_tokenizer_has_a_store_of_its_own(corpus, tokenizer, opened, tmp_path):
    other_text = opened([["Another text.", "Quite another."]])
    other_tokenizer = train(["something else entirely"] * 3, TokenizerConfig(vocab_size=100))
    for text, by in ((corpus, tokenizer), (other_text, tokenizer), (other_text, other_tokenizer)):
        open_store(text, by, tmp_path, 1)
    assert len(list(tmp_path.glob("tokens-*"))) == 3


def test_a_build_that_fails_leaves_nothing_behind(corpus, tokenizer, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(token_store, "_move", full)
    with pytest.raises(OSError, match="No space left"):
        open_store(corpus, tokenizer, tmp_path, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_another_process_finished_first_is_taken(corpus, tokenizer, tmp_path, monkeypatch):
    build = token_store._build

    def build_twice(*args):
        build(*args)
        monkeypatch.setattr(token_store, "_build", build)
        open_store(corpus, tokenizer, tmp_path, 1)

    monkeypatch.setattr(token_store, "_build", build_twice)
    assert open_store(corpus, tokenizer, tmp_path, 1).manifest["documents"] == corpus.num_documents
    assert [folder.name for folder in tmp_path.iterdir()] == [only_store(tmp_path).name]


def test_a_pickled_store_reads_the_same(store):
    again, everything = pickle.loads(pickle.dumps(store)), (store.sentence_offsets[:-1], store.sentence_offsets[1:])
    assert np.array_equal(again.read(*everything)[0], store.read(*everything)[0])
    assert len(pickle.dumps(store)) < 10_000


def test_ids_above_65535_are_kept_whole(opened, tmp_path):
    words = [f"w{number}" for number in range(70_000)]
    vocabulary = {word: number for number, word in enumerate([*SPECIAL_TOKENS, *words])}
    backend = Backend(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    store = open_store(opened([["w0 w65530 w65531 w69999", "w7"]]), Tokenizer(backend), tmp_path, 1)
    assert store.read(np.array([0]), np.array([2]))[0].tolist() == [5, 65_535, 65_536, 70_004, 12]


# Lines that become no tokens at all.

BLANK = "\u200b\u200d\ufeff"  # the tokenizer drops them; they are no white space, so they make a sentence
WITH_BLANKS = [
    ["One two.", BLANK, "Three four."],
    [BLANK],
    [BLANK, BLANK, "Five six.", "Seven.", BLANK],
    ["Eight nine.", "Ten."],
]


@pytest.fixture
def letters() -> Tokenizer:
    return train(["one two three four five six seven eight nine ten ."], TokenizerConfig(vocab_size=100))


def test_a_line_without_tokens_counts_as_a_sentence_of_none(opened, letters, tmp_path):
    corpus = opened(WITH_BLANKS)
    for source in (open_store(corpus, letters, tmp_path, 1), OnTheFly(corpus, letters)):
        counts = source.counts(source.sentence_offsets[:-1], source.sentence_offsets[1:])
        assert (counts == 0).tolist() == [False, True, False, True, True, True, False, False, True, False, False]
        assert source.read(np.array([1]), np.array([2]))[0].tolist() == []


def test_pairs_skip_lines_without_tokens(opened, letters, tmp_path):
    source = open_store(opened(WITH_BLANKS), letters, tmp_path, 1)
    sampler = make_sampler(source, letters, sentence__objective="none", sentence__input="sentence_pair")
    lines = [[letters.encode_lines([line]).ids.tolist() for line in text if line != BLANK] for text in WITH_BLANKS]
    expected = [tuple(document) for document in lines if len(document) == 2]
    assert sorted((a.tolist(), b.tolist()) for a, b, _ in pairs_of(sampler)) == sorted(expected)


def test_a_corpus_without_a_single_token_is_refused(opened, letters, tmp_path):
    with pytest.raises(UserError, match="nothing in it is text to the tokenizer"):
        open_store(opened([[BLANK, BLANK], [BLANK]]), letters, tmp_path, 1)


def spoil(file: Path, how: str) -> None:
    content = file.read_bytes()
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    changed = {
        "truncated": content[:-3],
        "altered": bytes([content[0] ^ 1]) + content[1:],
        "altered, its time put back": bytes([content[0] ^ 1]) + content[1:],
        "touched": content,
        "gone": None,
    }[how]
    if changed is None:
        file.unlink()
        return
    file.write_bytes(changed)
    if how == "altered, its time put back":
        os.utime(file, ns=times)


@pytest.mark.parametrize("name", ["ids.bin", "word_starts.bin", "token_offsets.npy", "manifest.json"])
@pytest.mark.parametrize("how", ["truncated", "altered", "altered, its time put back", "touched", "gone"])
def test_a_damaged_store_is_built_again_and_a_whole_one_is_not(name, how, corpus, tokenizer, tmp_path, capsys):
    first = open_store(corpus, tokenizer, tmp_path, 1)
    before = {file.name: file.read_bytes() for file in first.folder.iterdir()}
    folder = first.folder
    del first
    spoil(folder / name, how)
    capsys.readouterr()
    again = open_store(corpus, tokenizer, tmp_path, 1, verify=how == "altered, its time put back")
    assert ("is damaged" in capsys.readouterr().out) == (how != "touched")
    with pytest.MonkeyPatch.context() as patch:  # after one look at a file that was touched it is known again
        patch.setattr(whole_file, "sha256", None)
        open_store(corpus, tokenizer, tmp_path, 1)
    after = {file.name: file.read_bytes() for file in again.folder.iterdir()}
    before.pop("manifest.json")
    after.pop("manifest.json")
    assert after == before


def test_a_store_half_built_is_nothing_and_four_builders_make_one(corpus, tokenizer, tmp_path):
    half = tmp_path / f".{token_store.folder_of(corpus, tokenizer, tmp_path).name}-1-x"
    half.mkdir()
    (half / "shard-0-ids").write_bytes(b"half")
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: open_store(corpus, tokenizer, tmp_path, 1), range(4)))
    assert len({store.folder for store in stores}) == 1
    assert [folder for folder in tmp_path.glob("*tokens-*") if folder != half] == [stores[0].folder]
    assert half.is_dir()  # another process may be at it
    cached_folder.remove(stores[0].folder)
    long_ago = time.time() - 7200
    for path in (half / "shard-0-ids", half):
        os.utime(path, (long_ago, long_ago))
    open_store(corpus, tokenizer, tmp_path, 1)
    assert not half.exists()


def test_a_store_that_cannot_be_read_is_not_taken_for_damaged(corpus, tokenizer, tmp_path, monkeypatch):
    folder = open_store(corpus, tokenizer, tmp_path, 1).folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o777 & ~_umask()  # others may read it too

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(UserError, match=r"^data\.cache: '.*tokens-.*' cannot be read: Permission denied\.$"):
        open_store(corpus, tokenizer, tmp_path, 1)
    assert folder.is_dir()


def test_a_damaged_store_that_cannot_be_removed_is_not_used(corpus, tokenizer, tmp_path, monkeypatch):
    folder = open_store(corpus, tokenizer, tmp_path, 1).folder
    spoil(folder / "ids.bin", "truncated")

    def refuse(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(UserError, match=r"is damaged and cannot be removed: Read-only file system\.$"):
        open_store(corpus, tokenizer, tmp_path, 1)


def _umask() -> int:
    os.umask(now := os.umask(0))
    return now
