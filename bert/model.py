"""BertModel: embeddings, encoder and pooler.

Letters: T tokens in the batch, N sequences, H width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bert.config import ModelConfig
from bert.embeddings import Embeddings
from bert.encoder import Encoder, initialise
from bert.packed import PackedBatch


@dataclass(frozen=True)
class BertOutput:
    """What the encoder made of a batch.

    Attributes:
        hidden_states: after the embeddings and after each layer, (T, H) each.
        attentions: of each layer, (N, A, S, S), or None where the backend keeps none.
        pooled: (N, H), or None for a model without a pooler.
    """

    hidden_states: list[Tensor]
    attentions: list[Tensor | None]
    pooled: Tensor | None

    @property
    def last_hidden_state(self) -> Tensor:
        """(T, H)."""
        return self.hidden_states[-1]


class BertModel(nn.Module):
    """The encoder of Devlin et al. 2019, section 3.

    Args:
        config: its sizes.
        pooler: whether each sequence's first token is pooled (a model without a sentence loss has no use for it).
        attention: a name from bert.attention.BACKENDS.
        gradient_checkpointing: whether training computes each layer again instead of keeping what it made.
    """

    def __init__(
        self, config: ModelConfig, pooler: bool = True, attention: str = "sdpa", gradient_checkpointing: bool = False
    ) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config, attention, gradient_checkpointing)
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size) if pooler else None
        initialise(self, config.initializer_range)

    def forward(self, batch: PackedBatch) -> BertOutput:
        """Encode a batch; a sequence's tokens see their own sequence alone."""
        states, probabilities = self.encoder(self.embeddings(batch), batch)
        return BertOutput(states, probabilities, self._pool(states[-1], batch))

    def _pool(self, hidden: Tensor, batch: PackedBatch) -> Tensor | None:
        """(T, H) -> (N, H): each sequence's first token, [CLS], through a dense layer and tanh."""
        if self.pooler is None:
            return None
        return torch.tanh(self.pooler(hidden.index_select(0, batch.cu_seqlens[:-1])))
