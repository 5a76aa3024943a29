"""Each unit tagged independently (Devlin et al. 2019, section 5.3).

Letters: K units, N sequences, H width, L tags.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from finetune.decoding import Padding, Scores, viterbi
from finetune.heads.precise import PreciseLinear


class LinearHead(nn.Module):
    """A linear layer and cross-entropy."""

    def __init__(self, hidden_size: int, num_tags: int) -> None:
        super().__init__()
        self.classifier = PreciseLinear(hidden_size, num_tags)

    def loss(self, hidden: Tensor, labels: Tensor, cu_units: Tensor, smoothing: float = 0.0) -> Tensor:
        """Summed cross-entropy in nats: (K, H), (K,) -> ()."""
        logits = self.classifier(hidden)
        return F.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)

    @torch.no_grad()
    def decode(self, hidden: Tensor, cu_units: Tensor, legal: Scores | None = None) -> Tensor:
        """The best tags: (K, H), (N + 1,) -> (K,)."""
        logits = self.classifier(hidden)
        if legal is None:
            return logits.argmax(-1)
        padding = Padding(cu_units)
        return padding.unpad(viterbi(padding.pad(logits.log_softmax(-1)), padding.inside, legal))

    @torch.no_grad()
    def log_probability(self, hidden: Tensor, tags: Tensor, cu_units: Tensor) -> Tensor:
        """Of each sequence's tags: (K, H), (K,), (N + 1,) -> (N,)."""
        logarithms = self.classifier(hidden).log_softmax(-1).gather(1, tags[:, None]).squeeze(1)
        return Padding(cu_units).pad(logarithms).sum(1)
