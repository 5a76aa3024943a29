"""A bidirectional LSTM over each sequence's units, before a linear layer or a CRF (Huang et al. 2015, section 2).

Letters: K units, N sequences, S most units of a sequence, H width, L tags.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils import rnn

from finetune.decoding import Padding, Scores


class LstmHead(nn.Module):
    """The LSTM, half of the width in each direction, and a head on top (a CRF: Lample et al. 2016, section 2)."""

    def __init__(self, hidden_size: int, num_tags: int, tagger: type) -> None:
        super().__init__()
        self.lstm = nn.LSTM(hidden_size, max(1, hidden_size // 2), batch_first=True, bidirectional=True)
        self.tagger = tagger(2 * self.lstm.hidden_size, num_tags)

    def loss(self, hidden: Tensor, labels: Tensor, cu_units: Tensor, smoothing: float = 0.0) -> Tensor:
        """As the tagger's: (K, H), (K,), (N + 1,) -> ()."""
        return self.tagger.loss(self._run(hidden, cu_units), labels, cu_units, smoothing)

    @torch.no_grad()
    def decode(self, hidden: Tensor, cu_units: Tensor, legal: Scores | None = None) -> Tensor:
        """As the tagger's: (K, H), (N + 1,) -> (K,)."""
        return self.tagger.decode(self._run(hidden, cu_units), cu_units, legal)

    @torch.no_grad()
    def log_probability(self, hidden: Tensor, tags: Tensor, cu_units: Tensor) -> Tensor:
        """As the tagger's: (K, H), (K,), (N + 1,) -> (N,)."""
        return self.tagger.log_probability(self._run(hidden, cu_units), tags, cu_units)

    def _run(self, hidden: Tensor, cu_units: Tensor) -> Tensor:
        """(K, H) -> (K, H), or one less where H is odd."""
        padding = Padding(cu_units)
        with torch.autocast(hidden.device.type, enabled=False):  # on a GPU it would use fp16, even if set to bf16
            # The library needs the lengths on the CPU.
            packed = rnn.pack_padded_sequence(
                padding.pad(hidden.float()), padding.lengths.cpu(), batch_first=True, enforce_sorted=False
            )
            run, _ = rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)  # (N, S, H)
        return padding.unpad(run)
