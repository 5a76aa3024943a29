"""What stands on the encoder; logits only, the losses are the objectives'.

Letters: M masked tokens, N sequences, H width, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bert.config import ModelConfig
from bert.encoder import initialise


class MaskedLMHead(nn.Module):
    """Dense, GELU and norm, then the token table itself as the output matrix, with a bias of its own.

    The table is handed in at each call and belongs to the embeddings, so it is one parameter: counted, decayed and
    saved once (Devlin et al. 2019, appendix A.2 and code).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.transform = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        initialise(self, config.initializer_range)

    def forward(self, hidden: Tensor, token_table: Tensor) -> Tensor:
        """(M, H) -> (M, V)."""
        return F.linear(self.norm(F.gelu(self.transform(hidden))), token_table, self.bias)


class SentenceHead(nn.Module):
    """Two logits from the pooled first token: 0 says B follows A, 1 says it does not."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.classifier = nn.Linear(config.hidden_size, 2)
        initialise(self, config.initializer_range)

    def forward(self, pooled: Tensor) -> Tensor:
        """(N, H) -> (N, 2)."""
        return self.classifier(pooled)
