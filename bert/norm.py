"""Layer normalisation (Ba et al. 2016) whose output has the dtype of the products that read it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm(nn.LayerNorm):
    """torch.nn.LayerNorm, computed in fp32; under autocast its output is cast at once.

    PyTorch leaves it in fp32 there, so that every product would cast it again and every sum move twice the memory.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., H) -> the same."""
        kind = x.device.type
        if not torch.is_autocast_enabled(kind):
            return super().forward(x)
        dtype = torch.get_autocast_dtype(kind)
        if kind == "cuda" and x.dtype == dtype and not torch.compiler.is_compiling():
            return self.in_one_pass(x)
        return super().forward(x).to(dtype)

    def in_one_pass(self, x: Tensor) -> Tensor:
        """The same for bf16 or fp16, by one of PyTorch's kernels: neither x nor the output is ever written in fp32.

        A compiler fuses the casts; elsewhere they move four times the memory. The sums are still in fp32, but scale and
        offset are rounded to x's dtype, as that kernel requires.
        """
        scale, offset = self.weight.to(x.dtype), self.bias.to(x.dtype)
        with torch.autocast(x.device.type, enabled=False):
            return F.layer_norm(x, self.normalized_shape, scale, offset, self.eps)
