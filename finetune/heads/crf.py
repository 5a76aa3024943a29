"""A linear-chain CRF over each sequence's units (Lafferty et al. 2001), by pytorch-crf.

Letters: K units, N sequences, S most units of a sequence, H width, L tags.
"""

import torch
from torch import Tensor, nn
from torchcrf import CRF


class CrfHead(nn.Module):
    """Emissions from a linear layer, transitions between neighbouring units; always in fp32.

    pytorch-crf takes masks that are a prefix of 1 alone, and silently errs on others. So the units, which may lie apart
    in the text, are first gathered into the left of a rectangle.
    """

    def __init__(self, hidden_size: int, num_tags: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(hidden_size, num_tags)
        nn.init.normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)
        self.crf = CRF(num_tags, batch_first=True)

    def loss(self, hidden: Tensor, labels: Tensor, cu_units: Tensor) -> Tensor:
        """Minus the summed log-likelihood of the sequences' tags, in nats: (K, H), (K,), (N + 1,) -> ()."""
        with torch.autocast(hidden.device.type, enabled=False):
            inside = _inside(cu_units)
            return -self.crf(self._emissions(hidden, inside), _left(labels, inside), mask=inside, reduction="sum")

    @torch.no_grad()
    def decode(self, hidden: Tensor, cu_units: Tensor) -> Tensor:
        """Viterbi's best tags: (K, H), (N + 1,) -> (K,)."""
        with torch.autocast(hidden.device.type, enabled=False):
            inside = _inside(cu_units)
            best = self.crf.decode(self._emissions(hidden, inside), mask=inside)
        return torch.tensor([tag for sequence in best for tag in sequence], device=hidden.device)

    def _emissions(self, hidden: Tensor, inside: Tensor) -> Tensor:
        """(K, H) -> (N, S, L)."""
        return _left(self.classifier(hidden.float()), inside)


def _inside(cu_units: Tensor) -> Tensor:
    """True where the rectangle holds a unit: a prefix of each row, (N, S)."""
    lengths = cu_units.diff()
    return torch.arange(int(lengths.max()), device=lengths.device) < lengths[:, None]


def _left(values: Tensor, inside: Tensor) -> Tensor:
    """(K, ...) -> (N, S, ...), zero outside."""
    cells = inside.flatten().nonzero().flatten()
    empty = values.new_zeros(inside.numel(), *values.shape[1:])
    return empty.index_copy(0, cells, values).view(*inside.shape, *values.shape[1:])
