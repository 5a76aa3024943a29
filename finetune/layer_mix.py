"""Several of the encoder's hidden states as one vector per token (Devlin et al. 2019, section 5.3, table 7).

Letters: K tokens, H width, C chosen layers.
"""

import torch
from torch import Tensor, nn


class LayerMix(nn.Module):
    """Chosen layers, concatenated or as a weighted sum.

    The sum's weights are learned, with a softmax over them and a common scale (Peters et al. 2018, equation 1).

    Args:
        layers: which hidden states: 0 for the embeddings, -1 for the last layer's.
        combine: concat or weighted_sum.
        hidden_size: H.
    """

    def __init__(self, layers: list[int], combine: str, hidden_size: int) -> None:
        super().__init__()
        self.layers = layers
        summed = combine == "weighted_sum"
        self.weights = nn.Parameter(torch.zeros(len(layers))) if summed else None
        self.scale = nn.Parameter(torch.ones(())) if summed else None
        self.width = hidden_size if summed else len(layers) * hidden_size

    def forward(self, hidden_states: list[Tensor], index: Tensor) -> Tensor:
        """L of (T, H) and the last one, (K, H), of the chosen tokens only; (K,) -> (K, H), or (K, C * H)."""
        last = len(hidden_states) - 1
        chosen = [
            hidden_states[last] if layer in (-1, last) else hidden_states[layer].index_select(0, index)
            for layer in self.layers
        ]
        if self.weights is None:
            return torch.cat(chosen, -1)
        weights = self.weights.softmax(0).split(1)  # (1,) each: 0-d tensors would be rounded to bf16
        return self.scale * sum(weight * part for weight, part in zip(weights, chosen, strict=True))
