import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.split import open_split

HASHES = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=40)


@pytest.fixture
def split(tmp_path_factory):
    """The split of documents with these hashes, in a cache of its own."""

    def opened(hashes, share):
        return open_split(np.array(hashes, np.uint64), share, tmp_path_factory.mktemp("cache"), "name")

    return opened


def test_the_lowest_hashes_are_held_out(split):
    found = split([50, 10, 40, 20, 30], 0.4)
    assert found.valid.tolist() == [1, 3]
    assert np.asarray(found.train).tolist() == [0, 2, 4]


def test_copies_of_a_document_fall_on_one_side(split):
    found = split([7, 3, 7, 3, 9, 3], 0.2)  # one of six is wanted, and it has two copies
    assert found.valid.tolist() == [1, 3, 5]


@pytest.mark.parametrize("documents, share, held", [(10, 0.05, 1), (100, 0.05, 5), (1000, 0.001, 1), (3, 0.9, 3)])
def test_the_share_is_rounded_and_is_one_document_at_least(split, documents, share, held):
    assert len(split(range(documents), share).valid) == held


def test_a_share_of_0_holds_nothing_out(split):
    found = split([3, 1, 2], 0)
    assert (np.asarray(found.train).tolist(), found.valid.tolist()) == ([0, 1, 2], [])


@given(hashes=HASHES, share=st.floats(0.001, 0.999))
def test_every_document_is_on_exactly_one_side_with_all_its_copies(tmp_path_factory, hashes, share):
    hashes = np.array(hashes, np.uint64)
    found = open_split(hashes, share, tmp_path_factory.mktemp("cache"), "name")
    assert sorted([*np.asarray(found.train).tolist(), *found.valid.tolist()]) == list(range(len(hashes)))
    assert not set(hashes[found.train].tolist()) & set(hashes[found.valid].tolist())
    assert len(found.valid) >= 1


def test_the_order_of_the_corpus_plays_no_part(split):
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 200, np.uint64)
    order = rng.permutation(200)
    held = set(hashes[split(hashes, 0.1).valid].tolist())
    assert set(hashes[order][split(hashes[order], 0.1).valid].tolist()) == held


def test_more_text_moves_documents_at_the_threshold_alone(split):
    hashes = np.random.default_rng(0).integers(0, 2**64, 2000, np.uint64)
    before, after = split(hashes[:1000], 0.1), split(hashes, 0.1)
    moved = np.isin(np.arange(1000), before.valid) != np.isin(np.arange(1000), after.valid)
    # The threshold wavers by about the standard deviation of a tenth of 1000 draws, 9.5.
    assert moved.sum() < 3 * 9.5
    threshold = [hashes[:1000][before.valid].max(), hashes[after.valid].max()]
    assert ((hashes[:1000][moved] >= min(threshold)) & (hashes[:1000][moved] <= max(threshold))).all()


def test_a_split_is_read_back_from_the_cache(tmp_path):
    hashes = np.array([5, 1, 4], np.uint64)
    first = open_split(hashes, 0.34, tmp_path, "name")
    written = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    again = open_split(hashes, 0.34, tmp_path, "name")
    assert len(written) == 2
    assert {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == written
    assert again.valid.tolist() == first.valid.tolist() == [1]


def test_what_is_sent_to_a_worker_is_a_path(split):
    train = split(range(100_000), 0.1).train
    sent = pickle.dumps(train)
    assert len(sent) < 500
    assert np.array_equal(np.asarray(pickle.loads(sent)), np.asarray(train)) and len(train) == 90_000
    assert train[np.array([3, 1])].tolist() == np.asarray(train)[[3, 1]].tolist()


def test_splits_of_other_shares_and_corpora_have_files_of_their_own(tmp_path):
    hashes = np.arange(10, dtype=np.uint64)
    sizes = [
        len(open_split(hashes[:n], share, tmp_path, name).valid)
        for n, share, name in [(10, 0.1, "a"), (10, 0.5, "a"), (4, 0.5, "b"), (10, 0.1, "a")]
    ]
    assert sizes == [1, 5, 2, 1]
