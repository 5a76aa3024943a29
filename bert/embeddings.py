"""The encoder's input: token + segment + position (Devlin et al. 2019, section 3, figure 2).

Letters: T tokens in the batch, H width.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from bert.compiled import CompiledForTraining
from bert.config import ModelConfig
from bert.dropout import Dropout
from bert.norm import LayerNorm
from bert.packed import PackedBatch


class Embeddings(CompiledForTraining):
    """The sum of three learned embeddings, normalised."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.token = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.segment = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.norm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, batch: PackedBatch) -> Tensor:
        """Token, segment and position ids, (T,) each -> (T, H)."""
        # F.embedding, not table[ids]: the backward of indexing is not deterministic on several CPU threads.
        summed = (
            F.embedding(batch.token_ids, self.token.weight)
            + F.embedding(batch.position_ids, self.position.weight)
            + F.embedding(batch.segment_ids, self.segment.weight)
        )
        return self.dropout(self.norm(summed))
