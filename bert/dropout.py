"""Dropout (Srivastava et al. 2014) whose mask is drawn four numbers at a time on a CPU, and hashed in a compiled graph.

PyTorch draws a CPU's mask one number after another on one thread: for a layer of width 256 that takes longer than the
layer's own matrix product. In a compiled graph its generator makes four numbers for each that is used, which takes a
GPU longer than all else that is done in the same pass.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_STEPS = 1 << 16
"""A probability is met to one part in so many."""


class Dropout(nn.Module):
    """Sets each value to 0 with probability p while training, and scales the others so that the mean stays."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same."""
        if self._by_numpy(x):
            return _Drop.apply(x, None, *drawn_mask(x.shape, self.p, x.dtype))
        if self.training and self.p > 0 and torch.compiler.is_compiling():
            return hashed_mask(x.shape, self.p, x.device) * x / (1 - self.p)
        return F.dropout(x, self.p, self.training)

    def added(self, x: Tensor, to: Tensor) -> Tensor:
        """`to` + dropout(x), of one shape, in one pass: the residual sum."""
        if not self._by_numpy(x):
            return to + self(x)
        return _Drop.apply(x, to, *drawn_mask(x.shape, self.p, x.dtype))

    def _by_numpy(self, x: Tensor) -> bool:
        """Whether there is a mask to draw, and here; numpy's numbers are no part of a compiled graph."""
        return self.training and self.p > 0 and x.device.type == "cpu" and not torch.compiler.is_compiling()

    def extra_repr(self) -> str:
        """What print shows."""
        return f"p={self.p}"


class _Drop(torch.autograd.Function):
    """x where the mask is 1, scaled, and what it is added to if there is anything; bf16 rounds no scale."""

    @staticmethod
    def forward(ctx, x: Tensor, to: Tensor | None, kept: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.scale = scale
        return (x * kept).mul_(scale) if to is None else torch.addcmul(to, x, kept, value=scale)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        (kept,) = ctx.saved_tensors
        of_x, of_to = ctx.needs_input_grad[:2]
        return (gradient * kept).mul_(ctx.scale) if of_x else None, gradient if of_to else None, None, None


def drawn_mask(shape: torch.Size, p: float, dtype: torch.dtype) -> tuple[Tensor, float]:
    """0 with probability p and else 1, independently, as torch's seed has it; and what keeps the mean, 1 / (1 - p)."""
    dropped = min(round(p * _STEPS), _STEPS - 1)
    seed = int(torch.randint(1 << 62, ()))
    words = np.random.SFC64(seed).random_raw(-(-shape.numel() // 4))
    numbers = torch.from_numpy(words.view(np.int16)[: shape.numel()])  # -_STEPS / 2 to _STEPS / 2, evenly
    kept = torch.ge(numbers, dropped - _STEPS // 2, out=torch.empty(shape.numel(), dtype=dtype))  # 1 or 0
    return kept.view(shape), _STEPS / (_STEPS - dropped)


def hashed_mask(shape: torch.Size, p: float, device: torch.device) -> Tensor:
    """False with probability p, independently, as torch's seed has it: each value's place hashed with two drawn keys.

    The hash is lowbias32 (Wellons 2018, "Prospecting for hash functions"), once with each key.
    """
    keys = torch.randint(-(1 << 31), 1 << 31, (2,), device=device).int()
    places = torch.arange(shape.numel(), dtype=torch.int32, device=device).view(shape)
    return _hashed(_hashed(places ^ keys[0]) ^ keys[1]) >= round(p * (1 << 32)) - (1 << 31)


def _hashed(x: Tensor) -> Tensor:
    """int32 -> int32, one to one; every bit of x decides about every bit."""
    x = (x ^ _shifted(x, 16)) * 0x7FEB352D
    x = (x ^ _shifted(x, 15)) * (0x846CA68B - (1 << 32))
    return x ^ _shifted(x, 16)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """To the right, as if there were no sign."""
    return (x >> bits) & ((1 << (32 - bits)) - 1)
