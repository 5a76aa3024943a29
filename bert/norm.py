"""Layer normalisation (Ba et al. 2016) whose output has the dtype of the products that read it."""

import torch
from torch import Tensor, nn


class LayerNorm(nn.LayerNorm):
    """torch.nn.LayerNorm, computed in fp32; under autocast its output is cast at once.

    PyTorch leaves it in fp32 there, so that every product would cast it again and every sum move twice the memory.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., H) -> the same."""
        normalised = super().forward(x)
        kind = x.device.type
        return normalised.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else normalised
