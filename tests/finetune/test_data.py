"""The stream of labelled features."""

from itertools import islice

from bert.training.position import Position
from finetune.data import Batches
from finetune.features import Feature

FEATURES = [Feature(number, [0] * (1 + number % 4), [0] * (1 + number % 4)) for number in range(10)]


def epochs(seed: int = 0, start: Position | None = None) -> list[list[list[Feature]]]:
    """The micro-batches of two epochs, each as its features."""
    stream = Batches(FEATURES, lambda some: some, size=4, seed=seed)(start or Position())
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
