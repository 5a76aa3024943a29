"""Matrix products of blocks of rows by oneDNN, on a CPU in fp32.

PyTorch hands such products to another library, MKL, which is the slower of the two on some processors, and adds a bias
in a pass of its own (docs/performance.md). oneDNN makes a program for every shape and keeps it for ever, so it is given
one number of rows alone. It is part of PyTorch; its operation here is the one that torch.compile puts in the place of
linear layers.
"""

import platform

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 1024
"""Rows of a block: few enough for the cache, and enough for products to run at their full rate."""

_AVAILABLE = torch.backends.mkldnn.is_available() and platform.machine().lower() in ("x86_64", "amd64")


def in_fp32_on_a_cpu(x: Tensor) -> bool:
    """Whether what becomes of x is computed in fp32 on a CPU, and is no part of a compiled graph."""
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return False
    return not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling()


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x @ weight.T + bias` in fp32 on a CPU, without a gradient of its own: (R, I), (O, I), (O,) -> (R, O).

    By oneDNN where x has ROWS rows, and else by what PyTorch takes.
    """
    if not _AVAILABLE or len(x) != ROWS:
        return F.linear(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
