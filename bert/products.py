"""Matrix products by oneDNN, on a CPU: in fp32, and under autocast in bf16 where the processor supports it.

PyTorch leaves those in fp32 to another library, MKL, which is slower except on processors of its maker, and adds the
bias in a separate pass (docs/what_paid_off.md). oneDNN is part of PyTorch; the operation used here is the one that
torch.compile substitutes for linear layers.

Row counts are rounded up to a few sizes, whichever library multiplies: oneDNN compiles a kernel for every shape and
keeps it for ever, and freed memory fits again where arrays have few sizes.

Letters: R rows (tokens, or what stands for them), I inputs, O outputs.
"""

import platform

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_INTEL = getattr(torch.cpu, "get_capabilities", dict)().get("cpu_name", "").startswith("Intel")  # older ones do not say

BLOCK = 2048 if _INTEL else 1024
"""Rows of a block: few enough for the cache, and enough for products to run at their full rate."""

_WORTH_ROUNDING = 256
"""Fewer rows stay as they are: one more would be noticeable."""

_AVAILABLE = torch.backends.mkldnn.is_available() and platform.machine().lower() in ("x86_64", "amd64")
_FP32 = _AVAILABLE and not _INTEL
_BF16 = _AVAILABLE and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def uses_onednn(x: Tensor) -> bool:
    """Whether products of x are computed here: on a CPU, in fp32 or by autocast in bf16, not in a compiled graph."""
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    if not torch.is_autocast_enabled("cpu"):
        return x.dtype == torch.float32
    return _BF16 and torch.get_autocast_dtype("cpu") == torch.bfloat16 and x.dtype in (torch.float32, torch.bfloat16)


def in_type_of_products(*tensors: Tensor) -> list[Tensor]:
    """The operands of products: the tensors themselves, or under autocast the same in bf16."""
    return [tensor.bfloat16() for tensor in tensors] if torch.is_autocast_enabled("cpu") else list(tensors)


def spare_rows(rows: int, of: Tensor) -> int:
    """How many rows to add to a product with `of`, to save time and memory; 3% at most."""
    return -rows % _grain(rows) if uses_onednn(of) and rows >= _WORTH_ROUNDING else 0


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x @ weight.T + bias`, all of one dtype, without autograd: (R, I), (O, I), (O,) -> (R, O).

    By oneDNN where the number of rows is as round as `spare_rows` makes it (below 256: a multiple of 8), else by
    PyTorch's default.
    """
    rows, by_onednn = x.shape[0], {torch.float32: _FP32, torch.bfloat16: _BF16}.get(x.dtype, False)
    if not by_onednn or rows == 0 or rows % _grain(rows):
        return F.linear(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def summed(total: Tensor | None, grad_out: Tensor, x: Tensor) -> Tensor:
    """Accumulate a block's part of a weight's gradient, in fp32, in place: (O, I) or None, (R, O), (R, I) -> (O, I).

    Args:
        total: the gradient so far; None before the first block.
        grad_out: the gradient of the block's outputs.
        x: the block's inputs.
    """
    if total is None:
        return (grad_out.T @ x).float()
    return total.addmm_(grad_out.T, x) if x.dtype == torch.float32 else total.add_(grad_out.T @ x)


class Linear(nn.Linear):
    """torch.nn.Linear: the same parameters under the same names, the same sums in another order."""

    def forward(self, x: Tensor) -> Tensor:
        """(R, I) -> (R, O)."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`Linear` with weights that are passed in: (R, I), (O, I), (O,) -> (R, O)."""
    return _Linear.apply(x, weight, bias) if uses_onednn(x) else F.linear(x, weight, bias)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        x, weight, bias = in_type_of_products(x, weight, bias)
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out: Tensor):
        x, weight = ctx.saved_tensors
        needs_grad_x, needs_grad_weight, needs_grad_bias = ctx.needs_input_grad
        return (
            product(grad_out, weight.T) if needs_grad_x else None,
            grad_out.T @ x if needs_grad_weight else None,  # in fp32 by MKL, which is faster here
            grad_out.sum(0) if needs_grad_bias else None,
        )


def _grain(rows: int) -> int:
    """Row counts are rounded up to a multiple of this: 32 sizes from one power of two to the next."""
    return 1 << max(3, rows.bit_length() - 6)
