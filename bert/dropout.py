"""Dropout (Srivastava et al. 2014) whose mask is drawn four numbers at a time on a CPU.

PyTorch draws a CPU's mask one number after another on one thread: for a layer of width 256 that takes longer than the
layer's own matrix product.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_STEPS = 1 << 16
"""A probability is met to one part in so many."""


class Dropout(nn.Module):
    """Sets each value to 0 with probability p while training, and scales the others so that the mean stays."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same."""
        if not self._by_numpy(x):
            return F.dropout(x, self.p, self.training)
        return x * scaled_mask(x.shape, self.p, x.dtype)

    def added(self, x: Tensor, to: Tensor) -> Tensor:
        """`to` plus what is left of x, of the same shape, in one pass."""
        if not self._by_numpy(x):
            return to + self(x)
        return torch.addcmul(to, x, scaled_mask(x.shape, self.p, x.dtype))

    def _by_numpy(self, x: Tensor) -> bool:
        """Whether there is a mask to draw, and here; numpy's numbers are no part of a compiled graph."""
        return self.training and self.p > 0 and x.device.type == "cpu" and not torch.compiler.is_compiling()

    def extra_repr(self) -> str:
        """What print shows."""
        return f"p={self.p}"


def scaled_mask(shape: torch.Size, p: float, dtype: torch.dtype) -> Tensor:
    """0 with probability p and else 1 / (1 - p), independently, as torch's seed has it."""
    dropped = round(p * _STEPS)
    seed = int(torch.randint(1 << 62, ()))
    words = np.random.SFC64(seed).random_raw(-(-shape.numel() // 4))
    numbers = torch.from_numpy(words.view(np.int16)[: shape.numel()])  # -_STEPS / 2 to _STEPS / 2, evenly
    kept = torch.ge(numbers, dropped - _STEPS // 2, out=torch.empty(shape.numel(), dtype=dtype))  # 1 or 0
    return kept.mul_(_STEPS / (_STEPS - dropped)).view(shape)
