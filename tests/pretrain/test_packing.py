import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bert.config import ModelConfig
from bert.packed import PackedBatch
from bert.targets import PerToken
from bert.training.position import Position
from pretrain.data import Recipe, Sampler
from pretrain.masking import MASKING
from pretrain.objectives.masked_lm import MaskedLM
from pretrain.packing import Shape, cut, fill, shape_of
from pretrain.stream import Stream
from pretrain.targets import TARGETS
from tests.pretrain.conftest import ListSource, blocks_of, fields, make_recipe, numbered, random_lengths

# The shape, and what it admits.


def test_a_shape_admits_what_fillers_can_bring_to_it():
    shape = Shape(tokens=20, sequences=4, masked=5, longest=8)
    assert shape.admits(20, 4)  # nothing is missing
    assert shape.admits(12, 3) and shape.admits(19, 3)  # one filler of 8, or of 1
    assert not shape.admits(11, 3)  # it would need 9
    assert not shape.admits(20, 3) and not shape.admits(19, 4)  # a token without a sequence, and the reverse
    assert not shape.admits(21, 5)


def test_the_number_of_sequences_is_a_tenth_more_than_fit_on_average():
    # 8192 tokens are 81.9 sequences of 100; of 15% of them, 1229, each sequence may round up by one.
    assert shape_of(8192, longest=128, mean_length=100.0, rate=0.15) == Shape(8192, 91, 1229 + 91, 128)


@st.composite
def packings(draw) -> tuple[Shape, np.ndarray]:
    """Any shape, judged by any mean length, and sequences of which many are long, short or both."""
    longest = draw(st.integers(8, 40))
    tokens = draw(st.integers(2 * longest, 400))
    shape = shape_of(tokens, longest, draw(st.floats(1.0, longest)), draw(st.floats(0.01, 1.0)))
    length = st.one_of(st.integers(1, 3), st.integers(longest - 2, longest), st.integers(1, longest))
    return shape, np.array(draw(st.lists(length, max_size=120)), np.int64)


@settings(max_examples=300)
@given(packings())
def test_every_sequence_is_in_one_micro_batch_and_each_can_be_filled(packing):
    shape, lengths = packing
    cuts = cut(lengths, shape)
    assert (cuts[0], cuts[-1]) == (0, len(lengths)) if len(lengths) else cuts.tolist() == [0]
    assert (np.diff(cuts) > 0).all()
    for first, last in itertools.pairwise(cuts.tolist()):
        assert shape.admits(int(lengths[first:last].sum()), last - first)


@settings(max_examples=300)
@given(packings(), st.integers(0, 60))
def test_a_filled_batch_has_the_shape_and_begins_with_what_it_was(packing, masked):
    shape, lengths = packing
    for first, last in itertools.pairwise(cut(lengths, shape).tolist()):
        of_sequences = [list(range(1, 1 + length)) for length in lengths[first:last].tolist()]
        tokens = sum(map(len, of_sequences))
        targets = {
            "masked_index": torch.arange(min(masked, tokens)),
            "sentence_labels": torch.ones(last - first).long(),
        }
        targets["masked_labels"] = targets["masked_index"] + 3
        batch = PackedBatch.from_sequences(of_sequences, of_sequences, shape.longest, **targets)
        filled = fill(batch, shape)
        assert (filled.num_tokens, filled.num_sequences) == (shape.tokens, shape.sequences)
        assert (filled.real_tokens, filled.real_sequences) == (tokens, last - first)
        of_filled = filled.cu_seqlens.diff()
        assert int(of_filled.min()) >= 1 and int(of_filled.max()) <= shape.longest
        places = [place for length in of_filled.tolist() for place in range(length)]
        assert filled.position_ids.tolist() == places
        for name in ("token_ids", "segment_ids", "position_ids", "cu_seqlens"):
            ours, before = getattr(filled, name), getattr(batch, name)
            assert ours.dtype == before.dtype and torch.equal(ours[: len(before)], before)
        for name, before in batch.targets.items():
            ours = filled.targets[name]
            assert torch.equal(ours[: len(before)], before)
            assert set(ours[len(before) :].tolist()) <= {0 if name == "masked_index" else -100}
        assert len(filled.targets["masked_index"]) == shape.masked * max(1, -(-min(masked, tokens) // shape.masked))


def test_a_target_of_every_token_is_filled_like_those_of_masked_tokens_and_sequences(monkeypatch):
    monkeypatch.setitem(TARGETS, "tampered", PerToken(padding=-1))
    values = {"masked_index": [1], "masked_labels": [5], "tampered": [0, 1, 0]}
    targets = {name: torch.tensor(some) for name, some in values.items()}
    filled = fill(PackedBatch.from_sequences([[1, 2, 3]], [[0, 0, 0]], 4, **targets), Shape(6, 2, 2, 4))
    assert {name: some.tolist() for name, some in filled.targets.items()} == {
        "masked_index": [1, 0],
        "masked_labels": [5, -100],
        "tampered": [0, 1, 0, -1, -1, -1],
    }


@pytest.mark.parametrize(("tokens", "share"), [(8_192, 0.02), (32_768, 0.01), (65_536, 0.02), (131_072, 0.035)])
def test_of_ordinary_text_a_few_hundredths_are_fillers(tokens, share):
    # As pairs of at most 128 tokens are, of which a tenth are cut short: a block of four million tokens.
    rng = np.random.default_rng(0)
    full, short = rng.integers(90, 129, 36_000), rng.integers(5, 128, 4_000)
    lengths = rng.permutation(np.concatenate([full, short]))
    shape = shape_of(tokens, 128, float(lengths.mean()), 0.15)
    sizes = np.add.reduceat(lengths, cut(lengths, shape)[:-1])
    assert 1 - sizes.sum() / (len(sizes) * tokens) < share
    assert sizes.min() > 0.95 * sizes.max()  # no small remainder


# Micro-batches of text.


@pytest.fixture(scope="module")
def source() -> ListSource:
    return numbered(random_lengths(60, seed=5))


def fixed_sampler(source: ListSource, tokens: int = 256, **options) -> Sampler:
    """A sampler of micro-batches of so many tokens, in four blocks, judged as a run judges."""
    recipe = make_recipe(**options)
    of_one = Sampler(source, np.arange(60), source.tokenizer(), recipe)
    of_one.num_blocks = 4
    tally = of_one.block(0, 0).tally
    shape = shape_of(tokens, 32, tally["tokens"] / tally["sequences"], recipe.masking.rate)
    sampler = Sampler(source, np.arange(60), source.tokenizer(), Recipe(**vars(recipe) | {"shape": shape}))
    sampler.num_blocks = 4
    return sampler


@pytest.mark.parametrize("strategy", MASKING)
@pytest.mark.parametrize("tokens", [256, 1000])
def test_no_shape_varies_but_that_of_places_to_predict_where_many_long_units_meet(source, strategy, tokens):
    sampler = fixed_sampler(source, tokens, masking__strategy=strategy)
    blocks = [block for epoch in range(3) for block in blocks_of(sampler, epoch)]
    batches = [block.micro_batch(number) for block in blocks for number in range(len(block))]
    shapes = Counter(tuple((name, tuple(tensor.shape)) for name, tensor in fields(batch).items()) for batch in batches)
    rare = shapes.total() - max(shapes.values())
    assert len(batches) > 10 and rare <= (0 if strategy == "token" else 0.05 * len(batches))
    assert {len(batch.targets["masked_index"]) / sampler.recipe.shape.masked for batch in batches} <= {1.0, 2.0}
    assert all(batch.real_tokens <= tokens for batch in batches)


@pytest.mark.parametrize("count", ["fixed", "bernoulli"])
def test_no_mask_is_left_out_even_where_there_are_more_than_expected(source, count):
    sampler = fixed_sampler(source, masking__strategy="token", masking__rate=0.3, masking__count=count)
    few = Shape(**vars(sampler.recipe.shape) | {"masked": 10})  # a run's own has room for them
    sampler.recipe = Recipe(**vars(sampler.recipe) | {"shape": few})
    for block in blocks_of(sampler):
        filled = [block.micro_batch(number).targets["masked_labels"] for number in range(len(block))]
        assert np.array_equal(np.concatenate([labels[labels != -100] for labels in filled]), block.masked_labels)
        assert all(len(labels) % 10 == 0 for labels in filled)


def test_masking_never_moves_the_cuts(source):
    cuts = [
        [block.cuts.tolist() for block in blocks_of(fixed_sampler(source, masking__strategy=strategy))]
        for strategy in MASKING
    ]
    assert all(others == cuts[0] for others in cuts[1:])


def test_fillers_are_in_no_tally_but_their_own(source):
    for block in blocks_of(fixed_sampler(source)):
        batches = [block.micro_batch(number) for number in range(len(block))]
        assert sum(batch.real_tokens for batch in batches) == block.tally["tokens"] == len(block.sequences.ids)
        assert sum(batch.real_sequences for batch in batches) == block.tally["sequences"]
        assert sum(batch.num_tokens for batch in batches) == block.tally["tokens"] + block.tally["filler_tokens"]


@settings(max_examples=10)
@given(place=st.integers(0, 60))
def test_a_stream_of_fixed_shapes_goes_on_from_any_position(source, place):
    stream = Stream(fixed_sampler(source), workers=0)
    batches = list(itertools.islice(stream(Position()), place + 6))
    again = itertools.islice(stream(batches[place][1]), 5)
    for (batch, position), (expected, expected_position) in zip(again, batches[place + 1 :], strict=True):
        ours, theirs = fields(batch), fields(expected)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
        assert (position, batch.real) == (expected_position, expected.real)


# What is made of them.


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("training", [True, False])
def test_losses_and_gradients_are_those_without_fillers(source, unsettled, attention, training):
    block = fixed_sampler(source).block(0, 0)
    config = ModelConfig(
        int(source.ids.max()) + 1, 16, 2, 2, 24, 32, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    torch.manual_seed(0)
    objective = unsettled(MaskedLM(config, None, True, attention)).train(training)
    for number in range(len(block)):
        filled, plain = block.micro_batch(number), replace(block, shape=None).micro_batch(number)
        assert filled.real_sequences < filled.num_sequences
        found = []
        for batch in (filled, plain):
            objective.zero_grad()
            with torch.set_grad_enabled(training):
                sums = objective(batch)
            if training:
                (sums["masked_lm_loss"] + sums["sentence_loss"]).backward()
            gradients = [parameter.grad for parameter in objective.parameters() if training]
            found.append([objective.counts(batch), objective.flops(batch), sums, gradients])
        assert found[0][:2] == found[1][:2]
        torch.testing.assert_close(found[0][2:], found[1][2:], atol=1e-4, rtol=1e-4)
