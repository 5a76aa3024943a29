"""The last layer of every head, in fp32 whatever the precision of training.

bf16 has 8 significant bits: rounded to them, the scores of a whole split take a few dozen values, and many tie.
"""

import torch
from torch import Tensor, nn


class PreciseLinear(nn.Linear):
    """A linear layer outside autocast, initialised from N(0, standard_deviation²) with bias 0."""

    def __init__(self, inputs: int, outputs: int, standard_deviation: float = 0.02) -> None:
        super().__init__(inputs, outputs)
        nn.init.normal_(self.weight, std=standard_deviation)
        nn.init.zeros_(self.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs), fp32."""
        with torch.autocast(hidden.device.type, enabled=False):
            return super().forward(hidden.float())
