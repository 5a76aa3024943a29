"""The stream of labelled features."""

from itertools import chain, islice

from hypothesis import given
from hypothesis import strategies as st

from bert.training.position import Position
from finetune.data import Batches
from finetune.features import Feature

FEATURES = [Feature(number, [0] * (1 + number % 4), [0] * (1 + number % 4)) for number in range(10)]


def epochs(seed: int = 0, start: Position | None = None) -> list[list[list[Feature]]]:
    """The micro-batches of two epochs, each as its features."""
    stream = Batches(FEATURES, lambda some: some, size=4, parts=1, seed=seed)(start or Position())
    return [[batch for batch, _ in islice(stream, 3)] for _ in range(2)]


def test_an_epoch_has_every_feature_once_in_an_order_of_its_own():
    first, second = ([feature.example for batch in epoch for feature in batch] for epoch in epochs())
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert [len(batch) for batch in epochs()[0]] == [4, 3, 3]


def test_a_micro_batch_has_its_longest_features_first():
    for batch in (batch for epoch in epochs() for batch in epoch):
        lengths = [len(feature.token_ids) for feature in batch]
        assert lengths == sorted(lengths, reverse=True)


def test_the_stream_goes_on_from_any_position():
    assert epochs(start=Position(0, 0, 1, 3))[0][:2] == epochs()[0][1:]


def steps(count: int, size: int, parts: int, epochs: int = 2) -> list[list[int]]:
    """The examples of each step, in so many parts, of some epochs."""
    features = [Feature(number, [0], [0]) for number in range(count)]
    stream = Batches(features, lambda some: some, size, parts, seed=0)
    taken = list(islice(stream(Position()), epochs * stream.per_epoch))
    assert all(len(batch) <= -(-size // parts) for batch, _ in taken)
    assert stream.epochs(taken[-1][1]) == epochs
    micro_batches = [[feature.example for feature in batch] for batch, _ in taken]
    return [sorted(chain(*micro_batches[i : i + parts])) for i in range(0, len(micro_batches), parts)]


def test_how_a_step_is_cut_changes_no_step():
    assert [len(step) for step in steps(33, size=32, parts=1)] == [17, 16, 17, 16]
    assert steps(33, size=32, parts=2) == steps(33, size=32, parts=5) == steps(33, size=32, parts=1)


@given(st.integers(1, 60), st.integers(1, 20), st.data())
def test_every_epoch_has_every_feature_once_however_it_is_cut(count, size, data):
    parts = data.draw(st.integers(1, size))
    whole, cut = steps(count, size, 1), steps(count, size, parts)
    assert sorted(chain(*cut)) == sorted(list(range(count)) * 2)
    if parts <= min(map(len, whole)):
        assert cut == whole


def test_fewer_features_than_parts_go_on_into_the_next_epoch():
    assert steps(3, size=8, parts=4, epochs=4) == [[0, 0, 1, 1, 2, 2]] * 2
