"""The Transformer encoder: post-norm layers over a packed batch (Vaswani et al. 2017, section 3.1).

Letters: T tokens in the batch, R of them that are read, H width, A heads, D width of a head, H = A * D.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bert.attention import BACKENDS
from bert.config import ModelConfig
from bert.dropout import Dropout
from bert.feed_forward import FeedForward
from bert.packed import PackedBatch
from bert.products import Linear
from bert.registry import lookup


class SelfAttention(nn.Module):
    """Multi-head self-attention with its output projection (Vaswani et al. 2017, section 3.2.2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.probs_dropout = config.attention_probs_dropout_prob
        self.query_key_value = Linear(config.hidden_size, 3 * config.hidden_size)
        self.output = Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor, attend, read: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(T, H) -> (T, H), or (R, H) of the places to read; and the probabilities where the backend keeps them."""
        tokens = hidden.shape[0]
        projected = self.query_key_value(hidden).view(tokens, 3, self.num_heads, -1)  # (T, 3, A, D)
        mixed, probabilities = attend(*projected.unbind(1), self.probs_dropout if self.training else 0.0)
        mixed = mixed.reshape(tokens, -1)  # (T, H)
        return self.output(mixed if read is None else mixed.index_select(0, read)), probabilities


class Layer(nn.Module):
    """Attention, then feed-forward; each is added to its input and the sum normalised (post-norm)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Tensor, attend, read: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(T, H) -> (T, H), or (R, H) of the places to read; and the probabilities where the backend keeps them."""
        mixed, probabilities = self.attention(hidden, attend, read)
        if read is not None:
            hidden = hidden.index_select(0, read)  # (R, H)
        hidden = self.attention_norm(self.dropout.added(mixed, to=hidden))
        hidden = self.feed_forward_norm(self.dropout.added(self.feed_forward(hidden), to=hidden))
        return hidden, probabilities


class Encoder(nn.Module):
    """A stack of layers; all of them share one attention backend, made once for the batch.

    Attributes:
        gradient_checkpointing: whether training keeps each layer's input alone and computes the layer again in the
            backward pass, with the same dropout (Chen et al. 2016, section 3). It then gives no probabilities.
    """

    def __init__(self, config: ModelConfig, attention: str = "sdpa") -> None:
        super().__init__()
        self.attend_by(attention)
        self.gradient_checkpointing = False
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.compiled = False

    def attend_by(self, attention: str) -> None:
        """Use another of bert.attention.BACKENDS from now on; the weights are the same for all."""
        self.backend = lookup(BACKENDS, attention, "training.attention")

    def compile_layers(self) -> None:
        """Have the layers compiled for training, when they are first called; batches must be of one shape.

        One graph serves all layers but the last, where few tokens may be read, and parameters keep their names. Judging
        goes on uncompiled: its batches have other shapes, each of which would be compiled anew.
        """
        self.compiled = True
        for layer in self.layers:
            layer.compile(fullgraph=True, dynamic=False)

    def forward(
        self, hidden: Tensor, batch: PackedBatch, read: Tensor | None = None
    ) -> tuple[list[Tensor], list[Tensor | None]]:
        """Run the layers.

        Args:
            hidden: (T, H).
            batch: where its sequences lie.
            read: places of the tokens whose last hidden state is wanted, (R,); all of them where not given. Others
                take no part in the last layer but as keys and values: what they would become nobody reads.

        Returns:
            The hidden states, input first, (T, H) each, the last (R, H); and each layer's attention probabilities.
        """
        attend = self.backend(batch)
        run = _recomputed if self.gradient_checkpointing and torch.is_grad_enabled() else _plain
        states, probabilities = [hidden], []
        for number, layer in enumerate(self.layers, 1):
            call = layer.forward if self.compiled and not torch.is_grad_enabled() else layer
            hidden, layer_probabilities = run(call, hidden, attend, read if number == len(self.layers) else None)
            states.append(hidden)
            probabilities.append(layer_probabilities)
        return states, probabilities


def _plain(layer: Callable, hidden: Tensor, attend, read: Tensor | None) -> tuple[Tensor, Tensor | None]:
    return layer(hidden, attend, read)


def _recomputed(layer: Callable, hidden: Tensor, attend, read: Tensor | None) -> tuple[Tensor, None]:
    """The layer's output, and nothing kept that its backward pass needs; torch's generators are set back for it."""
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
