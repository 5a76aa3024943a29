import numpy as np
import pytest

from pretrain.audit import copies

HASHES = np.array([7, 2**64 - 1, 7, 0, 2**63, 2**63, 2**63, 5], np.uint64)


@pytest.fixture(params=[1, 3, 100])
def at_once(request, monkeypatch):
    """However many passes it takes."""
    monkeypatch.setattr(copies, "_AT_ONCE", request.param)


def test_every_further_document_of_one_text_is_a_duplicate(at_once):
    assert copies.duplicates(HASHES, np.arange(8)) == 3  # one of the 7s, two of the 2**63s
    assert copies.duplicates(HASHES, np.array([0, 1, 3, 4, 7])) == 0
    assert copies.duplicates(HASHES, np.zeros(0, np.int64)) == 0


def test_a_held_out_document_is_a_copy_where_any_of_the_others_says_the_same(at_once):
    others = np.array([2**64 - 1, 6, 0], np.uint64)
    assert copies.copied(HASHES, np.arange(8), others, np.arange(3)) == 2
    assert copies.copied(HASHES, np.array([4, 5]), HASHES, np.array([6, 7])) == 2
    assert copies.copied(HASHES, np.array([0, 2]), HASHES, np.array([1, 3])) == 0


def test_one_pass_holds_the_hashes_of_one_range_alone(monkeypatch):
    monkeypatch.setattr(copies, "_AT_ONCE", 1000)
    drawn = np.random.default_rng(0).integers(0, 2**64, 20_000, np.uint64)
    sizes = [len(copies._within(drawn, np.arange(20_000), *ends)) for ends in copies._ranges(20_000)]
    assert sum(sizes) == 20_000 and max(sizes) < 1200
