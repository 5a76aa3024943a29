"""Each unit's tag on its own (Devlin et al. 2019, section 5.3).

Letters: K units, H width, L tags.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LinearHead(nn.Module):
    """A linear layer and cross-entropy."""

    def __init__(self, hidden_size: int, num_tags: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(hidden_size, num_tags)
        nn.init.normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)

    def loss(self, hidden: Tensor, labels: Tensor, cu_units: Tensor) -> Tensor:
        """Summed cross-entropy in nats: (K, H), (K,) -> ()."""
        return F.cross_entropy(self.classifier(hidden).float(), labels, reduction="sum")

    @torch.no_grad()
    def decode(self, hidden: Tensor, cu_units: Tensor) -> Tensor:
        """The best tag of each unit: (K, H) -> (K,)."""
        return self.classifier(hidden).argmax(-1)
