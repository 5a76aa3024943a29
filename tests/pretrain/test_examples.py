import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.examples import (
    TRUNCATION,
    Cutting,
    Examples,
    Sentences,
    Text,
    cut,
    lay_out,
    longest_first,
    second_first,
    truncate,
)
from pretrain.inputs import INPUTS
from tests.pretrain.conftest import CLS, SEP, make_sampler, numbered, random_lengths


def cutting(name: str, budget: int, **changes) -> Cutting:
    plain = {"short_seq_prob": 0.0, "label_share": 0.0, "label_one_replaces_b": True, "reuse_remainder": True}
    return Cutting(INPUTS[name], budget, **plain | changes)


def cut_up(lengths: list[list[int]], how: Cutting, seed: int = 0) -> tuple[Examples, dict[str, int]]:
    """Cut documents of sentences of these lengths; documents are numbered from 100, sentences from 1000."""
    counts, sizes = np.concatenate(lengths), np.array([len(document) for document in lengths])
    sentences = Sentences(counts, 1000 + np.arange(len(counts)), sizes, 100 + np.arange(len(sizes)))
    return cut(sentences, how, np.random.default_rng(seed))


def ranges_of(examples: Examples) -> list[tuple[int, int, int, int]]:
    return list(
        zip(*(getattr(examples, name).tolist() for name in ("a_start", "a_length", "b_start", "b_length")), strict=True)
    )


def examples_of(a: list[int], b: list[int]) -> Examples:
    """Examples with segments of these lengths, one after another in the text."""
    a, b = np.array(a), np.array(b)
    starts = np.cumsum(np.append(0, a + b))[:-1]
    nothing = np.zeros(len(a), np.int64)
    return Examples(starts, a, starts + a, b, *[nothing] * 5)


# Cutting.


def test_pairs_of_a_hand_worked_block():
    examples, tally = cut_up([[3, 1, 2], [4], [1, 1, 5, 2]], cutting("sentence_pair", 20))
    #                         (3, 1) 2    4   (1, 1) (5, 2)
    assert ranges_of(examples) == [(0, 3, 3, 1), (10, 1, 11, 1), (12, 5, 17, 2)]
    assert examples.document.tolist() == [100, 102, 102]
    assert examples.b_sentence.tolist() == [1001, 1005, 1007]
    assert examples.labels.tolist() == [0, 0, 0]
    assert tally == {"sentences": 8, "sentences_left_over": 2, "sentences_after_random_b": 0}


def test_what_follows_a_random_b_begins_the_next_example():
    how = cutting("sentence_pair", 20, label_share=1.0)
    examples, tally = cut_up([[3, 1, 2, 4]], how)
    assert ranges_of(examples) == [(0, 3, 3, 1), (3, 1, 4, 2), (4, 2, 6, 4)]
    assert tally == {"sentences": 4, "sentences_left_over": 1, "sentences_after_random_b": 3}


def test_what_follows_a_random_b_can_be_dropped():
    how = cutting("sentence_pair", 20, label_share=1.0, reuse_remainder=False)
    examples, tally = cut_up([[3, 1, 2, 4]], how)
    assert ranges_of(examples) == [(0, 3, 3, 1), (4, 2, 6, 4)]
    assert tally == {"sentences": 4, "sentences_left_over": 2, "sentences_after_random_b": 2}


def test_a_label_that_keeps_its_b_has_no_remainder():
    how = cutting("sentence_pair", 20, label_share=1.0, label_one_replaces_b=False)
    examples, tally = cut_up([[3, 1, 2, 4]], how)
    assert ranges_of(examples) == [(0, 3, 3, 1), (4, 2, 6, 4)]
    assert examples.labels.tolist() == [1, 1]
    assert tally["sentences_after_random_b"] == 0


def test_segments_of_a_segment_pair_hold_every_sentence_up_to_the_target():
    examples, _ = cut_up([[3, 1, 2, 1, 3, 2]], cutting("segment_pair", 6))
    assert [(a_start, a + b) for a_start, a, _, b in ranges_of(examples)] == [(0, 6), (6, 6)]
    assert [b_start for _, _, b_start, _ in ranges_of(examples)] == [
        a_start + a for a_start, a, _, _ in ranges_of(examples)
    ]


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_where_segments_are_cut_does_not_depend_on_the_labels(share):
    lengths = random_lengths(40, seed=1)
    plain = ranges_of(cut_up(lengths, cutting("segment_pair", 20, short_seq_prob=0.3, reuse_remainder=False))[0])
    how = cutting("segment_pair", 20, short_seq_prob=0.3, reuse_remainder=False, label_share=share)
    examples, _ = cut_up(lengths, how)
    assert ranges_of(examples) == plain
    assert abs(examples.labels.mean() - share) < 5 * (0.25 / len(examples)) ** 0.5 * (share == 0.5) + 1e-9


def test_a_block_without_any_pair_gives_no_examples():
    examples, tally = cut_up([[3], [1], [8]], cutting("segment_pair", 6))
    assert len(examples) == 0
    assert tally == {"sentences": 3, "sentences_left_over": 3, "sentences_after_random_b": 0}


def test_targets_are_the_budget_but_for_the_share_of_short_ones():
    one_word_sentences = [[1] * 200_000]
    examples, _ = cut_up(one_word_sentences, cutting("doc_sentences", 10, short_seq_prob=0.25))
    lengths = np.bincount(examples.a_length[:-1], minlength=11)  # without what the text's end left over
    n = lengths.sum()
    assert lengths[:2].tolist() == [0, 0]
    # Short targets are even over 2..10, so the budget itself has a ninth of them too.
    for target in range(2, 10):
        assert abs(lengths[target] - n * 0.25 / 9) < 5 * (n * 0.25 / 9) ** 0.5
    assert abs(lengths[10] - n * (0.75 + 0.25 / 9)) < 5 * (n * 0.2) ** 0.5


def test_without_short_ones_every_target_is_the_budget():
    examples, _ = cut_up([[1] * 1000], cutting("doc_sentences", 10))
    assert examples.a_length.tolist() == [10] * 100


@given(
    st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=8), min_size=1, max_size=6),
    st.sampled_from(list(INPUTS)),
    st.integers(2, 30),
    st.booleans(),
    st.integers(0, 5),
)
def test_every_sentence_is_in_an_example_or_counted(lengths, name, budget, reuse, seed):
    how = cutting(name, budget, short_seq_prob=0.3, label_share=0.5, reuse_remainder=reuse)
    if INPUTS[name].segments == 1:
        how = cutting(name, budget, short_seq_prob=0.3)
    examples, tally = cut_up(lengths, how, seed)
    starts = np.cumsum([0, *np.concatenate(lengths)])
    truly_there = set()
    for (a_start, a, b_start, b), label in zip(ranges_of(examples), examples.labels, strict=True):
        truly_there |= set(range(a_start, a_start + a))
        truly_there |= set(range(b_start, b_start + b)) if label == 0 else set()
    unseen = [s for s in range(len(starts) - 1) if starts[s] not in truly_there]
    assert len(unseen) == tally["sentences_left_over"]


# Truncation.


def taken_one_by_one(a: int, b: int, budget: int) -> tuple[int, int]:
    """The loop of `truncate_seq_pair` in google-research/bert."""
    while a + b > budget:
        if a > b:
            a -= 1
        else:
            b -= 1
    return a, b


@pytest.mark.parametrize("budget", [2, 3, 4, 5, 9, 10, 31])
def test_longest_first_is_the_loop_of_the_bert_release(budget):
    a, b = (grid.ravel() for grid in np.meshgrid(np.arange(1, 41), np.arange(1, 41)))
    kept = np.stack(longest_first(a, b, budget), axis=1).tolist()
    assert [tuple(pair) for pair in kept] == [taken_one_by_one(*pair, budget) for pair in zip(a, b, strict=True)]


def test_longest_first_cuts_a_single_segment_to_the_budget():
    a, b = longest_first(np.array([3, 10, 11, 50]), np.zeros(4, np.int64), 10)
    assert (a.tolist(), b.tolist()) == ([3, 10, 10, 10], [0, 0, 0, 0])


def test_second_first_leaves_one_token_of_b_before_it_touches_a():
    a, b = second_first(np.array([3, 8, 9, 30, 30]), np.array([4, 4, 4, 4, 0]), 10)
    assert (a.tolist(), b.tolist()) == ([3, 8, 9, 9, 10], [4, 2, 1, 1, 0])


@pytest.mark.parametrize("name", TRUNCATION)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 60)), min_size=1, max_size=20), st.integers(5, 40))
def test_truncation_keeps_to_the_budget_and_cuts_no_more_than_it_must(name, pairs, budget):
    examples = examples_of(*map(list, zip(*pairs, strict=True)))
    cut_down, tally = truncate(examples, budget, name, np.random.default_rng(0))
    before, after = examples.a_length + examples.b_length, cut_down.a_length + cut_down.b_length
    assert np.array_equal(after, np.minimum(before, budget))
    assert (cut_down.a_length >= 1).all()
    assert np.array_equal(cut_down.b_length > 0, examples.b_length > 0)
    assert tally == {
        "tokens_truncated": int((before - after).sum()),
        "examples_truncated": int((before > budget).sum()),
    }


@pytest.mark.parametrize("name", TRUNCATION)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=20), st.integers(5, 40))
def test_what_is_kept_lies_inside_what_was_there(name, pairs, budget):
    examples = examples_of(*map(list, zip(*pairs, strict=True)))
    kept, _ = truncate(examples, budget, name, np.random.default_rng(0))
    for start, length in (("a_start", "a_length"), ("b_start", "b_length")):
        begin, end = getattr(kept, start), getattr(kept, start) + getattr(kept, length)
        assert (begin >= getattr(examples, start)).all()
        assert (end <= getattr(examples, start) + getattr(examples, length)).all()


def test_longest_first_takes_each_token_from_either_end_with_equal_chance():
    examples = examples_of([30] * 5000, [30] * 5000)
    kept, _ = truncate(examples, 40, "longest_first", np.random.default_rng(0))
    for name in ("a_start", "b_start"):
        front = getattr(kept, name) - getattr(examples, name)  # binomial, 10 tokens at 1/2
        assert abs(front.mean() - 5) < 5 * (2.5 / 5000) ** 0.5
        assert abs(front.var() - 2.5) < 0.3


def test_second_first_takes_from_the_back_alone():
    examples = examples_of([5, 30], [30, 30])
    kept, _ = truncate(examples, 20, "second_first", np.random.default_rng(0))
    assert kept.a_start.tolist() == [0, 35]
    assert kept.b_start.tolist() == [5, 65]
    assert (kept.a_length.tolist(), kept.b_length.tolist()) == ([5, 19], [15, 1])


# Laying out.

TEXT = Text(ids=np.array([10, 11, 12, 13, 14, 1, 16]), word_starts=np.array([1, 0, 1, 1, 0, 1, 0], bool))
SPECIAL = np.arange(20) < 5


def test_a_pair_is_laid_out_by_hand():
    examples = Examples(*map(np.array, ([0], [3], [5], [2], [0], [0], [0], [0], [1])))
    laid = lay_out(examples, TEXT, 2, CLS, SEP, SPECIAL)
    #                            CLS  10  11  12 SEP UNK  16 SEP
    assert laid.ids.tolist() == [2, 10, 11, 12, 3, 1, 16, 3]
    assert laid.segments.tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
    assert laid.positions.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert laid.maskable.tolist() == [False, True, True, True, False, False, True, False]
    assert laid.word_starts.tolist() == [True, True, False, True, True, True, False, True]
    assert laid.cu_seqlens.tolist() == [0, 8]
    assert laid.labels.tolist() == [1]


def test_single_segments_are_laid_out_by_hand():
    nothing = np.zeros(2, np.int64)
    examples = Examples(np.array([3, 0]), np.array([2, 1]), *[nothing] * 7)
    laid = lay_out(examples, TEXT, 1, CLS, SEP, SPECIAL)
    assert laid.ids.tolist() == [2, 13, 14, 3, 2, 10, 3]
    assert laid.segments.tolist() == [0] * 7
    assert laid.positions.tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert laid.cu_seqlens.tolist() == [0, 4, 7]


def test_a_segment_cut_inside_a_word_begins_with_what_is_left_of_it():
    examples = Examples(*map(np.array, ([1], [2], [4], [3], [0], [0], [0], [0], [0])))  # 11 and 14 go on with a word
    laid = lay_out(examples, TEXT, 2, CLS, SEP, SPECIAL)
    assert laid.ids.tolist() == [2, 11, 12, 3, 14, 1, 16, 3]
    assert laid.word_starts.tolist() == [True, True, True, True, True, True, False, True]


def test_no_examples_are_laid_out_as_nothing():
    nothing = np.zeros(0, np.int64)
    laid = lay_out(Examples(*[nothing] * 9), TEXT, 2, CLS, SEP, SPECIAL)
    assert laid.ids.tolist() == []
    assert laid.cu_seqlens.tolist() == [0]


@pytest.mark.parametrize("objective, name", [("none", name) for name in INPUTS] + [("nsp", "segment_pair")])
@pytest.mark.parametrize("truncation", TRUNCATION)
@pytest.mark.parametrize("max_length", [8, 9, 33])
def test_no_sequence_is_longer_than_max_length_and_one_reaches_it(objective, name, truncation, max_length):
    source = numbered(random_lengths(30, seed=2))
    sampler = make_sampler(
        source,
        data__max_length=max_length,
        sentence__objective=objective,
        sentence__input=name,
        sentence__truncation=truncation,
    )
    lengths = np.concatenate([np.diff(sampler.block(0, n).sequences.cu_seqlens) for n in range(sampler.num_blocks)])
    longest = max_length if name != "sentence_pair" else min(max_length, 2 * 12 + 3)
    assert lengths.max() == longest
