"""Labelled features as the loop's stream of micro-batches: shuffled anew in each epoch, from any position."""

from collections.abc import Callable, Iterator

import numpy as np

from bert.packed import PackedBatch
from bert.training.position import Position
from finetune.features import Feature


class Batches:
    """Micro-batches without end.

    Args:
        features: of the training examples.
        pack: makes a batch of some of them, with its targets.
        size: features in a micro-batch; the last of an epoch is no small remainder, since sizes differ by one at most.
        seed: of the order.
    """

    def __init__(
        self, features: list[Feature], pack: Callable[[list[Feature]], PackedBatch], size: int, seed: int
    ) -> None:
        self.features, self.pack, self.seed = features, pack, seed
        self.per_epoch = -(-len(features) // size)

    def epochs(self, position: Position) -> float:
        """How many epochs lie before a position."""
        return position.epoch + position.micro_batch / self.per_epoch

    def __call__(self, position: Position) -> Iterator[tuple[PackedBatch, Position]]:
        """Micro-batches from a position on, each with the position after it."""
        epoch, start = position.epoch, position.micro_batch
        while True:
            order = np.random.Generator(np.random.Philox(key=np.array([self.seed, epoch], np.uint64))).permutation(
                len(self.features)
            )
            for number, part in enumerate(np.array_split(order, self.per_epoch)):
                if number >= start:
                    after = Position(epoch, 0, number + 1, self.per_epoch)
                    after = Position(epoch + 1) if number + 1 == self.per_epoch else after
                    features = [self.features[i] for i in part.tolist()]
                    features.sort(key=lambda feature: -len(feature.token_ids))  # as in pretraining: little padding
                    yield self.pack(features), after
            epoch, start = epoch + 1, 0


def in_order(features: list[Feature], pack: Callable[[list[Feature]], PackedBatch], size: int) -> Iterator[PackedBatch]:
    """Every feature once, in order: for evaluation and prediction."""
    for start in range(0, len(features), size):
        yield pack(features[start : start + size])
