"""Linear layers whose products oneDNN computes on a CPU in fp32.

PyTorch hands fp32 products to another library, MKL, which adds the bias in a pass of its own and is the slower of the
two on some processors (docs/performance.md). oneDNN is part of PyTorch; its operation here is the one that
torch.compile puts in a linear layer's place.

Letters: T rows (tokens, or what stands for them), I inputs, O outputs.
"""

import platform

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_AVAILABLE = torch.backends.mkldnn.is_available() and platform.machine().lower() in ("x86_64", "amd64")


class Linear(nn.Linear):
    """torch.nn.Linear: the same parameters under the same names, the same sums in another order."""

    def forward(self, x: Tensor) -> Tensor:
        """(T, I) -> (T, O)."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x @ weight.T + bias`: (T, I), (O, I), (O,) -> (T, O); by oneDNN where that is the faster."""
    if not _AVAILABLE or x.device.type != "cpu" or x.ndim != 2 or torch.compiler.is_compiling():
        return F.linear(x, weight, bias)
    if x.dtype != torch.float32 or weight.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return F.linear(x, weight, bias)
    return _Linear.apply(x, weight, bias)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The same in fp32 on a CPU, for functions that take the gradient themselves."""
    if not _AVAILABLE or x.numel() == 0:
        return F.linear(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            product(gradient, weight.T) if of_x else None,
            gradient.T @ x if of_weight else None,  # here MKL is the faster
            gradient.sum(0) if of_bias else None,
        )
