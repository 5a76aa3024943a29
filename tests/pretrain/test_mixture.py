"""How often the files of a corpus are read: by hand, and as shares of the text."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.corpus import open_corpus
from pretrain.documents import CorpusFormat
from pretrain.mixture import in_words, open_mixture, times_read
from pretrain.split import open_split


@pytest.fixture
def corpus(tmp_path):
    """Files of documents of seven bytes each: 400 of them, 100, and 100 copies of one."""
    texts = [[f"a {n:05}" for n in range(400)], [f"b {n:05}" for n in range(100)], ["c 00000"] * 100]
    paths = [tmp_path / f"{name}.txt" for name in "abc"]
    for path, text, blank in zip(paths, texts, (1, 20, 2), strict=True):  # blank lines are no text
        path.write_text("".join(f"{line}\n" + "\n" * blank for line in text))
    return open_corpus(paths, "mmap", CorpusFormat(), tmp_path / "cache")


@pytest.mark.parametrize("exponent, times", [(1.0, [1, 1, 1]), (0.5, [1, 2, 2]), (0.0, [1, 4, 4])])
def test_the_largest_file_is_read_once_and_others_by_the_power_of_their_size(exponent, times):
    assert times_read(np.array([400.0, 100.0, 100.0]), exponent).tolist() == times


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=9), st.floats(0, 1))
def test_shares_are_as_the_power_of_the_sizes_and_nothing_is_left_out(sizes, exponent):
    sizes = np.array(sizes, np.float64)
    times = times_read(sizes, exponent)
    assert times.min() == 1
    shares, wanted = times * sizes, sizes**exponent
    np.testing.assert_allclose(shares / shares.sum(), wanted / wanted.sum(), rtol=1e-9)


@pytest.mark.parametrize("exponent, times", [(0.5, 2.0), (0.7, 4**0.3), (0.0, 4.0)])
def test_documents_are_drawn_as_often_as_their_file_is_read(corpus, tmp_path, exponent, times):
    train = open_split(corpus.document_hashes, 0.05, tmp_path, corpus.fingerprint).train
    drawn = np.asarray(open_mixture(corpus, train, exponent, tmp_path))
    assert np.array_equal(np.unique(drawn), np.asarray(train)) and np.all(np.diff(drawn) >= 0)
    counts = Counter(drawn.tolist())
    a, b = ([counts[n] for n in range(*ends) if n in counts] for ends in ((0, 400), (400, 500)))
    assert set(a) == {1} and set(b) <= {int(times), int(np.ceil(times))}
    # The standard deviation of a mean of 95 draws is 0.05 at most.
    assert np.mean(b) == pytest.approx(times, abs=0.2 if times % 1 else 1e-12)


def test_copies_are_drawn_alike_and_the_numbers_are_kept(corpus, tmp_path):
    train = open_split(corpus.document_hashes, 0.0, tmp_path, corpus.fingerprint).train
    first = open_mixture(corpus, train, 0.7, tmp_path)
    counts = Counter(np.asarray(first).tolist())
    assert len({counts[n] for n in range(500, 600)}) == 1
    written = first.file.stat().st_mtime_ns
    again = open_mixture(corpus, train, 0.7, tmp_path)
    assert again.file == first.file and first.file.stat().st_mtime_ns == written
    assert open_mixture(corpus, train, 0.6, tmp_path).file != first.file


def test_files_may_be_called_by_other_paths_later(corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    again = open_corpus([Path(path.name) for path in corpus.files.paths], "mmap", CorpusFormat(), Path("cache"))
    assert again.text_bytes.tolist() == corpus.text_bytes.tolist() == [2800.0, 700.0, 700.0]


def test_it_says_how_often_files_are_read(corpus):
    assert in_words(corpus, 0.5) == (
        "data.exponent=0.5: an epoch reads a.txt 1.00 times (50% of the text), b.txt 2.00 times (25% of the text), "
        "c.txt 2.00 times (25% of the text)"
    )


def test_the_same_documents_in_other_files_are_another_mixture(corpus, tmp_path):
    texts = [path.read_text() for path in corpus.files.paths]
    other = [tmp_path / "one.txt", tmp_path / "two.txt"]
    other[0].write_text(texts[0] + texts[1])
    other[1].write_text(texts[2])
    same = open_corpus(other, "mmap", CorpusFormat(), tmp_path / "cache")
    assert same.fingerprint == corpus.fingerprint
    train = open_split(corpus.document_hashes, 0.0, tmp_path, corpus.fingerprint).train
    files: list[Path] = [open_mixture(one, train, 0.5, tmp_path).file for one in (corpus, same)]
    assert files[0] != files[1]
