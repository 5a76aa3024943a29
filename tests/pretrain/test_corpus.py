import hashlib
import json
import linecache
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert.errors import UserError
from pretrain import corpus as corpus_module
from pretrain.corpus import READERS, CorpusFormat, open_corpus, open_reader

ROOT = Path(__file__).parents[2]
EVERY_READER = pytest.mark.parametrize("reader", READERS)
TEXT = CorpusFormat("text")
JSONL = CorpusFormat("jsonl", text="content")


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.fixture
def lines_of(tmp_path):
    """All lines that a reader finds in a file of these bytes."""

    def read(reader: str, content: bytes) -> list[str]:
        opened = open_reader(reader, write(tmp_path / "file.txt", content), tmp_path / "cache")
        return [opened.line(number) for number in range(len(opened))]

    return read


@pytest.fixture
def opened(tmp_path):
    """The corpus of a file of these bytes."""

    def opener(content: bytes | str, corpus_format: CorpusFormat = TEXT, reader: str = "mmap", name: str = "file.txt"):
        return open_corpus(write(tmp_path / name, content), reader, corpus_format, tmp_path / "cache", "data.valid")

    return opener


def documents(corpus) -> list[list[str]]:
    return [corpus.sentences(document) for document in range(corpus.num_documents)]


# Lines.


@EVERY_READER
@pytest.mark.parametrize(
    "content, lines",
    [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"a\n\nb", ["a", "", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\r\r\nb", ["a\r", "b"]),
        (b"a\rb\nc\r", ["a\rb", "c\r"]),
        (b"\r\n\r", ["", "\r"]),
        (b"a\x00b\n\x00", ["a\0b", "\0"]),
        (b"a\x0bb\x0cc\x1cd\x1ee\nf", ["a\x0bb\x0cc\x1cd\x1ee", "f"]),
        ("a\u2028b\u2029c\u0085d\ne".encode(), ["a\u2028b\u2029c\u0085d", "e"]),
        (b"\xef\xbb\xbfa\nb", ["a", "b"]),
        (b"\xef\xbb\xbf", []),
        (b"\xef\xbb\xbf\n", [""]),
        (b"\xef\xbb\xbf\xef\xbb\xbfa\n\xef\xbb\xbfb", ["\ufeffa", "\ufeffb"]),
        ("# -*- coding: latin-1 -*-\né".encode(), ["# -*- coding: latin-1 -*-", "é"]),
        (b"# coding: no-such-codec\na", ["# coding: no-such-codec", "a"]),
        ("가나다\n😀".encode(), ["가나다", "😀"]),
        (b" a \n\tb\t", [" a ", "\tb\t"]),
    ],
)
def test_lines_end_at_newlines_alone(lines_of, reader, content, lines):
    assert lines_of(reader, content) == lines


@EVERY_READER
def test_a_line_of_ten_megabytes_is_a_line(lines_of, reader):
    long = "가나다abc" * 900_000
    assert lines_of(reader, f"a\n{long}\r\nb".encode()) == ["a", long, "b"]


def bytes_of_lines() -> st.SearchStrategy[bytes]:
    pieces = [b"\n", b"\r", b"\r\n", b"\0", b"a", b"# coding: x", b"\xef\xbb\xbf", "가".encode(), "\u2028".encode()]
    return st.lists(st.sampled_from(pieces) | st.text(max_size=3).map(str.encode), max_size=20).map(b"".join)


@settings(deadline=None)
@given(bytes_of_lines())
def test_readers_give_the_same_lines_one_by_one_in_slices_and_in_blocks(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("same")
    path = write(folder / "file.txt", content)
    text = content.decode().removeprefix("\ufeff")
    expected = [line.removesuffix("\r") for line in text.split("\n")[:-1]]
    expected += [text.split("\n")[-1]] * (not text.endswith("\n") and text != "")
    for name in READERS:
        reader = open_reader(name, path, folder / "cache")
        assert [reader.line(number) for number in range(len(reader))] == expected
        assert reader.lines(0, len(reader)) == expected == [line for block in reader.blocks() for line in block]
        assert reader.lines(len(reader) // 2, len(reader)) == expected[len(reader) // 2 :]


@settings(deadline=None)
@given(st.lists(st.sampled_from([b"\n", b"a", b"\xff", b"\xea", b"\xb0", b"\x80", b"\xed\xa0\x80"]), max_size=12))
def test_readers_refuse_the_same_byte_in_the_same_words(tmp_path_factory, pieces):
    folder = tmp_path_factory.mktemp("bytes")
    path = write(folder / "file.txt", b"".join(pieces))
    said = []
    for name in READERS:
        try:
            said.append(len(open_reader(name, path, folder / "cache")))
        except UserError as error:
            said.append(str(error))
    assert said[0] == said[1]


@EVERY_READER
@pytest.mark.parametrize(
    "content, line, byte, offset",
    [
        (b"a\nb\xffc\n", 2, "0xff", 3),
        (b"\xef\xbb\xbf\n\n\xc3(", 3, "0xc3", 5),
        (b"ok\n\xea\xb0", 2, "0xea", 3),
        (b"\xed\xa0\x80", 1, "0xed", 0),
        (b"a" * ((1 << 20) - 1) + b"\n" + b"b" * (1 << 20) + b"\n\xff", 3, "0xff", (1 << 21) + 1),
        (b"\n" * ((1 << 20) - 1) + b"\xea\xb0\n", 1 << 20, "0xea", (1 << 20) - 1),  # cut by a chunk's end
    ],
)
def test_a_byte_that_is_not_utf8_is_named_by_line_and_offset(lines_of, tmp_path, reader, content, line, byte, offset):
    message = f"{tmp_path / 'file.txt'}:{line}: byte {byte} at offset {offset} is not UTF-8"
    with pytest.raises(UserError, match=re.escape(message)):
        lines_of(reader, content)


@EVERY_READER
def test_lines_outside_the_file_are_an_index_error(tmp_path, reader):
    opened = open_reader(reader, write(tmp_path / "file.txt", "a\nb\n"), tmp_path / "cache")
    assert opened.lines(1, 1) == [] == opened.lines(2, 2)
    for call in (
        lambda: opened.line(2),
        lambda: opened.line(-1),
        lambda: opened.lines(1, 3),
        lambda: opened.lines(2, 1),
    ):
        with pytest.raises(IndexError):
            call()


@EVERY_READER
def test_a_reader_and_a_corpus_survive_pickling_and_stay_small(tmp_path, reader):
    path = write(tmp_path / "file.txt", "a b\nc\n\n" * 10_000)
    corpus = open_corpus(path, reader, TEXT, tmp_path / "cache")
    pickled = pickle.dumps(corpus)
    again = pickle.loads(pickled)
    assert len(pickled) < 1000
    assert again.sentences(9_999) == ["a b", "c"] == again.reader.lines(29_997, 29_999)
    assert np.array_equal(again.document_hashes, corpus.document_hashes)


@EVERY_READER
def test_a_reader_works_in_a_spawned_process(tmp_path, reader):
    opened = open_reader(reader, write(tmp_path / "file.txt", "a\nb\n"), tmp_path / "cache")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(opened.line, (1,)) == "b"


@EVERY_READER
def test_a_pickled_reader_refuses_a_file_that_has_changed(tmp_path, reader):
    path = write(tmp_path / "file.txt", "a\nb\n")
    pickled = pickle.dumps(open_reader(reader, path, tmp_path / "cache"))
    write(path, "a\nbc\n")
    with pytest.raises(UserError, match="the file changed while it was in use"):
        pickle.loads(pickled)


@EVERY_READER
def test_an_unknown_reader_lists_those_there_are(tmp_path, reader):
    with pytest.raises(
        UserError, match=rf"data\.reader: no '{reader}s'; one of linecache, mmap .did you mean {reader}"
    ):
        open_reader(f"{reader}s", write(tmp_path / "file.txt", "a"), tmp_path)


# What is particular to one reader.


def test_linecache_is_filled_again_when_it_was_cleared_or_read_by_others(tmp_path):
    path = write(tmp_path / "file.txt", b"a\rb\nc\xc3\xa9\n")
    reader = open_reader("linecache", path, tmp_path)
    linecache.clearcache()
    assert reader.line(0) == "a\rb"
    linecache.clearcache()
    assert linecache.getline(str(path), 2) == "b\n"  # its own rules
    assert reader.line(1) == "cé" and reader.lines(0, 2) == ["a\rb", "cé"]


def test_linecache_check_keeps_the_entry_of_an_unchanged_file(tmp_path):
    reader = open_reader("linecache", write(tmp_path / "file.txt", "a\nb\n"), tmp_path)
    linecache.checkcache()
    assert linecache.cache[str(tmp_path / "file.txt")][2] is reader._cached()


def test_linecache_refuses_to_be_filled_again_from_a_changed_file(tmp_path):
    path = write(tmp_path / "file.txt", "a\nb\n")
    reader = open_reader("linecache", path, tmp_path)
    write(path, "a\nbc\n")
    linecache.checkcache()
    with pytest.raises(UserError, match="the file changed while it was in use"):
        reader.line(1)


def test_linecache_recommends_mmap_for_a_large_file_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(corpus_module, "LINECACHE_WARNS_ABOVE", 3)
    path = write(tmp_path / "file.txt", "abcd")
    open_reader("mmap", path, tmp_path / "cache")
    assert capsys.readouterr().err == ""
    pickle.loads(pickle.dumps(open_reader("linecache", path, tmp_path)))  # a worker does not repeat it
    assert re.fullmatch(r"data\.reader: linecache .*file\.txt.*data\.reader=mmap.*\n", capsys.readouterr().err)


def test_mmap_keeps_its_offsets_on_disk_and_in_memory_maps(tmp_path):
    reader = open_reader("mmap", write(tmp_path / "file.txt", b"\xef\xbb\xbfa\nbc\n\nd"), tmp_path / "cache")
    (file,) = (tmp_path / "cache").glob("lines-*/offsets.npy")
    assert np.load(file).tolist() == [3, 5, 8, 9, 10]
    assert np.load(file).dtype == np.int64
    assert isinstance(reader._offsets, np.memmap)


def anonymous_memory_grown(path: Path, cache: Path) -> int:
    """Kilobytes of anonymous memory that a process has at most, more than before, while it indexes and reads."""
    code = """
import re, sys, pathlib
from pretrain import corpus
def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
before, most = anonymous(), 0
lines = corpus._numbered_lines
def watched(reader):
    global most
    for number, line in lines(reader):
        if number % 10_000 == 0:
            most = max(most, anonymous())
        yield number, line
corpus._numbered_lines = watched
found = corpus.open_corpus(pathlib.Path(sys.argv[1]), "mmap", corpus.CorpusFormat(), pathlib.Path(sys.argv[2]))
found.sentences(found.num_documents // 2)
print(max(most, anonymous()) - before)
"""
    command = [sys.executable, "-c", code, path, cache]
    return int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measured by Linux's /proc")
def test_mmap_memory_does_not_grow_with_the_file(tmp_path):
    paragraph = "A sentence of the corpus, the same as all the others.\n" * 20 + "\n"
    small = write(tmp_path / "small.txt", paragraph * 3_000)  # 3 MB
    large = write(tmp_path / "large.txt", paragraph * 45_000)  # 49 MB
    grown = [anonymous_memory_grown(path, tmp_path / "cache") for path in (small, large)]
    assert grown[1] < grown[0] + 8_000, grown


# Documents.


@EVERY_READER
def test_documents_of_a_text_are_separated_by_blank_lines_or_a_marker(opened, reader):
    corpus = opened("\n\n a b \nc\n\n \t\u2028\nd\n[EOD]\n [EOD] \ne\r\n\r\nf [EOD]\n[eod]", TEXT, reader)
    assert documents(corpus) == [["a b", "c"], ["d"], ["e"], ["f [EOD]", "[eod]"]]
    assert corpus.document_sentences.tolist() == [0, 2, 3, 4, 6]
    assert (corpus.num_documents, corpus.num_sentences, corpus.empty_documents) == (4, 6, 0)
    assert corpus.num_bytes == os.path.getsize(corpus.reader.path)
    assert corpus.document_sentences.dtype == np.int64 and corpus.document_hashes.dtype == np.uint64


@EVERY_READER
def test_a_json_line_is_a_document_and_newlines_in_it_separate_paragraphs(opened, reader):
    rows = [
        {"content": "a. b.\n\n c \r\nd"},
        {"title": 1, "content": " 가\u2028나 "},
        {"content": " \n\t"},
        {"content": ""},
    ]
    content = "\n".join(json.dumps(row) for row in rows[:2]) + "\n\n" + "\n".join(json.dumps(row) for row in rows[2:])
    corpus = opened(content, JSONL, reader)
    assert documents(corpus) == [["a. b.", "c", "d"], ["가\u2028나"]]
    assert (corpus.num_documents, corpus.num_sentences, corpus.empty_documents) == (2, 4, 2)
    assert corpus.blank_lines == 1  # five lines in all
    assert opened(" \n\n" + content + "\n\t\n", JSONL, reader).blank_lines == 4
    assert opened("a\n\n\n\nb\n", TEXT, reader).blank_lines == 0  # they separate documents


@EVERY_READER
def test_lines_and_paragraphs_are_split_into_sentences_on_request(opened, reader):
    text = opened("It rained. We left.\n그래. 네!\n\nEnd.", CorpusFormat("text", split_sentences=True), reader)
    assert documents(text) == [["It rained.", "We left.", "그래.", "네!"], ["End."]]
    row = json.dumps({"content": "It rained. We left.\nEnd."})
    assert documents(opened(row, CorpusFormat("jsonl", "content", split_sentences=True), reader)) == [
        ["It rained.", "We left.", "End."]
    ]


def test_a_document_hash_is_that_of_its_sentences_joined(opened):
    corpus = opened(" a b\nc \n\nd\n\na b\n c")
    expected = [int.from_bytes(hashlib.blake2b(text).digest()[:8], "little") for text in (b"a b\nc", b"d", b"a b\nc")]
    assert corpus.document_hashes.tolist() == expected
    assert opened(json.dumps({"content": "a b\nc"}), JSONL).document_hashes.tolist() == expected[:1]


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["a", " b. c", "", " ", "[EOD]", "가! 나", "\u2028", "\r"]), max_size=20), st.booleans()
)
def test_readers_give_the_same_index_and_it_is_that_of_a_plain_loop(tmp_path_factory, lines, split):
    folder = tmp_path_factory.mktemp("index")
    path = write(folder / "file.txt", "\n".join(lines))
    expected: list[list[str]] = [[]]
    for line in "\n".join(lines).replace("\r\n", "\n").split("\n"):
        if line.strip() in ("", "[EOD]"):
            expected.append([])
        else:
            expected[-1] += corpus_module.split_sentences(line) if split else [line.strip()]
    expected = [document for document in expected if document]
    if not expected:
        with pytest.raises(UserError):
            open_corpus(path, "mmap", TEXT, folder / "cache")
        return
    corpora = [open_corpus(path, name, CorpusFormat(split_sentences=split), folder / name) for name in READERS]
    assert [documents(corpus) for corpus in corpora] == [expected, expected]
    assert corpora[0].document_hashes.tolist() == corpora[1].document_hashes.tolist()
    assert corpora[0].document_sentences.tolist() == [0, *np.cumsum([len(document) for document in expected])]


def test_more_documents_than_are_written_at_once_are_all_there(opened):
    corpus = opened("".join(f"a{number}\nb\n\n" for number in range(40_000)))
    assert corpus.num_documents == 40_000 and corpus.num_sentences == 80_000
    assert corpus.sentences(39_999) == ["a39999", "b"]
    assert len(set(corpus.document_hashes.tolist())) == 40_000


@pytest.mark.parametrize("document", [-1, 1])
def test_a_document_outside_the_corpus_is_an_index_error(opened, document):
    with pytest.raises(IndexError):
        opened("a\n").sentences(document)


# The index on disk.


@pytest.fixture
def indexed(monkeypatch):
    """Counts how often a document index is made."""
    made = []
    write_index = corpus_module.write_index
    monkeypatch.setattr(corpus_module, "write_index", lambda *given: made.append(given) or write_index(*given))
    return made


def test_the_index_is_made_once_for_both_readers(tmp_path, indexed):
    path = write(tmp_path / "file.txt", "a\n\nb\n")
    for reader in [*READERS, *READERS]:
        open_corpus(path, reader, TEXT, tmp_path / "cache")
    assert len(indexed) == 1


def test_another_format_field_or_splitting_has_an_index_of_its_own(tmp_path, indexed):
    path = write(tmp_path / "file.jsonl", '{"a": "It is. It was.", "b": "z"}\n')
    formats = [CorpusFormat("jsonl", "a"), CorpusFormat("jsonl", "b"), CorpusFormat("jsonl", "a", True), TEXT]
    for _ in range(2):
        sizes = [open_corpus(path, "mmap", held, tmp_path / "cache").num_sentences for held in formats]
        assert sizes == [1, 1, 2, 1]
    assert len(indexed) == 4


@EVERY_READER
@pytest.mark.parametrize("changed", ["size", "mtime"])
def test_the_index_of_a_changed_file_is_made_again_and_the_old_one_goes(tmp_path, indexed, reader, changed):
    path = write(tmp_path / "file.txt", "a\n\nb\n")
    open_corpus(path, reader, TEXT, tmp_path / "cache")
    status = path.stat()
    write(path, "a\n\nb\n\nc" if changed == "size" else "a\nb\n\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + (changed == "mtime")))
    corpus = open_corpus(path, reader, TEXT, tmp_path / "cache")
    assert documents(corpus) == ([["a"], ["b"], ["c"]] if changed == "size" else [["a", "b"]])
    assert len(indexed) == 2
    assert len(list((tmp_path / "cache").glob("documents-*"))) == 1


@pytest.mark.parametrize("damage", ["remove", "cut", "empty", "manifest"])
def test_a_damaged_index_is_made_again(tmp_path, indexed, damage):
    path = write(tmp_path / "file.txt", "a\n\nb\n")
    open_corpus(path, "mmap", TEXT, tmp_path / "cache")
    (folder,) = (tmp_path / "cache").glob("documents-*")
    if damage == "manifest":
        write(folder / "manifest.json", "{")
    elif damage == "remove":
        (folder / "document_hashes.npy").unlink()
    else:
        os.truncate(folder / "document_hashes.npy", 0 if damage == "empty" else 140)
    assert documents(open_corpus(path, "mmap", TEXT, tmp_path / "cache")) == [["a"], ["b"]]
    assert len(indexed) == 2


def test_processes_that_make_the_index_at_once_all_get_it_whole(tmp_path):
    path = write(tmp_path / "file.txt", "a b\nc\n\n" * 30_000)
    code = (
        "import sys, pathlib; from pretrain.corpus import *; "
        "corpus = open_corpus(pathlib.Path(sys.argv[1]), 'mmap', CorpusFormat(), pathlib.Path(sys.argv[2])); "
        "print(corpus.num_documents, corpus.num_sentences, corpus.sentences(29_999))"
    )
    command = [sys.executable, "-c", code, path, tmp_path / "cache"]
    running = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[0] for process in running] == ["30000 60000 ['a b', 'c']\n"] * 4
    assert sorted(entry.name.split("-")[0] for entry in (tmp_path / "cache").iterdir()) == ["documents", "lines"]


def test_the_loser_of_a_race_uses_what_the_winner_has_put_in_place(tmp_path, monkeypatch):
    path = write(tmp_path / "file.txt", "a\n\nb\n")
    write_index = corpus_module.write_index

    def overtaken(*given):
        monkeypatch.setattr(corpus_module, "write_index", write_index)
        open_corpus(path, "mmap", TEXT, tmp_path / "cache")  # another process, meanwhile
        return write_index(*given)

    monkeypatch.setattr(corpus_module, "write_index", overtaken)
    assert documents(open_corpus(path, "mmap", TEXT, tmp_path / "cache")) == [["a"], ["b"]]
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_arrays_that_cannot_be_put_in_place_say_why(tmp_path, monkeypatch):
    def full(self, target) -> None:
        raise OSError(28, "No space left on device")

    path = write(tmp_path / "file.txt", "a\n\nb\n")
    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="No space left on device"):
        open_corpus(path, "mmap", TEXT, tmp_path / "cache")


def test_a_file_that_grows_while_it_is_indexed_is_refused_and_nothing_is_kept(tmp_path, monkeypatch):
    path = write(tmp_path / "file.txt", "a\n\nb\n")
    write_index = corpus_module.write_index
    monkeypatch.setattr(
        corpus_module, "write_index", lambda *given: write_index(*given) if path.write_text("a\n\nbc\n") else None
    )
    with pytest.raises(UserError, match="the file changed while it was in use"):
        open_corpus(path, "mmap", TEXT, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*documents*"))


# Errors.


def test_faulty_json_lines_are_reported_together_with_file_and_line(opened, tmp_path):
    rows = ['{"content": "a"}', "{", '{"contents": 1, "title": 2}', '{"content": 3}', '["a"]', '{"content": "\\ud800"}']
    with pytest.raises(UserError) as caught:
        opened("\n".join(rows) + "\n" + "[" * 100_000, JSONL, name="c.jsonl")
    *messages, way_out = caught.value.messages
    assert way_out == "data.on_bad_row=skip leaves out lines like these."
    assert [message.split(": ")[0] for message in messages] == [f"{tmp_path / 'c.jsonl'}:{n}" for n in range(2, 8)]
    expected = [
        "not a JSON object .* data.format=text",
        "no field 'content'; it has contents, title .did you mean contents",
        "the field 'content' holds 3, not a string",
        r"not a JSON object with a field 'content', but \[\"a\"\]",
        "the field .content. holds .*half of a surrogate pair",
        "not a JSON object",
    ]
    assert all(re.search(pattern, message) for pattern, message in zip(expected, messages, strict=True))


def test_at_most_ten_faulty_lines_are_reported(opened):
    with pytest.raises(UserError) as caught:
        opened("{\n" * 100, JSONL)
    assert len(caught.value.messages) == 10 + 1


def test_faulty_lines_may_be_left_out_and_are_counted(opened, tmp_path):
    rows = ['{"content": "One."}', "{", '{"content": null}', "", '{"content": " "}', '{"content": "Two."}']
    skipping = replace(JSONL, on_bad_row="skip")
    for _ in range(2):  # also from the cache
        corpus = opened("\n".join(rows), skipping, name="c.jsonl")
        assert [corpus.sentences(number) for number in range(corpus.num_documents)] == [["One."], ["Two."]]
        assert (corpus.refused, corpus.empty_documents) == (2, 1)
        said = [fault.partition(": ")[0] for fault in corpus.faults]
        assert said == [f"{tmp_path / 'c.jsonl'}:{number}" for number in (2, 3)]
    with pytest.raises(UserError, match=r"no document in .*: 3 lines refused, as .*c\.jsonl:1: not a JSON object"):
        opened("{\n" * 3, skipping, name="c.jsonl")


def test_a_missing_file_suggests_the_closest_name_in_its_folder(tmp_path):
    write(tmp_path / "corpus_ko.txt", "a")
    with pytest.raises(UserError, match=r"data\.valid: no such file: '.*corpus_k\.txt' .did you mean corpus_ko\.txt"):
        open_corpus(tmp_path / "corpus_k.txt", "mmap", TEXT, tmp_path / "cache", "data.valid")
    with pytest.raises(UserError, match=r"no such file: '.*nor is there a folder"):
        open_corpus(tmp_path / "nowhere" / "corpus.txt", "mmap", TEXT, tmp_path / "cache", "data.valid")


@pytest.mark.parametrize(
    "content, hint",
    [
        (b"", "is empty"),
        (b"\n \n[EOD]\n\n", "no document in .*: no sentence in its 4 lines"),
        (b"\xef\xbb\xbf", "no document"),
        (b"\x1f\x8b\x08\x00", "gunzip"),
        (b"PK\x03\x04\x14", "unzip"),
        (b"\xfd7zXZ\x00", "unxz"),
        (b"\x28\xb5\x2f\xfd\x00", "unzstd"),
        (b"BZh91AY&SY", "bunzip2"),
        (b"PAR1\x15\x04", "Parquet.*data.format=jsonl"),
        ("a".encode("utf-16"), "UTF-16.*iconv"),
        ("a line\n\n".encode("utf-16-le"), "UTF-16 or UTF-32 by its zero bytes.*iconv"),
        (b"\x7fELF\x02\x00\xff\xfe" * 10, "binary file"),
        ("안녕하세요".encode("cp949"), "is not UTF-8.*iconv -f CP949"),
    ],
)
def test_a_file_that_is_no_corpus_is_refused_with_a_hint(opened, content, hint):
    with pytest.raises(UserError, match=hint):
        opened(content)


def test_json_lines_without_any_text_are_no_corpus(opened):
    with pytest.raises(
        UserError, match=r"data\.valid: no document in .*: the field 'content' is blank throughout \(2 lines"
    ):
        opened('{"content": ""}\n{"content": " "}\n', JSONL)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(UserError, match=r"data\.train: '.*' is a folder"):
        open_corpus(tmp_path, "mmap", TEXT, tmp_path / "cache")


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="not a regular file"):
        open_corpus(tmp_path / "pipe", "mmap", TEXT, tmp_path / "cache")


def test_an_unknown_format_lists_those_there_are(opened):
    with pytest.raises(UserError, match=r"data\.format: no 'json'; one of text, jsonl .did you mean jsonl"):
        opened("a", CorpusFormat("json"))
