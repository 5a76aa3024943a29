import linecache
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert.errors import UserError
from pretrain.readers import READERS, Files

ROOT = Path(__file__).parents[2]
EVERY_READER = pytest.mark.parametrize("reader", READERS)


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.fixture
def lines_of(tmp_path):
    """All lines that a reader finds in a file of these bytes."""

    def read(reader: str, content: bytes) -> list[str]:
        opened = READERS[reader](write(tmp_path / "file.txt", content), tmp_path / "cache")
        return opened.lines(0, len(opened))

    return read


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
def test_readers_give_the_same_lines_in_slices_and_in_blocks(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("same")
    path = write(folder / "file.txt", content)
    text = content.decode().removeprefix("\ufeff")
    expected = [line.removesuffix("\r") for line in text.split("\n")[:-1]]
    expected += [text.split("\n")[-1]] * (not text.endswith("\n") and text != "")
    for name in READERS:
        reader = READERS[name](path, folder / "cache")
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
            said.append(len(READERS[name](path, folder / "cache")))
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
    opened = READERS[reader](write(tmp_path / "file.txt", "a\nb\n"), tmp_path / "cache")
    assert opened.lines(1, 1) == [] == opened.lines(2, 2)
    for call in (
        lambda: opened.lines(1, 3),
        lambda: opened.lines(-1, 1),
        lambda: opened.lines(2, 1),
    ):
        with pytest.raises(IndexError):
            call()


@EVERY_READER
def test_an_unknown_reader_lists_those_there_are(tmp_path, reader):
    with pytest.raises(
        UserError, match=rf"data\.reader: no '{reader}s'; one of linecache, mmap .did you mean {reader}"
    ):
        Files([write(tmp_path / "file.txt", "a")], f"{reader}s", tmp_path)


# What is particular to one reader.


def test_linecache_is_filled_again_when_it_was_cleared_or_read_by_others(tmp_path):
    path = write(tmp_path / "file.txt", b"a\rb\nc\xc3\xa9\n")
    reader = READERS["linecache"](path, tmp_path)
    linecache.clearcache()
    assert reader.lines(0, 1) == ["a\rb"]
    linecache.clearcache()
    assert linecache.getline(str(path), 2) == "b\n"  # its own rules
    assert reader.lines(0, 2) == ["a\rb", "cé"]


def test_linecache_check_keeps_the_entry_of_an_unchanged_file(tmp_path):
    reader = READERS["linecache"](write(tmp_path / "file.txt", "a\nb\n"), tmp_path)
    linecache.checkcache()
    assert linecache.cache[str(tmp_path / "file.txt")][2] is reader._cached()


def test_linecache_refuses_to_be_filled_again_from_a_changed_file(tmp_path):
    path = write(tmp_path / "file.txt", "a\nb\n")
    reader = READERS["linecache"](path, tmp_path)
    write(path, "a\nbc\n")
    linecache.checkcache()
    with pytest.raises(UserError, match="the file changed while it was in use"):
        reader.lines(1, 2)


def test_mmap_keeps_its_offsets_on_disk_and_in_memory_maps(tmp_path):
    reader = READERS["mmap"](write(tmp_path / "file.txt", b"\xef\xbb\xbfa\nbc\n\nd"), tmp_path / "cache")
    (file,) = (tmp_path / "cache").glob("lines-*/*/offsets.npy")
    assert np.load(file).tolist() == [3, 5, 8, 9, 10]
    assert np.load(file).dtype == np.int64
    assert isinstance(reader._offsets, np.memmap)


def anonymous_memory_grown(path: Path, cache: Path) -> int:
    """Kilobytes of anonymous memory that a process has at most, more than before, while it indexes and reads."""
    code = """
import re, sys, pathlib
from pretrain import corpus
from pretrain.documents import CorpusFormat
def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
before, most = anonymous(), 0
write_index = corpus.write_index
def watched(lines):
    global most
    for number, line in enumerate(lines):
        if number % 10_000 == 0:
            most = max(most, anonymous())
        yield line
corpus.write_index = lambda folder, lines, held: write_index(folder, watched(lines), held)
found = corpus.open_corpus([pathlib.Path(sys.argv[1])], "mmap", CorpusFormat(), pathlib.Path(sys.argv[2]))
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
