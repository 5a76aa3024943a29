"""Dropout (Srivastava et al. 2014) whose mask is drawn four numbers at a time on a CPU, and hashed in a compiled graph.

On a CPU PyTorch draws the mask one number at a time on one thread: for a layer of width 256 that takes longer than the
layer's own matrix product. In a compiled graph its generator makes four numbers for each one used, which takes a GPU
longer than everything else in the same pass.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_STEPS = 1 << 16
"""A probability is met to one part in this many."""


class Dropout(nn.Module):
    """Sets each value to 0 with probability p while training, and scales the others to keep the mean."""

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
        """`to` + dropout(x), both of one shape, in one pass: the residual sum."""
        if not self._by_numpy(x):
            return to + self(x)
        return _Drop.apply(x, to, *drawn_mask(x.shape, self.p, x.dtype))

    def _by_numpy(self, x: Tensor) -> bool:
        """Whether numpy draws the mask: while training, on a CPU, outside a compiled graph."""
        return self.training and self.p > 0 and x.device.type == "cpu" and not torch.compiler.is_compiling()

    def extra_repr(self) -> str:
        """What print shows."""
        return f"p={self.p}"


class _Drop(torch.autograd.Function):
    """x where the mask is 1, scaled, plus `to` if given; the scale is not rounded to bf16."""

    @staticmethod
    def forward(ctx, x: Tensor, to: Tensor | None, kept: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.scale = scale
        return (x * kept).mul_(scale) if to is None else torch.addcmul(to, x, kept, value=scale)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out: Tensor):
        (kept,) = ctx.saved_tensors
        needs_grad_x, needs_grad_to = ctx.needs_input_grad[:2]
        grad_x = (grad_out * kept).mul_(ctx.scale) if needs_grad_x else None
        return grad_x, grad_out if needs_grad_to else None, None, None


def drawn_mask(shape: torch.Size, p: float, dtype: torch.dtype) -> tuple[Tensor, float]:
    """0 with probability p, else 1, independently, from torch's seed; and the scale to keep the mean, 1 / (1 - p)."""
    dropped = min(round(p * _STEPS), _STEPS - 1)
    seed = int(torch.randint(1 << 62, ()))
    words = np.random.SFC64(seed).random_raw(-(-shape.numel() // 4))
    numbers = torch.from_numpy(words.view(np.int16)[: shape.numel()])  # uniform from -_STEPS / 2 to _STEPS / 2
    kept = torch.ge(numbers, dropped - _STEPS // 2, out=torch.empty(shape.numel(), dtype=dtype))  # 1 or 0
    return kept.view(shape), _STEPS / (_STEPS - dropped)


def hashed_mask(shape: torch.Size, p: float, device: torch.device) -> Tensor:
    """False with probability p, independently, from torch's seed: each value's index hashed with two random keys.

    The hash is lowbias32 (Wellons 2018, "Prospecting for hash functions"), once with each key.
    """
    keys = torch.randint(-(1 << 31), 1 << 31, (2,), device=device).int()
    places = torch.arange(shape.numel(), dtype=torch.int32, device=device).view(shape)
    return _hashed(_hashed(places ^ keys[0]) ^ keys[1]) >= round(p * (1 << 32)) - (1 << 31)


def _hashed(x: Tensor) -> Tensor:
    """int32 -> int32, one to one; every bit of x affects every bit of the result."""
    x = (x ^ _shifted(x, 16)) * 0x7FEB352D
    x = (x ^ _shifted(x, 15)) * (0x846CA68B - (1 << 32))
    return x ^ _shifted(x, 16)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Logical shift to the right."""
    return (x >> bits) & ((1 << (32 - bits)) - 1)
