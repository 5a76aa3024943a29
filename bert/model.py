"""BertModel: embeddings, encoder and pooler.

Letters: T tokens in the batch, R of them that are read, N sequences, H width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bert.config import ModelConfig
from bert.counting import count_of
from bert.embeddings import Embeddings
from bert.encoder import Encoder, initialise
from bert.errors import UserError
from bert.packed import PackedBatch


@dataclass(frozen=True)
class BertOutput:
    """The encoder's output for a batch.

    Attributes:
        hidden_states: after the embeddings and after each layer, (T, H) each; (R, H) after the last.
        attentions: of each layer, (N, A, S, S), or None where the backend keeps none.
        pooled: (N, H), or None for a model without a pooler.
    """

    hidden_states: list[Tensor]
    attentions: list[Tensor | None]
    pooled: Tensor | None

    @property
    def last_hidden_state(self) -> Tensor:
        """(R, H): (T, H) where all tokens are read."""
        return self.hidden_states[-1]


class BertModel(nn.Module):
    """The encoder of Devlin et al. 2019, section 3.

    Args:
        config: its sizes.
        pooler: whether each sequence's first token is pooled (a model without a sentence loss does not need it).
        attention: a name from bert.attention.BACKENDS.
    """

    def __init__(self, config: ModelConfig, pooler: bool = True, attention: str = "sdpa") -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config, attention)
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size) if pooler else None
        self.frozen: list[nn.Module] = []
        initialise(self, config.initializer_range)

    def forward(self, batch: PackedBatch, read: Tensor | None = None) -> BertOutput:
        """Encode a batch; tokens attend only to their own sequence.

        Args:
            batch: N sequences.
            read: places in the batch of the tokens whose last hidden state is needed, (R,), in any order; by default
                all T. First tokens are pooled in any case. The fewer there are, the less the last layer computes.
        """
        firsts = batch.cu_seqlens[:-1] if self.pooler is not None else batch.cu_seqlens[:0]
        wanted = None if read is None else torch.cat([read, firsts])
        (*states, last), probabilities = self.encoder(self.embeddings(batch), batch, wanted)
        last, first = (last, last.index_select(0, firsts)) if read is None else last.split([len(read), len(firsts)])
        pooled = None if self.pooler is None else torch.tanh(self.pooler(first))
        return BertOutput([*states, last], probabilities, pooled)

    def pool(self, batch: PackedBatch) -> Tensor:
        """Only the pooled outputs, (N, H), where no token's own state is needed."""
        return self(batch, read=batch.cu_seqlens[:0]).pooled

    def freeze(self, what: int | str) -> None:
        """Freeze parts, without gradient or dropout, as features (Devlin et al. 2019, section 5.3).

        Args:
            what: nothing; embeddings; a number: those and this many of the lowest layers; encoder: all but the pooler.

        Raises:
            UserError: more layers than there are.
        """
        if what == "nothing":
            return
        layers = len(self.encoder.layers)
        lowest = {"embeddings": 0, "encoder": layers}.get(what, what)
        if not 0 <= lowest <= layers:
            raise UserError(f"training.freeze: {lowest}, but the model has {count_of(layers, 'layer')}.")
        self.frozen = [self.embeddings, *self.encoder.layers[:lowest]]
        for part in self.frozen:
            part.requires_grad_(False).eval()

    def reinitialise(self, layers: int) -> None:
        """Draw new weights for this many of the top layers, and for the pooler (Zhang et al. 2021, section 4).

        Raises:
            UserError: more layers than there are.
        """
        there = len(self.encoder.layers)
        if not 0 <= layers <= there:
            raise UserError(f"reinit_layers: {layers}, but the model has {count_of(there, 'layer')}.")
        for part in (*self.encoder.layers[there - layers :], *([self.pooler] if self.pooler else [])):
            initialise(part, self.config.initializer_range)

    def train(self, mode: bool = True) -> "BertModel":
        """Set the mode; frozen parts stay in evaluation mode."""
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self

    def depth(self, name: str) -> int:
        """How far a parameter lies below a head: 1 in the top layer and the pooler, one more for each layer below.

        Args:
            name: in a module that holds this model as `bert`; outside of it the depth is 0.
        """
        whose, *parts = name.split(".")
        if whose != "bert":
            return 0
        if parts[0] == "embeddings":
            return 1 + len(self.encoder.layers)
        return len(self.encoder.layers) - int(parts[2]) if parts[:2] == ["encoder", "layers"] else 1
