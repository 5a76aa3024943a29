"""What the system is asked to read before it is touched."""

import mmap
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pretrain.corpus import open_corpus
from pretrain.documents import CorpusFormat
from pretrain.read_ahead import read_ahead, read_bytes_ahead
from tests.pretrain.conftest import write_text


@given(
    offset=st.sampled_from([0, 128, mmap.ALLOCATIONGRANULARITY + 64]),
    itemsize=st.sampled_from([1, 2, 8]),
    ranges=st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 9000)), max_size=5),
)
def test_what_is_read_ahead_covers_the_ranges_and_begins_at_pages(offset, itemsize, ranges):
    advised = []
    array = SimpleNamespace(
        offset=offset,
        strides=(itemsize,),
        base=SimpleNamespace(madvise=lambda advice, begin, size: advised.append((advice, begin, begin + size))),
    )
    first, length = np.array(ranges, np.int64).reshape(-1, 2).T
    read_ahead(array, first, first + length)
    lead = offset % mmap.ALLOCATIONGRANULARITY
    wanted = [(lead + a * itemsize, lead + (a + n) * itemsize) for a, n in ranges if n]
    found = [(begin, end) for _, begin, end in advised]
    assert {advice for advice, _, _ in advised} <= {mmap.MADV_WILLNEED}
    assert all(begin % mmap.PAGESIZE == 0 for begin, _ in found)
    for begin, end in wanted:
        assert sum(a <= begin and end <= b for a, b in found) == 1
    assert all(a >= b for (_, b), (a, _) in pairwise(found))  # each page is asked for once
    # Nothing is asked for that no range touches, but for what its page holds besides.
    assert sum(end - begin for begin, end in found) <= sum(b - a for a, b in wanted) + len(ranges) * mmap.PAGESIZE


def test_an_empty_range_at_the_end_of_a_map_of_whole_pages_is_passed_over():
    mapped = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    read_bytes_ahead(mapped, np.array([2 * mmap.PAGESIZE, 5]), np.array([2 * mmap.PAGESIZE, 9]))


def test_advice_that_the_system_refuses_changes_nothing():
    def refuse(*_):
        raise OSError(22, "Invalid argument")

    read_bytes_ahead(SimpleNamespace(madvise=refuse), np.array([0]), np.array([5]))


def test_without_such_advice_nothing_is_asked_for(monkeypatch):
    monkeypatch.delattr(mmap, "MADV_WILLNEED", raising=False)
    read_bytes_ahead(None, np.array([0]), np.array([5]))


def test_documents_that_are_expected_are_read_by_their_lines(tmp_path, monkeypatch):
    path = write_text(
        tmp_path / "text.txt", [[f"document {number}, sentence {n}" for n in range(3)] for number in range(9)]
    )
    corpus = open_corpus([path], "mmap", CorpusFormat(), tmp_path)
    asked = []
    monkeypatch.setattr(
        "pretrain.readers.read_bytes_ahead",
        lambda mapped, first, last: asked.extend(mapped[a:b].decode() for a, b in zip(first, last, strict=True)),
    )
    corpus.expect(np.array([7, 0]))
    assert asked == ["".join(f"document {number}, sentence {n}\n" for n in range(3)) for number in (7, 0)]
