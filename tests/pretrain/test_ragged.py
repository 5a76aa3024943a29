import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pretrain import ragged


def test_ranges_of_a_hand_worked_example():
    assert ragged.ranges(np.array([5, 0, 9]), np.array([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]


def test_offsets_of_a_hand_worked_example():
    assert ragged.offsets(np.array([2, 0, 3])).tolist() == [0, 2, 2, 5]


def test_no_ranges_have_no_places_and_one_offset():
    nothing = np.zeros(0, np.int64)
    assert ragged.ranges(nothing, nothing).tolist() == []
    assert ragged.offsets(nothing).tolist() == [0]


@given(st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 5))))
def test_ranges_are_those_of_a_plain_loop(pairs):
    starts, lengths = (np.array([pair[i] for pair in pairs], np.int64) for i in (0, 1))
    assert ragged.ranges(starts, lengths).tolist() == [place for s, n in pairs for place in range(s, s + n)]


@given(st.lists(st.integers(0, 2**40)))
def test_offsets_are_running_totals_in_64_bits(lengths):
    found = ragged.offsets(np.array(lengths, np.int64))
    assert found.dtype == np.int64
    assert found.tolist() == [sum(lengths[:end]) for end in range(len(lengths) + 1)]


def test_offsets_of_small_integers_do_not_overflow():
    assert ragged.offsets(np.full(1000, 200, np.uint8))[-1] == 200_000
