from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.masking import MASKING, token
from pretrain.masking.replace import corrupt
from pretrain.masking.strategy import Tokens

EVERY_STRATEGY = pytest.mark.parametrize("strategy", MASKING)
WITHIN_A_SEQUENCE = pytest.mark.parametrize("strategy", ["token", "whole_word"])
SPANS = pytest.mark.parametrize(("strategy", "longest"), [("ngram", 3), ("span", 10)])


def micro_batch(*sequences: str) -> Tokens:
    """From words by their tokens: "2 1 | 3" is [CLS], words of 2 and 1, [SEP], a word of 3, [SEP]; x is [UNK]."""
    maskable, starts, cu_seqlens = [], [], [0]
    for sequence in sequences:
        for part in ["", *sequence.split("|")]:  # [CLS] before the first, [SEP] after each
            for word in part.split():
                size = 1 if word == "x" else int(word)
                maskable += [word != "x"] * size
                starts += [True] + [False] * (size - 1)
            maskable.append(False)
            starts.append(True)
        cu_seqlens.append(len(maskable))
    return Tokens(np.array(maskable, bool), np.array(starts, bool), np.array(cu_seqlens))


def repeated(sequence: str, times: int) -> Tokens:
    return micro_batch(*[sequence] * times)


@st.composite
def micro_batches(draw) -> Tokens:
    """Any flags at all, of up to six sequences between special tokens."""
    maskable, cu_seqlens = [], [0]
    for _ in range(draw(st.integers(1, 6))):
        maskable += [False, *draw(st.lists(st.sampled_from([True, True, True, False]), max_size=15)), False]
        cu_seqlens.append(len(maskable))
    starts = draw(st.lists(st.booleans(), min_size=len(maskable), max_size=len(maskable)))
    return Tokens(np.array(maskable, bool), np.array(starts, bool), np.array(cu_seqlens))


RATES = st.sampled_from([0.001, 0.15, 0.4, 0.9, 1.0])
SEEDS = st.integers(0, 2**32)


def choose(
    strategy: str, batch: Tokens, rate: float, seed: int, bernoulli: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    return MASKING[strategy].choose(batch, rate, bernoulli, np.random.default_rng(seed))


def per_sequence(batch: Tokens, positions: np.ndarray) -> np.ndarray:
    """How many of the positions each sequence has, (N,)."""
    return np.array([((positions >= a) & (positions < b)).sum() for a, b in pairwise(batch.cu_seqlens)])


# Every strategy.


@EVERY_STRATEGY
@given(micro_batches(), RATES, SEEDS)
def test_only_maskable_tokens_are_chosen_each_once_in_order(strategy, batch, rate, seed):
    chosen, units = choose(strategy, batch, rate, seed)
    assert batch.maskable[chosen].all()
    assert (np.diff(chosen) > 0).all()
    assert len(units) == len(chosen)


@given(micro_batches(), RATES, SEEDS)
def test_every_sequence_with_a_maskable_token_gets_at_least_one_of_single_tokens(batch, rate, seed):
    chosen, _ = choose("token", batch, rate, seed)
    available = per_sequence(batch, np.flatnonzero(batch.maskable))
    assert np.array_equal(per_sequence(batch, chosen) > 0, available > 0)


@EVERY_STRATEGY
@given(micro_batches(), SEEDS)
def test_a_rate_of_one_takes_every_maskable_token(strategy, batch, seed):
    chosen, _ = choose(strategy, batch, 1.0, seed)
    assert chosen.tolist() == np.flatnonzero(batch.maskable).tolist()


@EVERY_STRATEGY
@given(micro_batches(), RATES, SEEDS)
def test_units_are_numbered_in_order_and_none_spans_two_sequences_or_a_special_token(strategy, batch, rate, seed):
    chosen, units = choose(strategy, batch, rate, seed)
    assert sorted(set(units.tolist())) == list(range(len(set(units.tolist()))))
    assert (np.diff(units) >= 0).all()
    within = np.flatnonzero(np.diff(units) == 0)  # two chosen tokens of one unit stand side by side
    assert (chosen[within + 1] - chosen[within] == 1).all()


@EVERY_STRATEGY
@given(micro_batches(), RATES, SEEDS)
def test_a_choice_repeats_with_its_generator_and_changes_no_input(strategy, batch, rate, seed):
    before = [array.copy() for array in vars(batch).values()]
    first, again = choose(strategy, batch, rate, seed), choose(strategy, batch, rate, seed)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(vars(batch).values(), before, strict=True))


@EVERY_STRATEGY
def test_a_micro_batch_of_specials_alone_has_nothing_to_predict(strategy):
    chosen, units = choose(strategy, micro_batch("x x | x", "x"), 0.15, 0)
    assert (chosen.tolist(), units.tolist()) == ([], [])


@EVERY_STRATEGY
@pytest.mark.parametrize("rate", [0.15, 0.4])
@pytest.mark.parametrize(
    ("words", "maskable"),
    [("1 1 2 3 1 1 4 1 2 1 | 1 1 1 2 2 3 1 1 1 x 5", 35), ("12 12 12 12 12", 60), ("8", 8), ("1 6", 7)],
)
def test_the_expected_number_of_tokens_is_exact(strategy, rate, words, maskable):
    draws = 4000
    batch = repeated(words, draws)
    wanted = np.rint(rate * maskable)
    found = per_sequence(batch, choose(strategy, batch, rate, 0)[0])
    assert abs(found.mean() - wanted) <= 5 * found.std() / draws**0.5


@EVERY_STRATEGY
def test_two_draws_differ(strategy):
    batch = repeated("1 2 1 2 1 1 1 2 1 1", 20)
    assert choose(strategy, batch, 0.3, 0)[0].tolist() != choose(strategy, batch, 0.3, 1)[0].tolist()


@EVERY_STRATEGY
def test_every_place_of_equal_words_is_as_likely_as_any_other(strategy):
    draws, words = 5000, 20
    batch = repeated("1 " * words, draws)
    chosen, _ = choose(strategy, batch, 0.15, 0)
    hits = np.bincount(chosen % (words + 2), minlength=words + 2)[1 : words + 1]
    assert (np.abs(hits - 0.15 * draws) < 5 * (0.15 * 0.85 * draws) ** 0.5).all()


@WITHIN_A_SEQUENCE
def test_sequences_are_masked_independently_of_each_other(strategy):
    draws = 4000
    batch = repeated("1 1 1 1 1 1 1 1 1 1", 2 * draws)
    chosen, _ = choose(strategy, batch, 0.1, 0)
    place = (chosen % 12).reshape(draws, 2)  # one word of ten each, by pairs of neighbouring sequences
    same = (place[:, 0] == place[:, 1]).mean()
    assert abs(same - 0.1) < 5 * (0.09 / draws) ** 0.5


@EVERY_STRATEGY
def test_bernoulli_draws_each_unit_by_a_coin_of_its_own(strategy):
    draws = 20_000
    batch = repeated("1 1 1", draws)
    found = per_sequence(batch, choose(strategy, batch, 0.3, 0, bernoulli=True)[0])
    assert abs(found.mean() - 0.9) < 5 * found.std() / draws**0.5
    if strategy in ("token", "whole_word"):  # three coins of 0.3
        expected = np.array([0.343, 0.441, 0.189, 0.027])
        assert (np.abs(np.bincount(found, minlength=4) / draws - expected) < 5 * (0.25 / draws) ** 0.5).all()


# Spans and n-grams.


@SPANS
@given(micro_batches(), RATES, SEEDS)
def test_a_span_is_whole_words_side_by_side_and_no_more_than_the_longest(strategy, longest, batch, rate, seed):
    chosen, units = choose(strategy, batch, rate, seed)
    words = words_of(batch)
    for unit in range(len(set(units.tolist()))):
        of_span = chosen[units == unit].tolist()
        within = [word for word in words if word[0] in of_span]
        assert [place for word in within for place in word] == of_span
        assert 1 <= len(within) <= longest


@pytest.mark.parametrize(
    ("strategy", "chances"),
    [
        ("ngram", np.array([6, 3, 2]) / 11),
        ("span", 0.2 * 0.8 ** np.arange(10) / (1 - 0.8**10)),
    ],
)
def test_span_lengths_follow_the_paper(strategy, chances):
    batch = repeated("1 " * 2000, 20)  # so long that its end plays no part
    _, units = choose(strategy, batch, 0.5, 0)
    lengths = np.bincount(units)
    found = np.bincount(lengths, minlength=len(chances) + 1)[1:] / len(lengths)
    # The last span of each of 20 sequences may be cut short.
    assert (np.abs(found - chances) < 5 * (chances * (1 - chances) / len(lengths)) ** 0.5 + 20 / len(lengths)).all()


def test_a_span_stops_at_sep_and_begins_anew_behind_it():
    ends = set()
    for seed in range(200):
        chosen, units = choose("span", micro_batch("1 1 1 | 1 1 1"), 0.5, seed)
        ends |= {tuple(chosen[units == unit].tolist()) for unit in set(units.tolist())}
    assert max(map(len, ends)) == 3 and not any(4 in span for span in ends)
    assert {(1, 2, 3), (5, 6, 7)} <= ends


@SPANS
def test_a_span_does_not_go_on_in_the_next_sequence(strategy, longest):
    every, starts = np.ones(200, bool), np.arange(0, 201, 2)  # sequences of two words, no special token between them
    chosen, units = MASKING[strategy].choose(Tokens(every, every, starts), 0.5, False, np.random.default_rng(0))
    sequences = [set((chosen[units == unit] // 2).tolist()) for unit in set(units.tolist())]
    assert {len(of_unit) for of_unit in sequences} == {1}
    assert 2 in np.bincount(units)  # some cover a sequence


@SPANS
def test_a_long_span_is_chosen_as_often_as_a_short_one(strategy, longest):
    batch = repeated("1 2 1 3 1 1 2 1", 4000)
    few, all_ = (np.bincount(np.bincount(choose(strategy, batch, rate, 1)[1]), minlength=20) for rate in (0.3, 1.0))
    shares = few[all_ > 500] / all_[all_ > 500]  # of the spans of each length in tokens, how many were chosen
    assert np.ptp(shares) < 0.06


# Tokens.


@given(micro_batches(), RATES, SEEDS)
def test_token_masking_takes_exactly_the_rounded_share_of_each_sequence(batch, rate, seed):
    available = per_sequence(batch, np.flatnonzero(batch.maskable))
    expected = [max(1, round(rate * n)) if n else 0 for n in available.tolist()]  # round() too goes to even
    assert per_sequence(batch, choose("token", batch, rate, seed)[0]).tolist() == expected


@pytest.mark.parametrize(
    "available, expected", [(1, 1), (3, 1), (9, 1), (10, 2), (20, 3), (30, 4), (100, 15), (126, 19)]
)
def test_15_percent_in_whole_tokens(available, expected):
    chosen, units = choose("token", micro_batch("1 " * available), 0.15, 0)
    assert len(chosen) == expected
    assert units.tolist() == list(range(expected))


def test_token_masking_does_not_look_at_words():
    batch, rng = micro_batch("4 4 4 4 4"), np.random.default_rng
    other = replace(batch, word_starts=np.ones_like(batch.word_starts))
    with_words = token.choose(batch, 0.3, False, rng(0))[0]
    assert with_words.tolist() == token.choose(other, 0.3, False, rng(0))[0].tolist()


# Whole words.


def words_of(batch: Tokens) -> list[list[int]]:
    """A token goes on with a word where it starts none, and a maskable token of its sequence stands before it."""
    words, starts = [], set(batch.cu_seqlens.tolist())
    for place in np.flatnonzero(batch.maskable).tolist():
        goes_on = place > 0 and batch.maskable[place - 1] and not batch.word_starts[place] and place not in starts
        if goes_on:
            words[-1].append(place)
        else:
            words.append([place])
    return words


@given(micro_batches(), RATES, SEEDS)
def test_a_word_is_masked_whole_as_one_unit_or_not_at_all(batch, rate, seed):
    chosen, units = choose("whole_word", batch, rate, seed)
    by_unit = [chosen[units == unit].tolist() for unit in range(len(set(units.tolist())))]
    words = words_of(batch)
    assert all(unit in words for unit in by_unit)


def test_a_word_is_masked_whole_in_the_example_of_the_bert_release():
    #   let us start pre ##train ##ing the model
    batch, seen = micro_batch("1 1 1 3 1 1"), set()
    for seed in range(300):
        seen.add(frozenset(choose("whole_word", batch, 0.4, seed)[0].tolist()) & {4, 5, 6})
    assert seen == {frozenset(), frozenset({4, 5, 6})}


def test_a_word_does_not_go_on_across_sep():
    #                     CLS  a  ##b SEP ##c ##d SEP: B was cut inside a word, whose start is not marked
    maskable = np.array([0, 1, 1, 0, 1, 1, 0], bool)
    starts = np.array([1, 1, 0, 1, 0, 0, 1], bool)
    batch = Tokens(maskable, starts, np.array([0, 7]))
    units = {tuple(choose("whole_word", batch, 0.5, seed)[0].tolist()) for seed in range(50)}
    assert units == {(1, 2), (4, 5)}


def test_a_word_does_not_go_on_in_the_next_sequence():
    maskable, starts = np.ones(4, bool), np.array([1, 0, 0, 0], bool)  # without any special token between them
    chosen, units = choose("whole_word", Tokens(maskable, starts, np.array([0, 2, 4])), 1.0, 0)
    assert (chosen.tolist(), units.tolist()) == ([0, 1, 2, 3], [0, 0, 1, 1])


def test_an_unknown_word_splits_the_pieces_around_it():
    batch = Tokens(np.array([0, 1, 0, 1, 0], bool), np.array([1, 1, 0, 0, 1], bool), np.array([0, 5]))
    assert {tuple(choose("whole_word", batch, 0.5, seed)[0].tolist()) for seed in range(50)} == {(1,), (3,)}


def test_a_single_word_longer_than_the_share_is_taken_whole_in_as_many_sequences_as_make_up_the_share():
    draws = 4000
    batch = repeated("7", draws)
    found = per_sequence(batch, choose("whole_word", batch, 0.15, 0)[0])
    assert set(found.tolist()) == {0, 7}
    assert abs((found == 7).mean() - 1 / 7) < 5 * (6 / 49 / draws) ** 0.5


@given(micro_batches(), RATES, SEEDS)
def test_whole_words_overshoot_by_less_than_one_word(batch, rate, seed):
    chosen, _ = choose("whole_word", batch, rate, seed)
    available = per_sequence(batch, np.flatnonzero(batch.maskable))
    longest = max(map(len, words_of(batch)), default=0)
    wanted = np.maximum(1, np.rint(rate * available))
    assert (per_sequence(batch, chosen) < wanted + longest).all()


def test_a_long_word_is_masked_as_often_as_a_short_one():
    draws, words = 20_000, [1] * 15 + [2] * 3 + [3] * 3  # 30 tokens, 4 of them wanted
    batch = repeated(" ".join(map(str, words)), draws)
    chosen, _ = choose("whole_word", batch, 0.15, 0)
    hits = np.bincount(chosen % 32, minlength=32)[1:31] / draws
    short, long = hits[:15].mean(), hits[21:].mean()
    assert abs(short - long) < 5 * (2 * 0.13 * 0.87 / draws / 3) ** 0.5


# What a chosen token becomes.

MASK, ORDINARY = 4, np.arange(5, 105)


def corrupted(token_ids, chosen, units, mask_share=0.8, random_share=0.1, seed=0, ordinary=ORDINARY) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return corrupt(token_ids, chosen, units, mask_share, random_share, MASK, ordinary, rng)


def test_tokens_become_mask_random_or_stay_in_shares_of_80_10_10():
    n = 100_000
    ids = np.full(n, 999)  # no ordinary id, so that a random token is told from one that stays
    seen = corrupted(ids, np.arange(n), np.arange(n))
    shares = np.array([(seen == MASK).mean(), np.isin(seen, ORDINARY).mean(), (seen == 999).mean()])
    assert (np.abs(shares - [0.8, 0.1, 0.1]) < 5 * (np.array([0.16, 0.09, 0.09]) / n) ** 0.5).all()


def test_words_share_one_fate_in_shares_of_80_10_10_of_words_and_of_tokens():
    lengths = np.tile([1, 2, 5], 20_000)
    units = np.repeat(np.arange(len(lengths)), lengths)
    seen = corrupted(np.full(len(units), 999), np.arange(len(units)), units)
    fate = np.select([seen == MASK, seen == 999], [0, 2], default=1)
    of_word = fate[np.cumsum(lengths) - 1]
    assert np.array_equal(fate, of_word[units])
    for fates, n in ((of_word, len(lengths)), (fate, len(lengths) / 3)):  # tokens vary by words, so with more noise
        shares = np.bincount(fates, minlength=3) / len(fates)
        assert (np.abs(shares - [0.8, 0.1, 0.1]) < 5 * (np.array([0.16, 0.09, 0.09]) / n) ** 0.5).all()


def test_tokens_of_a_randomised_word_are_drawn_each_for_itself():
    units = np.repeat(np.arange(5000), 2)
    seen = corrupted(np.full(10_000, 999), np.arange(10_000), units, mask_share=0.0, random_share=1.0).reshape(-1, 2)
    assert abs((seen[:, 0] == seen[:, 1]).mean() - 0.01) < 5 * (0.0099 / 5000) ** 0.5


def test_random_tokens_are_spread_evenly_over_the_ordinary_ids():
    n, ordinary = 100_000, np.array([0, 7, 8, 50])
    seen = corrupted(np.full(n, 999), np.arange(n), np.arange(n), 0.0, 1.0, ordinary=ordinary)
    counts = np.array([(seen == number).sum() for number in ordinary])
    assert counts.sum() == n
    assert (np.abs(counts - n / 4) < 5 * (n * 3 / 16) ** 0.5).all()


@pytest.mark.parametrize(
    "mask_share, random_share, allowed", [(1.0, 0.0, {MASK}), (0.0, 0.0, {999}), (0.0, 1.0, set(ORDINARY.tolist()))]
)
def test_shares_of_all_or_nothing_leave_no_exception(mask_share, random_share, allowed):
    seen = corrupted(np.full(5000, 999), np.arange(5000), np.arange(5000), mask_share, random_share)
    assert set(seen.tolist()) <= allowed


@given(st.data())
def test_tokens_that_are_not_chosen_stay_and_the_ids_given_are_not_changed(data):
    ids = np.array(data.draw(st.lists(st.integers(0, 200), min_size=1, max_size=30)))
    chosen = np.array(sorted(data.draw(st.sets(st.integers(0, len(ids) - 1)))), np.int64)
    before = ids.copy()
    seen = corrupted(ids, chosen, np.arange(len(chosen)), seed=data.draw(SEEDS))
    assert np.array_equal(ids, before)
    others = np.setdiff1d(np.arange(len(ids)), chosen)
    assert np.array_equal(seen[others], before[others])


def test_id_0_is_a_token_like_any_other():
    seen = corrupted(np.zeros(1000, np.int64), np.arange(1000), np.arange(1000), ordinary=np.array([0]))
    assert set(seen.tolist()) == {0, MASK}
    assert abs((seen == MASK).mean() - 0.8) < 5 * (0.16 / 1000) ** 0.5
