"""Judging a model on fixed batches: sums over the whole split, divided once."""

from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractContextManager

import torch

from bert.packed import PackedBatch
from bert.training.objective import Objective


@torch.no_grad()
def evaluate(
    objective: Objective,
    batches: Iterable[PackedBatch],
    device: torch.device,
    precision: AbstractContextManager,
) -> dict[str, float]:
    """Every sum of the objective over its count, over all batches, without dropout; and the objective's scores."""
    was_training = objective.training
    objective.eval()
    sums, counts, rows = Counter(), Counter(), []
    for batch in batches:
        counts.update(objective.counts(batch))
        batch = batch.to(device)
        with precision:
            found = objective(batch)
            rows += objective.predict(batch)
        for name, value in found.items():
            sums[name] = sums[name] + value.double()
    objective.train(was_training)
    means = {name: float(value) / max(1, counts[name]) for name, value in sums.items()}
    return means | objective.score(rows)
