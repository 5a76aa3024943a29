"""The contract between the loop and a task: the loop knows sums and counts, the task knows what they mean."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from bert.packed import PackedBatch
from bert.targets import Target

Row = dict[str, Any]


class Objective(nn.Module, ABC):
    """A model with its losses.

    Attributes:
        weights: share of each loss in the total, by the loss's name. Other names in `counts` are metrics.
        targets: how each target lines up with the batch, by name, so that processes can share a batch; None where
            nothing is known of them.
        together: how many consecutive sequences belong together, so that no process gets only some of them. Whoever
            builds the batches must keep them in one micro-batch.
        compares_sequences: whether a training loss compares the sequences of a batch with each other, as a loss with
            in-batch negatives does. Its value depends on how a step is divided, so such a step is never divided.
    """

    weights: dict[str, float]
    targets: ClassVar[dict[str, Target] | None] = None
    together: ClassVar[int] = 1
    compares_sequences: bool = False

    @abstractmethod
    def counts(self, batch: PackedBatch) -> dict[str, float]:
        """How many targets each sum of `forward` runs over; read on the host, before the forward pass."""

    @abstractmethod
    def forward(self, batch: PackedBatch) -> dict[str, Tensor]:
        """Sums over the batch's targets, one scalar per name in `counts`; never means."""

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Write the model as a Hugging Face folder."""

    @abstractmethod
    def restore(self, folder: Path) -> None:
        """Load the weights that `export` wrote there; raises UserError where they do not fit."""

    def flops(self, batch: PackedBatch) -> float:
        """FLOPs of training on the batch, which is on the host; 0 where they are not counted."""
        return 0.0

    def depth(self, name: str) -> int:
        """How far below the top a parameter lies: 0 for heads, 1 for the last layer, and so on; for layer_decay."""
        return 0

    def judge(self, batch: PackedBatch) -> tuple[dict[str, Tensor], list[Row]]:
        """The sums of `forward`, and a row for each example with what other scores need; none where sums are enough."""
        return self(batch), []
