from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.randomness import MASKS, ORDER, PAIRS, Permutation, generator


def order(size: int, seed: int = 0, epoch: int = 0) -> list[int]:
    return Permutation(size, seed, epoch)(np.arange(size)).tolist()


# The permutation of an epoch's documents.


@pytest.mark.parametrize("seed", [0, 1])
def test_every_document_comes_once_for_every_size_up_to_300(seed):
    for size in range(1, 301):
        assert sorted(order(size, seed)) == list(range(size))


@pytest.mark.parametrize("size", [4096, 4097, 65_535, 65_537, 200_000])
def test_every_document_comes_once_where_there_are_many(size):
    assert np.array_equal(np.sort(order(size)), np.arange(size))


@given(st.integers(1, 10**12), st.integers(0, 2**64 - 1), st.integers(0, 1000), st.data())
def test_places_of_a_huge_corpus_are_all_different_and_inside(size, seed, epoch, data):
    places = np.array(data.draw(st.lists(st.integers(0, size - 1), unique=True, max_size=20)), np.int64)
    found = Permutation(size, seed, epoch)(places)
    assert len(set(found.tolist())) == len(places)
    assert ((found >= 0) & (found < size)).all()


def test_a_place_is_permuted_alike_alone_and_among_others():
    whole = order(1000, seed=3, epoch=5)
    assert [int(Permutation(1000, 3, 5)(np.array([place]))[0]) for place in (0, 17, 999)] == [
        whole[0],
        whole[17],
        whole[999],
    ]


def test_orders_differ_by_seed_and_by_epoch_and_repeat_for_the_same():
    orders = [tuple(order(50, seed, epoch)) for seed in range(5) for epoch in range(5)]
    assert len(set(orders)) == 25
    assert tuple(order(50, 4, 4)) == orders[-1]


def test_every_order_of_four_documents_is_as_likely_as_any_other():
    draws = 12_000
    counts = Counter(tuple(order(4, seed)) for seed in range(draws))
    assert set(counts) == set(permutations(range(4)))
    expected = draws / 24
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_square < 23 + 5 * (2 * 23) ** 0.5  # mean and 5 standard deviations of chi-square with 23 degrees


def test_neighbours_do_not_stay_neighbours():
    size = 10_000
    steps = np.abs(np.diff(order(size)))
    assert (steps == 1).sum() < 20  # 2 are expected
    assert abs(steps.mean() / (size / 3) - 1) < 0.05  # of two random places: a third of the range


# The generators.


def draw(*place: int) -> tuple[int, ...]:
    return tuple(generator(*place).integers(0, 2**63, 4).tolist())


def test_a_generator_is_decided_by_its_place_alone():
    assert draw(1, PAIRS, 2, 3, 4) == draw(1, PAIRS, 2, 3, 4)


def test_no_two_places_have_the_same_draws():
    places = [
        (seed, purpose, epoch, block, micro_batch)
        for seed in (0, 1, 2**64 - 1)
        for purpose in (ORDER, PAIRS, MASKS)
        for epoch in range(3)
        for block in (0, 1, 2, 2**64 - 1)
        for micro_batch in range(3)
    ]
    first = {number for place in places for number in draw(*place)}
    assert len(first) == 4 * len(places)


def test_the_stream_of_one_micro_batch_does_not_run_into_that_of_the_next():
    here = generator(0, MASKS, 0, 0, 0).integers(0, 2**64, 100_000, np.uint64)
    there = generator(0, MASKS, 0, 0, 1).integers(0, 2**64, 100_000, np.uint64)
    assert not np.isin(here, there).any()
