"""A model's size: the options, and the full configuration once the vocabulary is known."""

from dataclasses import dataclass, fields
from typing import Literal

from bert.errors import refuse_if
from bert.registry import lookup

# Turc et al. 2019, table 1; base and large: Devlin et al. 2019, section 3. Heads are 64 wide there and the
# intermediate size is four times the width; `original` is the Korean BERT this project grew from.
PRESETS = {
    "tiny": {"num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 512},
    "mini": {"num_hidden_layers": 4, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024},
    "small": {
        "num_hidden_layers": 4,
        "hidden_size": 512,
        "num_attention_heads": 8,
        "intermediate_size": 2048,
    },
    "medium": {
        "num_hidden_layers": 8,
        "hidden_size": 512,
        "num_attention_heads": 8,
        "intermediate_size": 2048,
    },
    "base": {
        "num_hidden_layers": 12,
        "hidden_size": 768,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
    "large": {
        "num_hidden_layers": 24,
        "hidden_size": 1024,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
    "original": {
        "num_hidden_layers": 2,
        "hidden_size": 256,
        "num_attention_heads": 8,
        "intermediate_size": 512,
    },
}


DROPOUT = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.0}
"""Dropout of a model created here."""


@dataclass(frozen=True)
class ModelOptions:
    """The encoder's size: a preset, and what should differ from it."""

    preset: Literal[*PRESETS] = "tiny"
    """Layers/width/heads: tiny 2/128/2, mini 4/256/4, small 4/512/8, medium 8/512/8, base 12/768/12,
    large 24/1024/16, original 2/256/8 (intermediate 512)."""

    num_hidden_layers: int | None = None
    """Transformer layers. By default the preset's."""

    hidden_size: int | None = None
    """Width of every token's vector; a multiple of num_attention_heads. By default the preset's."""

    num_attention_heads: int | None = None
    """Attention heads in each layer. By default the preset's."""

    intermediate_size: int | None = None
    """Width inside the feed-forward block. By default the preset's."""

    max_position_embeddings: int = 512
    """Rows of the position table: the longest sequence the model can ever read."""

    hidden_dropout_prob: float | None = None
    """Dropout on embeddings and on each block's output. By default 0.1, or that of the model in init."""

    attention_probs_dropout_prob: float | None = None
    """Dropout on attention probabilities. By default 0, or that of the model in init. The paper has 0.1; without it
    attention is one fused kernel, and training on a CPU about twice as fast."""

    initializer_range: float = 0.02
    """Standard deviation of the initial weights."""


@dataclass(frozen=True)
class ModelConfig:
    """A model's full description, with the names of transformers' BertConfig.

    Raises:
        UserError: invalid sizes; all the faults together.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0

    def __post_init__(self) -> None:
        faults = [
            f"model.{name}: {getattr(self, name)}, but it must be at least 1."
            for name in _SIZES
            if getattr(self, name) < 1
        ]
        faults += [
            f"model.{name}: {getattr(self, name)}, but it must be at least 0 and below 1."
            for name in ("hidden_dropout_prob", "attention_probs_dropout_prob")
            if not 0 <= getattr(self, name) < 1
        ]
        if not faults and self.hidden_size % self.num_attention_heads:
            faults.append(
                f"model.hidden_size: {self.hidden_size} is not a multiple of "
                f"model.num_attention_heads={self.num_attention_heads}."
            )
        if self.initializer_range <= 0:
            faults.append(f"model.initializer_range: {self.initializer_range}, but it must be above 0.")
        refuse_if(faults)


_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)


def resolve(options: ModelOptions, vocab_size: int, pad_token_id: int = 0) -> ModelConfig:
    """The model that the options describe, with a vocabulary of vocab_size tokens."""
    sizes = lookup(PRESETS, options.preset, "model.preset") | DROPOUT
    given = {field.name: getattr(options, field.name) for field in fields(options) if field.name != "preset"}
    sizes |= {name: value for name, value in given.items() if value is not None}
    return ModelConfig(vocab_size=vocab_size, pad_token_id=pad_token_id, **sizes)
