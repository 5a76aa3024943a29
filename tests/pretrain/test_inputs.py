from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.examples import Cutting, Sentences, cut
from pretrain.inputs import INPUTS
from tests.pretrain.conftest import numbered

EVERY_INPUT = pytest.mark.parametrize("name", INPUTS)

# Twelve words in six sentences:  3  1  2  1  3  2
CUMULATIVE = [0, 3, 4, 6, 7, 10, 12]


def walk(name: str, target: int, uniform: float, cumulative: list[int] = CUMULATIVE) -> list[tuple[int, int, int]]:
    """Example after example through a document: (A's first sentence, A's end, B's end), and None at a leftover."""
    found, start = [], 0
    while start < len(cumulative) - 1:
        ends = INPUTS[name].cut(cumulative, start, target, uniform)
        if ends is None:
            return [*found, None]
        found.append((start, *ends))
        start = ends[1]
    return found


def test_sentence_pair_takes_two_by_two():
    assert walk("sentence_pair", target=2, uniform=0.5) == [(0, 1, 2), (2, 3, 4), (4, 5, 6)]


def test_sentence_pair_leaves_a_last_sentence_without_a_partner():
    assert walk("sentence_pair", 100, 0.5, [0, 3, 4, 6]) == [(0, 1, 2), None]


@pytest.mark.parametrize(
    "target, uniform, expected",
    [
        (6, 0.0, [(0, 1, 3), (3, 4, 6)]),  # 3+1+2 and 1+3+2 reach 6 exactly
        (6, 0.99, [(0, 2, 3), (3, 5, 6)]),
        (5, 0.5, [(0, 2, 3), (3, 5, 6)]),  # 3+1 < 5 <= 3+1+2; 1+3 < 5 <= 1+3+2
        (4, 0.0, [(0, 1, 2), (2, 3, 5), None]),  # 3+1; 2+1 < 4 <= 2+1+3; the sixth is left over
        (100, 0.0, [(0, 1, 6)]),
        (100, 0.5, [(0, 3, 6)]),
        (100, 0.999, [(0, 5, 6)]),
    ],
)
def test_segment_pair_takes_sentences_until_the_target_and_splits_them_anywhere(target, uniform, expected):
    assert walk("segment_pair", target, uniform) == expected


def test_segment_pair_gives_a_long_first_sentence_a_second():
    assert walk("segment_pair", 4, 0.9, [0, 10, 11, 12, 13]) == [(0, 1, 2), (2, 3, 4)]


def test_segment_pair_leaves_a_single_sentence_over():
    assert walk("segment_pair", 4, 0.0, [0, 5]) == [None]


def test_segment_pair_splits_at_every_boundary_alike():
    splits = [INPUTS["segment_pair"].cut(CUMULATIVE, 0, 100, uniform)[0] for uniform in np.arange(0, 1, 0.01)]
    assert np.bincount(splits).tolist() == [0, 20, 20, 20, 20, 20]


@pytest.mark.parametrize(
    "target, expected",
    [
        (6, [(0, 3, 3), (3, 6, 6)]),  # 3+1+2 and 1+3+2 fit exactly
        (5, [(0, 2, 2), (2, 4, 4), (4, 6, 6)]),  # 3+1, 2+1, 3+2
        (4, [(0, 2, 2), (2, 4, 4), (4, 5, 5), (5, 6, 6)]),
        (2, [(0, 1, 1), (1, 2, 2), (2, 3, 3), (3, 4, 4), (4, 5, 5), (5, 6, 6)]),  # a long sentence stands alone
        (100, [(0, 6, 6)]),
    ],
)
def test_doc_sentences_takes_as_many_as_fit_and_one_at_least(target, expected):
    assert walk("doc_sentences", target, 0.5) == expected


def test_doc_sentences_uses_a_document_of_one_sentence():
    assert walk("doc_sentences", 4, 0.0, [0, 9]) == [(0, 1, 1)]


@EVERY_INPUT
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=12),
    target=st.integers(2, 40),
    uniform=st.floats(0, 1, exclude_max=True),
    data=st.data(),
)
def test_an_example_has_its_segments_filled_with_what_comes_next(name, lengths, target, uniform, data):
    form, cumulative = INPUTS[name], [0, *accumulate(lengths)]
    start = data.draw(st.integers(0, len(lengths) - 1))
    ends = form.cut(cumulative, start, target, uniform)
    if ends is None:
        assert len(lengths) - start < form.segments
    elif form.segments == 1:
        assert start < ends[0] == ends[1] <= len(lengths)
    else:
        assert start < ends[0] < ends[1] <= len(lengths)


@EVERY_INPUT
def test_special_tokens_are_cls_and_a_sep_for_each_segment(name):
    assert INPUTS[name].special_tokens == {1: 2, 2: 3}[INPUTS[name].segments]


@EVERY_INPUT
@pytest.mark.parametrize("budget", [3, 7, 20, 1000])
def test_a_document_boundary_is_never_crossed(name, budget):
    lengths = [[2, 1], [1], [3, 1, 1], [4], [5], [1, 1, 1, 1, 1, 1, 1], [9, 1]]
    source = numbered(lengths)
    sentences = Sentences.of(source, np.arange(len(lengths)))
    cutting = Cutting(INPUTS[name], budget, 0.3, 0.5, True, True)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        examples, _ = cut(sentences, cutting, rng)
        for place, a, b, document in zip(
            examples.a_start, examples.a_length, examples.b_length, examples.document, strict=True
        ):
            assert set(source.document_at(source.ids[place : place + a + b])) == {document}
