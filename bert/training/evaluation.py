"""Evaluating a model on fixed batches: sums over the whole split, divided once."""

import math
from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractContextManager

import torch

from bert.packed import PackedBatch
from bert.training import distributed
from bert.training.objective import Objective, Row


@torch.no_grad()
def evaluate(
    objective: Objective,
    batches: Iterable[PackedBatch],
    device: torch.device,
    precision: AbstractContextManager,
) -> tuple[dict[str, float], list[Row]]:
    """The means of the objective's sums over all batches, without dropout, and the rows of all, in their order.

    The ranks divide the batches among themselves, and each returns the means and rows of all of them. A mean over
    nothing is NaN.
    """
    was_training = objective.training
    objective.eval()
    sums, counts, numbered = Counter(), Counter(), []
    for number, batch in enumerate(batches):
        counted = objective.counts(batch)
        counts.update(counted)
        sums.update(dict.fromkeys(counted, 0.0))  # the same names on a rank that has no batch
        if number % distributed.ranks() != distributed.rank():
            continue
        batch = batch.to(device, non_blocking=True)
        with precision:
            found, rows = objective.judge(batch)
        numbered.append((number, rows))
        for name, value in found.items():
            sums[name] = sums[name] + value.double()
    objective.train(was_training)
    total = distributed.total(sums)
    means = {name: value / counts[name] if counts[name] else math.nan for name, value in total.items()}
    rows = [row for _, some in sorted(distributed.gathered(numbered), key=lambda pair: pair[0]) for row in some]
    return means, rows
