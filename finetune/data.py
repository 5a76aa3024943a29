"""Labelled features as the training loop's stream of micro-batches: reshuffled each epoch, from any position."""

from collections.abc import Callable, Iterator

import numpy as np

from bert.packed import PackedBatch
from bert.training.position import Position
from finetune.features import Feature

RULE = 2
"""Version of how steps are split into micro-batches; a run with split steps is not resumed under another."""


class Batches:
    """An endless stream of micro-batches.

    Args:
        features: of the training examples.
        pack: makes a batch of some of them, with its targets.
        size: maximum features in a step. Sizes differ by at most one: an epoch's last step is no small remainder.
        parts: micro-batches that each step is split into; the steps stay the same. Where a step has fewer features
            than that, micro-batches of the same size run on from one epoch into the next within a step.
        seed: of the order.
    """

    def __init__(
        self, features: list[Feature], pack: Callable[[list[Feature]], PackedBatch], size: int, parts: int, seed: int
    ) -> None:
        self.features, self.pack, self.seed = features, pack, seed
        self.steps, self.parts = -(-len(features) // size), parts
        if len(features) // self.steps < parts:
            self.steps, self.parts = -(-len(features) // -(-size // parts)), 1
        self.per_epoch = self.steps * self.parts

    def epochs(self, position: Position) -> float:
        """The epochs completed at a position, as a fraction."""
        return position.epoch + position.micro_batch / self.per_epoch

    def __call__(self, position: Position) -> Iterator[tuple[PackedBatch, Position]]:
        """Micro-batches from a position on, each with the position after it."""
        # A run may be resumed with its steps split differently.
        epoch, start = position.epoch, position.micro_batch * self.per_epoch // max(1, position.micro_batches)
        while True:
            order = np.random.Generator(np.random.Philox(key=np.array([self.seed, epoch], np.uint64))).permutation(
                len(self.features)
            )
            steps = np.array_split(order, self.steps)
            parts = (part for step in steps for part in np.array_split(step, self.parts))
            for number, part in enumerate(parts):
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
