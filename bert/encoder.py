"""The Transformer encoder: post-norm layers over a packed batch (Vaswani et al. 2017, section 3.1).

Letters: T tokens in the batch, R of them that are read, H width, A heads, D width of a head, H = A * D. Within the
encoder there may be spare rows after the T and after the R (bert/products.py).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bert.attention import BACKENDS
from bert.attention.backend import Backend
from bert.compiled import CompiledForTraining
from bert.config import ModelConfig
from bert.dropout import Dropout
from bert.feed_forward import FeedForward
from bert.norm import LayerNorm
from bert.packed import PackedBatch
from bert.products import Linear, linear, spare_rows
from bert.registry import lookup


class SelfAttention(nn.Module):
    """Multi-head self-attention with its output projection (Vaswani et al. 2017, section 3.2.2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.probs_dropout = config.attention_probs_dropout_prob
        self.query_key_value = Linear(config.hidden_size, 3 * config.hidden_size)
        self.output = Linear(config.hidden_size, config.hidden_size)

    def forward(
        self, hidden: Tensor, attend: Backend, read: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Attend from all tokens, or from some of them, to those of their sequence.

        Args:
            hidden: of all tokens, (T, H).
            attend: the batch's attention.
            read: the places of the query tokens, (R,), where not all are.

        Returns:
            What attention adds to the query tokens, and their own rows of `hidden`, (R, H) or (T, H) each; and the
            probabilities where the backend keeps them.
        """
        asking = hidden if read is None else rows_at(read, hidden)  # (R, H)
        dropout = self.probs_dropout if self.training else 0.0
        if read is not None and attend.answers_some:
            return self.output(self._some(hidden, asking, attend, read, dropout)), asking, None
        projected = self.query_key_value(hidden).view(len(hidden), 3, self.num_heads, -1)  # (T, 3, A, D)
        mixed, probabilities = attend(projected, dropout)
        mixed = mixed.reshape(len(hidden), -1)  # (T, H)
        return self.output(mixed if read is None else rows_at(read, mixed)), asking, probabilities

    def _some(self, hidden: Tensor, asking: Tensor, attend: Backend, read: Tensor, dropout: float) -> Tensor:
        """The mixed values of the tokens to read, (R, H); of the others only keys and values are computed."""
        width, whole = hidden.shape[1], self.query_key_value
        weights, biases = (p.split([width, 2 * width]) for p in (whole.weight, whole.bias))
        query = linear(asking, weights[0], biases[0]).view(-1, self.num_heads, width // self.num_heads)  # (R, A, D)
        key_value = linear(hidden, weights[1], biases[1]).view(len(hidden), 2, self.num_heads, -1)  # (T, 2, A, D)
        return attend.some(read, query, *key_value.unbind(1), dropout).flatten(1)


class Layer(CompiledForTraining):
    """Attention, then feed-forward; each is added to its input and the sum normalised (post-norm)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.attention_norm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Tensor, attend: Backend, read: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(T, H) -> (T, H), or (R, H) of the places to read; and the probabilities where the backend keeps them."""
        attended, asking, probabilities = self.attention(hidden, attend, read)
        hidden = self.attention_norm(self.dropout.added(attended, to=asking))
        hidden = self.feed_forward_norm(self.dropout.added(self.feed_forward(hidden), to=hidden))
        return hidden, probabilities


class Encoder(nn.Module):
    """A stack of layers; all of them share one attention backend, made once for the batch.

    Attributes:
        gradient_checkpointing: whether training keeps only each layer's input and recomputes the layer in the backward
            pass, with the same dropout (Chen et al. 2016, section 3). It then returns no probabilities.
    """

    def __init__(self, config: ModelConfig, attention: str = "sdpa") -> None:
        super().__init__()
        self.attend_by(attention)
        self.gradient_checkpointing = False
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))

    def attend_by(self, attention: str) -> None:
        """Use another of bert.attention.BACKENDS from now on; the weights are the same for all."""
        self.backend = lookup(BACKENDS, attention, "training.attention")

    def compile_layers(self) -> None:
        """Compile the layers for training; batches must be of one shape.

        One graph serves all layers but the last, where few tokens may be read.
        """
        for layer in self.layers:
            layer.compile_for_training()

    def forward(
        self, hidden: Tensor, batch: PackedBatch, read: Tensor | None = None
    ) -> tuple[list[Tensor], list[Tensor | None]]:
        """Run the layers.

        Args:
            hidden: (T, H).
            batch: where its sequences lie.
            read: places of the tokens whose last hidden state is needed, (R,); by default all. In the last layer the
                others serve only as keys and values, since their outputs would go unused.

        Returns:
            The hidden states, input first, (T, H) each, the last (R, H); and each layer's attention probabilities.
        """
        attend = self.backend(batch)
        run = _recomputed if self.gradient_checkpointing and torch.is_grad_enabled() else _plain
        tokens = len(hidden)
        if spare := spare_rows(tokens, of=hidden):
            hidden = F.pad(hidden, (0, 0, 0, spare))
        states, probabilities = [hidden], []
        for number, layer in enumerate(self.layers, 1):
            hidden, layer_probabilities = run(layer, hidden, attend, read if number == len(self.layers) else None)
            states.append(hidden)
            probabilities.append(layer_probabilities)
        rows = [tokens] * len(self.layers) + [tokens if read is None else len(read)]
        return [_first(number, of=state) for number, state in zip(rows, states, strict=True)], probabilities


def encoders_in(module: nn.Module) -> list[Encoder]:
    """Every encoder in a module: a generator's or the like, beside the model's own."""
    return [part for part in module.modules() if isinstance(part, Encoder)]


def _first(rows: int, of: Tensor) -> Tensor:
    """The rows without the spare ones; not sliced where there are none, since a slice's backward pass copies."""
    return of if len(of) == rows else of[:rows]


def rows_at(places: Tensor, of: Tensor) -> Tensor:
    """Some rows, then spare ones of 0 that make products fastest: (R,), (T, H) -> (R + spare, H)."""
    rows = of.index_select(0, places)
    spare = spare_rows(len(rows), of=of)
    return F.pad(rows, (0, 0, 0, spare)) if spare else rows


def _plain(layer: Callable, hidden: Tensor, attend: Backend, read: Tensor | None) -> tuple[Tensor, Tensor | None]:
    return layer(hidden, attend, read)


def _recomputed(layer: Callable, hidden: Tensor, attend: Backend, read: Tensor | None) -> tuple[Tensor, None]:
    """The layer's output, with no activations kept; recomputing them restores the state of torch's generators."""
    return checkpoint(lambda x: layer(x, attend, read)[0], hidden, use_reentrant=False), None


def initialise(module: nn.Module, standard_deviation: float) -> None:
    """Draw every matrix from N(0, standard_deviation), set biases to 0 and norms to 1 (Devlin et al. 2019, code)."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=standard_deviation)
        if isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
        if isinstance(part, nn.Linear | nn.LayerNorm) and part.bias is not None:
            nn.init.zeros_(part.bias)
