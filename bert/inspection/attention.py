"""A model's attention probabilities, as a picture and as numbers."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from bert.counting import count_of
from bert.errors import UserError
from bert.picture import blank, save
from bert.pretrained import Bert, Encoded

_MOST_IN_WORDS = 40
"""Tokens whose attention is also printed, at most."""


@dataclass(frozen=True)
class AttentionConfig:
    """Show where each token of a text looks."""

    text: str
    """The text."""

    text_pair: str | None = None
    """A second text, for a pair."""

    checkpoint: str = "runs/pretrain"
    """A model's folder, or its id on the Hugging Face hub."""

    layer: int | None = None
    """One layer, counted from 0 as in the weights' names; by default all of them."""

    head: int | None = None
    """One head, counted from 0; by default all of them, side by side."""

    output: str = "attention.png"
    """The picture; the numbers are beside it, in a file ending in .attention.json."""


def show_attention(config: AttentionConfig) -> None:
    """Draw the attention probabilities of a text, and write them to a file."""
    picture = Path(config.output)
    if picture.suffix not in (".png", ".svg", ".pdf"):
        raise UserError(f"output: '{picture}', but its name must end in .png, .svg or .pdf.")
    bert = Bert.from_pretrained(config.checkpoint, "eager", "checkpoint")
    layers = _chosen("layer", config.layer, bert.bert.config.num_hidden_layers)
    heads = _chosen("head", config.head, bert.bert.config.num_attention_heads)
    pair = None if config.text_pair is None else [config.text_pair]
    (encoded,) = bert.encode([config.text], pair, places=["text"])
    picture.parent.mkdir(parents=True, exist_ok=True)
    draw(encoded, layers, heads, picture)
    numbers = picture.with_name(f"{picture.stem}.attention.json")
    numbers.write_text(json.dumps(described(encoded, layers, heads), ensure_ascii=False) + "\n", encoding="utf-8")
    if len(layers) * len(heads) > 1:
        print(f"mean over {count_of(len(layers), 'layer')} and {count_of(len(heads), 'head')}:")
    print(in_words(encoded.tokens, encoded.attentions[layers][:, heads].mean((0, 1))))
    print(f"\npicture: {picture}\nnumbers: {numbers}")


def described(encoded: Encoded, layers: list[int], heads: list[int]) -> dict:
    """The numbers: `attentions` by layer, head, query token, key token; each row sums to 1."""
    rounded = encoded.attentions[layers][:, heads].double().numpy().round(6).tolist()
    return {"tokens": encoded.tokens, "layers": layers, "heads": heads, "attentions": rounded}


def draw(encoded: Encoded, layers: list[int], heads: list[int], path: Path) -> None:
    """A square for each layer (down) and head (across): query tokens down, key tokens across."""
    tokens, single = encoded.tokens, len(layers) * len(heads) == 1
    side = max(4.0, 1.5 + 0.28 * len(tokens)) if single else max(1.4, min(3.0, 16 / len(heads)))
    figure = blank(side * len(heads), side * len(layers))
    for row, layer in enumerate(layers):
        for column, head in enumerate(heads):
            axes = figure.add_subplot(len(layers), len(heads), row * len(heads) + column + 1)
            axes.imshow(encoded.attentions[layer, head].numpy(), cmap="Blues", vmin=0, vmax=1)
            axes.set_title(f"layer {layer}, head {head}", fontsize=8)
            axes.set_xticks(range(len(tokens)) if single else [], tokens if single else [], rotation=90)
            axes.set_yticks(range(len(tokens)) if single else [], tokens if single else [])
    save(figure, path, min(110, 20_000 / (side * max(len(heads), len(layers)))))


def in_words(tokens: list[str], attention: Tensor) -> str:
    """For each token, the one it attends to most, and how spread out its attention is: (S, S) -> lines.

    The spread is 2 to the entropy in bits: 1 for a single token, S for all of them equally.
    """
    lines = []
    for token, row in zip(tokens[:_MOST_IN_WORDS], attention, strict=False):
        most = int(row.argmax())
        spread = math.exp(-sum(p * math.log(p) for p in row.tolist() if p > 0))
        lines.append(f"{token:>16}  ->  {tokens[most]:<16} {row[most]:6.1%}   spread over {spread:.1f} tokens")
    if len(tokens) > _MOST_IN_WORDS:
        lines.append(f"... and {count_of(len(tokens) - _MOST_IN_WORDS, 'more token')}")
    return "\n".join(lines)


def _chosen(name: str, number: int | None, count: int) -> list[int]:
    if number is None:
        return list(range(count))
    if not 0 <= number < count:
        raise UserError(f"{name}: {number}, but the model has {count}, counted from 0.")
    return [number]
