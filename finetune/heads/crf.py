"""A linear-chain CRF over each sequence's units (Lafferty et al. 2001); the likelihood is pytorch-crf's.

Letters: K units, N sequences, S most units of a sequence, H width, L tags.
"""

import torch
from torch import Tensor, nn
from torchcrf import CRF

from finetune.decoding import Padding, Scores, viterbi
from finetune.heads.precise import PreciseLinear


class CrfHead(nn.Module):
    """Emissions from a linear layer, transitions between neighbouring units; always in fp32.

    pytorch-crf only handles masks that are a prefix of ones, and is silently wrong on others. So the units, which need
    not be adjacent in the text, are first gathered flush left into a rectangle.
    """

    def __init__(self, hidden_size: int, num_tags: int) -> None:
        super().__init__()
        self.classifier = PreciseLinear(hidden_size, num_tags)
        self.crf = CRF(num_tags, batch_first=True)

    def loss(self, hidden: Tensor, labels: Tensor, cu_units: Tensor, smoothing: float = 0.0) -> Tensor:
        """Summed negative log-likelihood of the sequences' tags, in nats: (K, H), (K,), (N + 1,) -> ()."""
        if smoothing:
            raise ValueError("a CRF has no label smoothing")
        with torch.autocast(hidden.device.type, enabled=False):
            padding = Padding(cu_units)
            found = self._log_probability(self._emissions(hidden, padding), padding.pad(labels), padding)
            # Where every sequence has one unit no transition is read; DDP waits for all gradients, even of 0.
            return 0.0 * self.crf.transitions.sum() - found.sum()

    @torch.no_grad()
    def decode(self, hidden: Tensor, cu_units: Tensor, legal: Scores | None = None) -> Tensor:
        """The best tags: (K, H), (N + 1,) -> (K,)."""
        scores = Scores(self.crf.transitions, self.crf.start_transitions, self.crf.end_transitions)
        with torch.autocast(hidden.device.type, enabled=False):
            padding = Padding(cu_units)
            scores = scores if legal is None else scores + legal
            return padding.unpad(viterbi(self._emissions(hidden, padding), padding.inside, scores))

    @torch.no_grad()
    def log_probability(self, hidden: Tensor, tags: Tensor, cu_units: Tensor) -> Tensor:
        """Of each sequence's tags: (K, H), (K,), (N + 1,) -> (N,)."""
        with torch.autocast(hidden.device.type, enabled=False):
            padding = Padding(cu_units)
            return self._log_probability(self._emissions(hidden, padding), padding.pad(tags), padding)

    def _emissions(self, hidden: Tensor, padding: Padding) -> Tensor:
        """(K, H) -> (N, S, L)."""
        return padding.pad(self.classifier(hidden))

    def _log_probability(self, emissions: Tensor, tags: Tensor, padding: Padding) -> Tensor:
        """(N, S, L), (N, S) -> (N,)."""
        return self.crf(emissions, tags, mask=padding.inside, reduction="none")
