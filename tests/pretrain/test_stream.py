import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert.packed import PackedBatch
from bert.training.position import Position
from pretrain.stream import Stream, frozen_batches
from tests.pretrain.conftest import ListSource, batches_of, make_sampler, numbered, random_lengths, same


@pytest.fixture(scope="module")
def source() -> ListSource:
    return numbered(random_lengths(60, seed=5))


# The stream.


def take(stream: Stream, position: Position, count: int) -> list[tuple[PackedBatch, Position]]:
    return list(itertools.islice(stream(position), count))


@pytest.fixture(scope="module")
def streamed(source) -> tuple[Stream, list[tuple[PackedBatch, Position]]]:
    """A stream, and all of its first two epochs and some of the third."""
    stream = Stream(make_sampler(source, block_documents=13, batch_size=3), workers=0)
    return stream, take(stream, Position(), 130)


def test_a_stream_is_every_micro_batch_of_block_after_block_and_epoch_after_epoch(streamed):
    stream, batches = streamed
    expected = [batch for epoch in range(3) for batch in batches_of(stream.sampler, epoch)]
    assert len(batches_of(stream.sampler, 0)) + len(batches_of(stream.sampler, 1)) < 130 <= len(expected)
    assert all(same(a, b) for (a, _), b in zip(batches, expected, strict=False))


@settings(max_examples=20)
@given(st.integers(0, 128))
def test_a_stream_goes_on_from_any_position_as_if_it_had_never_stopped(streamed, cut):
    stream, batches = streamed
    following = take(stream, batches[cut][1], min(12, 129 - cut))
    for (batch, position), (expected, expected_position) in zip(following, batches[cut + 1 :], strict=False):
        assert same(batch, expected)
        assert position == expected_position


def test_positions_count_epochs_blocks_and_micro_batches_in_order(streamed):
    stream, batches = streamed
    positions = [(p.epoch, p.block, p.micro_batch) for _, p in batches]
    assert positions == sorted(set(positions))
    assert positions[0] == (0, 0, 1)
    assert (1, 0, 0) in positions
    shares = [stream.epochs(position) for _, position in batches]
    assert shares == sorted(set(shares))
    assert stream.epochs(Position()) == 0.0
    assert stream.epochs(Position(epoch=2)) == 2.0
    assert stream.epochs(Position(1, 2, 3, 6)) == 1 + (2 + 0.5) / 5  # 60 documents in blocks of 13


def test_a_stream_goes_on_at_the_same_place_where_steps_are_now_split_differently(source):
    whole = Stream(make_sampler(source, block_documents=60, batch_size=8), workers=0)
    halves = Stream(make_sampler(source, block_documents=60, batch_size=8, micro_batches=2), workers=0)
    position = take(whole, Position(), 5)[-1][1]
    _, after = take(halves, position, 2)[-1]
    assert (after.micro_batch, after.micro_batches) == (12, 2 * position.micro_batches)
    (batch, back), *_ = take(whole, after, 1)
    assert back == Position(0, 0, 7, position.micro_batches)
    assert same(batch, take(whole, Position(), 7)[-1][0])


def test_blocks_without_examples_are_passed_over():
    source = numbered([[3, 3] if n % 10 == 0 else [3] for n in range(40)])
    stream = Stream(make_sampler(source, block_documents=4), workers=0)
    empty = [len(stream.sampler.block(0, number)) == 0 for number in range(10)]
    assert 0 < sum(empty) < 10
    batches = take(stream, Position(), 30)
    assert all(batch.num_sequences > 0 for batch, _ in batches)
    assert all(same(a, b) for (a, _), (b, _) in zip(take(stream, batches[3][1], 20), batches[4:], strict=False))


def test_workers_change_no_batch(store, tokenizer):
    sampler = make_sampler(store, tokenizer, block_documents=9)
    here, ahead = Stream(sampler, workers=0), Stream(sampler, workers=2)
    expected = take(here, Position(), 40)
    assert expected[-1][1].epoch >= 1
    start = expected[3][1]
    for (batch, position), (alone, position_alone) in zip(take(ahead, start, 36), expected[4:], strict=True):
        assert same(batch, alone)
        assert position == position_alone


def test_without_workers_no_process_is_started(store, tokenizer, monkeypatch):
    def started():
        raise AssertionError("a process that nobody needs")

    monkeypatch.setattr("pretrain.loader_workers.resource_tracker.ensure_running", started)
    assert len(take(Stream(make_sampler(store, tokenizer), workers=0), Position(), 2)) == 2


# Frozen sets.


def test_frozen_batches_are_the_first_of_the_first_epoch(source):
    sampler = make_sampler(source)
    frozen = frozen_batches(sampler, 50)
    expected = batches_of(sampler)
    assert all(same(a, b) for a, b in zip(frozen, expected, strict=False))
    assert sum(batch.num_sequences for batch in frozen) <= 50
    assert sum(batch.num_sequences for batch in expected[: len(frozen) + 1]) > 50


def test_frozen_batches_end_with_the_text(source):
    sampler = make_sampler(source)
    assert len(frozen_batches(sampler, 10**9)) == len(batches_of(sampler))
