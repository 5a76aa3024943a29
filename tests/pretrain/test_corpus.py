import errno
import hashlib
import json
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
from bert.sentence_splitter import split_sentences
from pretrain import corpus as corpus_module
from pretrain.corpus import open_corpus
from pretrain.documents import CorpusFormat
from pretrain.readers import READERS

ROOT = Path(__file__).parents[2]
EVERY_READER = pytest.mark.parametrize("reader", READERS)
TEXT = CorpusFormat("text")
JSONL = CorpusFormat("jsonl", text="content")


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.fixture
def opened(tmp_path):
    """The corpus of a file of these bytes."""

    def opener(content: bytes | str, corpus_format: CorpusFormat = TEXT, reader: str = "mmap", name: str = "file.txt"):
        return open_corpus([write(tmp_path / name, content)], reader, corpus_format, tmp_path / "cache", "data.valid")

    return opener


def documents(corpus) -> list[list[str]]:
    return [corpus.sentences(document) for document in range(corpus.num_documents)]


# Documents.


@EVERY_READER
def test_a_reader_and_a_corpus_survive_pickling_and_stay_small(tmp_path, reader):
    path = write(tmp_path / "file.txt", "a b\nc\n\n" * 10_000)
    corpus = open_corpus([path], reader, TEXT, tmp_path / "cache")
    pickled = pickle.dumps(corpus)
    again = pickle.loads(pickled)
    assert len(pickled) < 1000
    assert again.sentences(9_999) == ["a b", "c"] == again.files.reader(0).lines(29_997, 29_999)
    assert np.array_equal(again.document_hashes, corpus.document_hashes)


@EVERY_READER
def test_documents_of_a_text_are_separated_by_blank_lines_or_a_marker(opened, reader):
    corpus = opened("\n\n a b \nc\n\n \t\u2028\nd\n[EOD]\n [EOD] \ne\r\n\r\nf [EOD]\n[eod]", TEXT, reader)
    assert documents(corpus) == [["a b", "c"], ["d"], ["e"], ["f [EOD]", "[eod]"]]
    assert corpus.document_sentences.tolist() == [0, 2, 3, 4, 6]
    assert (corpus.num_documents, corpus.num_sentences, corpus.empty_documents) == (4, 6, 0)
    assert corpus.num_bytes == os.path.getsize(corpus.files.paths[0])
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
            expected[-1] += split_sentences(line) if split else [line.strip()]
    expected = [document for document in expected if document]
    if not expected:
        with pytest.raises(UserError):
            open_corpus([path], "mmap", TEXT, folder / "cache")
        return
    corpora = [open_corpus([path], name, CorpusFormat(split_sentences=split), folder / name) for name in READERS]
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


# Several files.


def corpus_lines() -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(["", "a", "b c", "[EOD]", "가", " "]), max_size=8)


@settings(deadline=None)
@given(st.lists(corpus_lines(), min_size=1, max_size=4).filter(lambda files: any("a" in lines for lines in files)))
def test_files_are_a_corpus_like_one_file_with_a_blank_line_after_each(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("files")
    paths = [write(folder / f"{number}.txt", "\ufeff" + "\r\n".join(lines)) for number, lines in enumerate(files)]
    whole = write(folder / "whole.txt", "\n\n".join("\n".join(lines) for lines in files))
    one = open_corpus([whole], "mmap", TEXT, folder / "cache")
    for reader in READERS:
        several = open_corpus(paths, reader, TEXT, folder / reader)
        several.expect(np.arange(several.num_documents)[::-1])
        assert documents(several) == documents(pickle.loads(pickle.dumps(several))) == documents(one)
        assert several.fingerprint == one.fingerprint
        assert several.document_sentences.tolist() == one.document_sentences.tolist()
        assert several.num_bytes == sum(map(os.path.getsize, paths))


def test_documents_of_several_files_are_expected_from_their_own_files(tmp_path, monkeypatch):
    paths = [write(tmp_path / f"{name}.txt", f"{name} 1\n\n{name} 2\n\n{name} 3\n") for name in "abc"]
    corpus = open_corpus(paths, "mmap", TEXT, tmp_path / "cache")
    asked = []
    monkeypatch.setattr(
        "pretrain.readers.read_bytes_ahead",
        lambda mapped, first, last: asked.extend(mapped[a:b].decode() for a, b in zip(first, last, strict=True)),
    )
    corpus.expect(np.array([8, 0, 7, 4]))
    assert asked == ["a 1\n", "b 2\n", "c 3\n", "c 2\n"]


def test_the_index_of_several_files_is_made_again_when_one_has_changed(tmp_path, indexed):
    paths = [write(tmp_path / "a.txt", "a\n"), write(tmp_path / "b.txt", "b\n")]
    open_corpus(paths, "mmap", TEXT, tmp_path / "cache")
    write(paths[0], "a\n\nb\n")
    corpus = open_corpus(paths, "linecache", TEXT, tmp_path / "cache")
    assert documents(corpus) == [["a"], ["b"], ["b"]] and len(indexed) == 2
    write(paths[1], "c\n")
    with pytest.raises(UserError, match=r"b\.txt: the file changed while it was in use"):
        corpus.files.refuse_changed()
    assert documents(open_corpus(paths[::-1], "mmap", TEXT, tmp_path / "cache")) == [["c"], ["a"], ["b"]]


def test_faulty_lines_of_several_files_are_named_by_the_file_and_the_line_in_it(tmp_path):
    paths = [write(tmp_path / f"{name}.jsonl", '{"content": "a"}\n{\n') for name in "ab"]
    with pytest.raises(UserError) as caught:
        open_corpus(paths, "mmap", JSONL, tmp_path / "cache")
    places = [message.split(": ")[0] for message in caught.value.messages[:-1]]
    assert places == [f"{path}:2" for path in paths]
    corpus = open_corpus(paths, "mmap", replace(JSONL, on_bad_row="skip"), tmp_path / "cache")
    assert (documents(corpus), corpus.refused, corpus.blank_lines) == ([["a"], ["a"]], 2, 0)


def test_a_corpus_may_have_more_files_than_a_process_may_open(tmp_path):
    for number in range(150):
        write(tmp_path / f"{number:03}.txt", f"{number}\n")
    code = (
        "import resource, sys; import numpy as np; from pathlib import Path; "
        "from pretrain.corpus import open_corpus; from pretrain.documents import CorpusFormat\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (120, 120)); folder = Path(sys.argv[1])\n"
        "for _ in range(2):\n"
        "    corpus = open_corpus(sorted(folder.glob('*.txt')), 'mmap', CorpusFormat(), folder / 'cache')\n"
        "    corpus.expect(np.arange(150))\n"
        "    assert [corpus.sentences(number) for number in range(150)] == [[str(number)] for number in range(150)]\n"
        "print('ok')"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "ok\n", done.stderr


@pytest.mark.parametrize("texts, empty", [(["a\n", "\n \n", "b\n"], 1), (["\n", "a\n", "\n"], 2), (["a\n", "b\n"], 0)])
def test_files_without_a_document_are_counted(tmp_path, texts, empty):
    paths = [write(tmp_path / f"{number}.txt", text) for number, text in enumerate(texts)]
    corpus = open_corpus(paths, "mmap", TEXT, tmp_path / "cache")
    assert (corpus.empty_files, corpus.num_documents) == (empty, len(texts) - empty)


def test_an_index_that_cannot_be_read_now_is_not_taken_for_a_damaged_one(tmp_path, monkeypatch):
    path = write(tmp_path / "file.txt", "a\n")
    open_corpus([path], "mmap", TEXT, tmp_path / "cache")
    before = sorted((tmp_path / "cache").rglob("*"))

    def cannot(*of, **named):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="Too many open files"):
        patch.setattr(np, "load", cannot)
        open_corpus([path], "mmap", TEXT, tmp_path / "cache")
    assert sorted((tmp_path / "cache").rglob("*")) == before


def test_files_are_opened_when_they_are_read_and_must_then_be_what_they_were(tmp_path):
    paths = [write(tmp_path / "a.txt", "a\n"), write(tmp_path / "b.txt", "b\n")]
    pickled = pickle.dumps(open_corpus(paths, "mmap", TEXT, tmp_path / "cache"))
    write(paths[0], "c\n\nd\n")
    again = pickle.loads(pickled)
    assert again.sentences(1) == ["b"]
    with pytest.raises(UserError, match=r"a\.txt: the file changed while it was in use"):
        again.sentences(0)


def test_linecache_recommends_mmap_for_a_large_corpus_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(corpus_module, "LINECACHE_WARNS_ABOVE", 5)
    paths = [write(tmp_path / f"{name}.txt", "abc\n") for name in "ab"]
    open_corpus(paths, "mmap", TEXT, tmp_path / "cache")
    open_corpus(paths[:1], "linecache", TEXT, tmp_path / "cache")
    assert capsys.readouterr().err == ""
    pickle.loads(pickle.dumps(open_corpus(paths, "linecache", TEXT, tmp_path / "cache")))  # a worker does not repeat it
    assert re.fullmatch(r"data\.reader: linecache .*data\.train.*data\.reader=mmap.*\n", capsys.readouterr().err)


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
        open_corpus([path], reader, TEXT, tmp_path / "cache")
    assert len(indexed) == 1


def test_another_format_field_or_splitting_has_an_index_of_its_own(tmp_path, indexed):
    path = write(tmp_path / "file.jsonl", '{"a": "It is. It was.", "b": "z"}\n')
    formats = [CorpusFormat("jsonl", "a"), CorpusFormat("jsonl", "b"), CorpusFormat("jsonl", "a", True), TEXT]
    for _ in range(2):
        sizes = [open_corpus([path], "mmap", held, tmp_path / "cache").num_sentences for held in formats]
        assert sizes == [1, 1, 2, 1]
    assert len(indexed) == 4


@EVERY_READER
@pytest.mark.parametrize("changed", ["size", "mtime"])
def test_the_index_of_a_changed_file_is_made_again_and_the_old_one_goes(tmp_path, indexed, reader, changed):
    path = write(tmp_path / "file.txt", "a\n\nb\n")
    open_corpus([path], reader, TEXT, tmp_path / "cache")
    status = path.stat()
    write(path, "a\n\nb\n\nc" if changed == "size" else "a\nb\n\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + (changed == "mtime")))
    corpus = open_corpus([path], reader, TEXT, tmp_path / "cache")
    assert documents(corpus) == ([["a"], ["b"], ["c"]] if changed == "size" else [["a", "b"]])
    assert len(indexed) == 2
    assert len(list((tmp_path / "cache").glob("documents-*/*"))) == 1


@pytest.mark.parametrize("damage", ["remove", "cut", "empty", "manifest"])
def test_a_damaged_index_is_made_again(tmp_path, indexed, damage):
    path = write(tmp_path / "file.txt", "a\n\nb\n")
    open_corpus([path], "mmap", TEXT, tmp_path / "cache")
    (folder,) = (tmp_path / "cache").glob("documents-*/*")
    if damage == "manifest":
        write(folder / "manifest.json", "{")
    elif damage == "remove":
        (folder / "document_hashes.npy").unlink()
    else:
        os.truncate(folder / "document_hashes.npy", 0 if damage == "empty" else 140)
    assert documents(open_corpus([path], "mmap", TEXT, tmp_path / "cache")) == [["a"], ["b"]]
    assert len(indexed) == 2


def test_processes_that_make_the_index_at_once_all_get_it_whole(tmp_path):
    path = write(tmp_path / "file.txt", "a b\nc\n\n" * 30_000)
    code = (
        "import sys, pathlib; from pretrain.corpus import *; from pretrain.documents import CorpusFormat; "
        "corpus = open_corpus([pathlib.Path(sys.argv[1])], 'mmap', CorpusFormat(), pathlib.Path(sys.argv[2])); "
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
        open_corpus([path], "mmap", TEXT, tmp_path / "cache")  # another process, meanwhile
        return write_index(*given)

    monkeypatch.setattr(corpus_module, "write_index", overtaken)
    assert documents(open_corpus([path], "mmap", TEXT, tmp_path / "cache")) == [["a"], ["b"]]
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_arrays_that_cannot_be_put_in_place_say_why(tmp_path, monkeypatch):
    def full(self, target) -> None:
        raise OSError(28, "No space left on device")

    path = write(tmp_path / "file.txt", "a\n\nb\n")
    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="No space left on device"):
        open_corpus([path], "mmap", TEXT, tmp_path / "cache")


def test_a_file_that_grows_while_it_is_indexed_is_refused_and_nothing_is_kept(tmp_path, monkeypatch):
    path = write(tmp_path / "file.txt", "a\n\nb\n")
    write_index = corpus_module.write_index
    monkeypatch.setattr(
        corpus_module, "write_index", lambda *given: write_index(*given) if path.write_text("a\n\nbc\n") else None
    )
    with pytest.raises(UserError, match="the file changed while it was in use"):
        open_corpus([path], "mmap", TEXT, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("documents*/*"))


# Errors.


def test_faulty_json_lines_are_reported_together_with_file_and_line(opened, tmp_path):
    rows = ['{"content": "a"}', "{", '{"contents": 1, "title": 2}', '{"content": 3}', '["a"]', '{"content": "\\ud800"}']
    with pytest.raises(UserError) as caught:
        opened("\n".join(rows) + "\n" + "[" * 100_000, JSONL, name="c.jsonl")
    *messages, way_out = caught.value.messages
    assert way_out == "data.on_bad_row=skip leaves out lines like these. data.text names the field with the text."
    assert [message.split(": ")[0] for message in messages] == [f"{tmp_path / 'c.jsonl'}:{n}" for n in range(2, 8)]
    expected = [
        "not a JSON object .*; one object per line is needed",
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
        open_corpus([tmp_path / "corpus_k.txt"], "mmap", TEXT, tmp_path / "cache", "data.valid")
    with pytest.raises(UserError, match=r"no such file: '.*nor is there a folder"):
        open_corpus([tmp_path / "nowhere" / "corpus.txt"], "mmap", TEXT, tmp_path / "cache", "data.valid")


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
        open_corpus([tmp_path], "mmap", TEXT, tmp_path / "cache")


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="not a regular file"):
        open_corpus([tmp_path / "pipe"], "mmap", TEXT, tmp_path / "cache")


def test_an_unknown_format_lists_those_there_are(opened):
    with pytest.raises(UserError, match=r"data\.format: no 'json'; one of text, jsonl .did you mean jsonl"):
        opened("a", CorpusFormat("json"))
