"""One optimizer step over its micro-batches, on however many ranks."""

import contextlib
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from bert.errors import refuse_if
from bert.packed import PackedBatch
from bert.training import distributed
from bert.training.config import TrainingConfig, micro_batches
from bert.training.device import autocast, seed_torch
from bert.training.objective import Objective

if TYPE_CHECKING:
    from bert.training.team import Team


@dataclass(frozen=True)
class StepResult:
    """What a step did, on this rank; tensors on the device, so that nothing waits for it.

    Attributes:
        sums: of each loss and metric, over this rank's micro-batches; 0 if the step was skipped.
        counts: what each is summed over, on all ranks; 0 if the step was skipped.
        norm: the gradient's, before clipping, over all ranks; 0 if the step was skipped.
        skipped: 1 if the gradient is not finite and nothing was changed, else 0.
    """

    sums: dict[str, torch.Tensor]
    counts: dict[str, torch.Tensor]
    norm: torch.Tensor
    skipped: torch.Tensor


class Piece(NamedTuple):
    """A micro-batch, or a part of one.

    Attributes:
        batch: its sequences.
        key: what its dropout is seeded with.
    """

    batch: PackedBatch
    key: tuple[int, ...]


def refuse_division(objective: Objective, config: TrainingConfig) -> None:
    """Refuse to divide the steps of an objective whose loss compares the sequences of a batch.

    Raises:
        UserError: its steps would be divided into micro-batches, or over ranks or processes.
    """
    if not objective.compares_sequences:
        return
    unit = "size" if config.batch_tokens is None else "tokens"
    at_once, pieces = getattr(config, f"micro_batch_{unit}"), micro_batches(config)
    faults = {
        f"training.micro_batch_{unit}: {at_once} divides a step into {pieces}": pieces > 1,
        f"torchrun: {distributed.ranks()} ranks divide a step": distributed.ranks() > 1,
        f"training.processes: {config.processes} divide a step": (config.processes or 1) > 1,
    }
    why = f"but the loss of {type(objective).__name__} compares the sequences of a whole one, and would be another"
    refuse_if([f"{said}, {why}." for said, so in faults.items() if so])


def add_gradient(
    forward: nn.Module,
    pieces: list[Piece],
    counts: dict[str, float],
    config: TrainingConfig,
    device: torch.device,
) -> dict[str, torch.Tensor]:
    """Add the gradient of some pieces of a step to the parameters'.

    Args:
        forward: the objective, or what `distributed.wrap` made of it.
        pieces: in the order in which their gradients are added.
        counts: of the whole step, on all ranks.
        config: the loop's options.
        device: where it runs.

    Returns:
        The pieces' sums.
    """
    objective = distributed.unwrapped(forward)
    sums = dict.fromkeys(counts, torch.zeros((), device=device))
    for number, piece in enumerate(pieces):
        batch = piece.batch.to(device, non_blocking=True)
        seed_torch(*piece.key)
        # DistributedDataParallel reduces the ranks' gradients in the backward pass of the last one.
        waits = contextlib.nullcontext() if forward is objective or number == len(pieces) - 1 else forward.no_sync()
        with waits:
            with autocast(config.precision, device):
                found = forward(batch)
            parts = [weight * found[n] / max(1, counts[n]) for n, weight in objective.weights.items() if n in found]
            (sum(parts) * distributed.ranks()).backward()  # it averages over the ranks, but the parts are to be summed
        for name, value in found.items():
            sums[name] = sums[name] + value.detach()
    return sums


def training_step(
    forward: nn.Module,
    batches: list[PackedBatch],
    optimizer: torch.optim.Optimizer,
    config: TrainingConfig,
    step: int,
    device: torch.device,
    team: "Team | None" = None,
) -> StepResult:
    """One step over its micro-batches, of which a rank computes every n-th.

    Each loss is its sum over all of them divided, once, by its count over all of them: so, except for dropout, it does
    not matter how the step is split, nor over how many ranks. A gradient that is non-finite on one rank is so on all,
    since they are summed; then weights and moments stay as they are.

    Args:
        forward: the objective, or what `distributed.wrap` made of it.
        batches: all of the step, on every rank.
        optimizer: of the objective's parameters.
        config: the loop's options.
        step: its number, for the seeds.
        device: where it runs.
        team: processes that compute it together.
    """
    objective = distributed.unwrapped(forward)
    counts = Counter()
    for batch in batches:
        counts.update(objective.counts(batch))
    mine = range(distributed.rank(), len(batches), distributed.ranks())
    pieces = [Piece(batches[number], (config.seed, step, number)) for number in mine]
    if team is None:
        sums = add_gradient(forward, pieces, counts, config, device)
    else:
        sums = team.add_gradient(pieces, counts)
    norm = torch.nn.utils.get_total_norm(p.grad for p in objective.parameters() if p.grad is not None)
    skipped = (~torch.isfinite(norm)).float()
    # The fused kernel clips as it goes; if a step is skipped it leaves weights, moments and their step count alone.
    optimizer.grad_scale = (norm / (config.max_grad_norm or math.inf)).clamp(min=1).float()
    optimizer.found_inf = skipped
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    kept = skipped == 0
    return StepResult(
        {name: torch.where(kept, value, 0.0) for name, value in sums.items()},
        {name: kept * count for name, count in counts.items()},
        torch.where(kept, norm, 0.0),
        skipped,
    )
