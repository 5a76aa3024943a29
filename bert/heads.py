"""The heads: from hidden states to logits; the masked-LM head also computes its loss, so that its logits, the largest
tensor of all, need not be kept.

Letters: M masked tokens, N sequences, H width, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bert.config import ModelConfig
from bert.cross_entropy import VocabularyCrossEntropy
from bert.encoder import initialise
from bert.norm import LayerNorm
from bert.products import Linear, spare_rows


class MaskedLMHead(nn.Module):
    """Dense, GELU and norm, then the token table itself as the output matrix, with a bias of its own.

    The table is passed in at each call and belongs to the embeddings, so it is one parameter: counted, decayed and
    saved once (Devlin et al. 2019, appendix A.2 and code).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.transform = Linear(config.hidden_size, config.hidden_size)
        self.norm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.cross_entropy = VocabularyCrossEntropy()
        initialise(self, config.initializer_range)

    def forward(self, hidden: Tensor, token_table: Tensor) -> Tensor:
        """(M, H) -> (M, V)."""
        return F.linear(self._transformed(hidden), token_table, self.bias)

    def loss(self, hidden: Tensor, token_table: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Summed cross-entropy in nats, and how many labels have the highest logit: (M, H), (V, H), (M,) -> (), ()."""
        if spare := spare_rows(len(labels), of=hidden):
            hidden, labels = F.pad(hidden, (0, 0, 0, spare)), F.pad(labels, (0, spare), value=-100)
        return self.cross_entropy(self._transformed(hidden), token_table, self.bias, labels)

    def _transformed(self, hidden: Tensor) -> Tensor:
        return self.norm(F.gelu(self.transform(hidden)))


class SentenceHead(nn.Module):
    """Two logits from the pooled first token: 0 says B follows A, 1 says it does not."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.classifier = nn.Linear(config.hidden_size, 2)
        initialise(self, config.initializer_range)

    def forward(self, pooled: Tensor) -> Tensor:
        """(N, H) -> (N, 2)."""
        return self.classifier(pooled)
