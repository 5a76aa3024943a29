"""Vectors of sentences and words, from chosen layers (Devlin et al. 2019, section 5.3 and table 7).

Letters: S tokens of a text, H width, L layers, C layers that are combined.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from bert import whole_file
from bert.counting import count_of
from bert.errors import UserError, refuse_if
from bert.lines import numbered_lines
from bert.pretrained import Bert, Encoded
from bert.progress import progress

COMBINE = ("sum", "weighted_sum", "concat")
POOLING = ("mean", "max", "cls")


@dataclass(frozen=True)
class EmbedConfig:
    """Turn each line of a file into vectors.

    The paper's feature table: the last layer [-1]; the second to last [-2]; the last four [-4,-3,-2,-1], concatenated
    or summed; all layers summed.
    """

    input: str
    """A text file, one text per line."""

    output: str
    """vectors.npy: a (texts, width) array of sentence vectors, in the order of the lines. vectors.jsonl: a line for
    each text, with its tokens or words, and their vectors."""

    checkpoint: str = "runs/pretrain"
    """A model's folder, or its id on the Hugging Face hub."""

    unit: Literal["sentence", "word", "token"] = "sentence"
    """What gets a vector: the text; each word (the mean of its pieces); each piece, including special tokens. The last
    two need a .jsonl."""

    layers: list[int] = field(default_factory=lambda: [-1])
    """Which hidden states: 0 the embeddings, 1 the first layer's, -1 the last layer's."""

    combine: Literal[*COMBINE] = "sum"
    """How several layers become one vector."""

    weights: list[float] | None = None
    """combine=weighted_sum: a weight for each of `layers`."""

    pooling: Literal[*POOLING] = "mean"
    """unit=sentence: the mean or the maximum over the text's tokens, special ones excluded, or the vector of [CLS]."""

    max_length: int | None = None
    """Truncate longer texts to this many tokens, special ones included. Without it, a text too long for the model is an
    error."""

    batch_size: int = 32
    """Texts encoded at once."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes the GPU where there is one."""


def embed(config: EmbedConfig) -> None:
    """Write the vectors of a file's lines, batch by batch."""
    refuse_if(check(config))
    source, target = Path(config.input), Path(config.output)
    if not source.is_file():
        raise UserError(f"input: no such file: '{source}'.")
    bert = Bert.from_pretrained(config.checkpoint, argument="checkpoint")
    _refuse_layers(config.layers, bert.bert.config.num_hidden_layers)
    bert.to("cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu")
    total = sum(1 for _ in numbered_lines(source))
    if total == 0:
        raise UserError(f"input: '{source}' has no lines.")
    encoded = _Counted(_encoded(bert, source, config, total))
    write = _write_array if target.suffix == ".npy" else _write_lines
    with whole_file.replacing(target) as unfinished:
        width = write(unfinished, encoded, config, total)
    said = f"; {encoded.cut:,} cut to {config.max_length} tokens" if encoded.cut else ""
    said += f"; {encoded.empty:,} without tokens, so a vector of [CLS] and [SEP] alone" if encoded.empty else ""
    print(f"{count_of(total, 'text')}, vectors of {width} numbers: {target}{said}")


_NO_TEXTS = {".jsonl": "JSON", ".json": "JSON", ".csv": "a table", ".tsv": "a table"}


def check(config: EmbedConfig) -> list[str]:
    """Everything that is wrong with the values, one line each."""
    faults, ending = [], Path(config.output).suffix
    if ending not in (".npy", ".jsonl"):
        faults.append(f"output: '{config.output}', but its name must end in .npy or .jsonl.")
    if what := _NO_TEXTS.get(Path(config.input).suffix.lower()):
        faults.append(f"input: '{config.input}' is {what} by its name; a file with one text per line is needed.")
    if ending == ".npy" and config.unit != "sentence":
        faults.append(f"output: '{config.output}' holds one vector per text; unit={config.unit} needs a .jsonl file.")
    if config.unit != "sentence" and config.pooling != EmbedConfig.pooling:
        faults.append(f"pooling: '{config.pooling}' was given, but it belongs to unit=sentence.")
    if Path(config.input).resolve() == Path(config.output).resolve():
        faults.append(f"output: '{config.output}' is the input.")
    if not config.layers:
        faults.append("layers: none given.")
    if (config.weights is not None) != (config.combine == "weighted_sum"):
        faults.append(
            f"weights: {config.weights}, but combine={config.combine}; weights are for weighted_sum, which needs them."
        )
    elif config.weights is not None and len(config.weights) != len(config.layers):
        faults.append(f"weights: {len(config.weights)} of them, for {count_of(len(config.layers), 'layer')}.")
    if config.batch_size < 1:
        faults.append(f"batch_size: {config.batch_size}, but it must be at least 1.")
    if config.max_length is not None and config.max_length < 3:
        faults.append(f"max_length: {config.max_length}, but it must be at least 3.")
    if config.device == "cuda" and not torch.cuda.is_available():
        faults.append("device: 'cuda', but PyTorch sees no GPU on this machine.")
    return faults


def combined(hidden_states: Tensor, config: EmbedConfig) -> Tensor:
    """(L + 1, S, H) -> (S, H), or (S, C * H) for concat."""
    chosen = hidden_states[config.layers]  # (C, S, H)
    if config.combine == "concat":
        return chosen.transpose(0, 1).flatten(1)
    weights = torch.tensor(config.weights or [1.0] * len(config.layers))
    return torch.einsum("c,csh->sh", weights, chosen)


def pooled(vectors: Tensor, inside: Tensor, pooling: str) -> Tensor:
    """(S, H) -> (H,): over the tokens that are `inside`, (S,); over all where a text has none."""
    if pooling == "cls":
        return vectors[0]
    kept = vectors[inside] if bool(inside.any()) else vectors
    return kept.amax(0) if pooling == "max" else kept.mean(0)


def pieces_of_words(words: list[int | None]) -> list[tuple[int, int]]:
    """The places [first, end) of each word's pieces, from each token's word number."""
    ranges = []
    for word, places in groupby(range(len(words)), words.__getitem__):
        some = list(places)
        if word is not None:
            ranges.append((some[0], some[-1] + 1))
    return ranges


def word_vectors(vectors: Tensor, words: list[int | None]) -> Tensor:
    """(S, H) -> (words, H): the mean of each word's pieces, in the order of the text."""
    means = [vectors[first:end].mean(0) for first, end in pieces_of_words(words)]
    return torch.stack(means) if means else vectors[:0]


def _refuse_layers(layers: list[int], count: int) -> None:
    refuse_if(
        [
            f"layers: {layer}, but the model has {count}: 0 to {count}, or -1 to {-count - 1}."
            for layer in layers
            if not -count - 1 <= layer <= count
        ]
    )


def _encoded(bert: Bert, source: Path, config: EmbedConfig, total: int) -> Iterator[tuple[str, Encoded]]:
    lines = numbered_lines(source)
    with progress(total=total, unit=" texts") as bar:
        while some := list(islice(lines, config.batch_size)):
            texts, places = [text for _, text in some], [f"{source}:{number}" for number, _ in some]
            try:
                encoded = bert.encode(texts, None, config.max_length, places)
            except UserError as error:  # one is too long
                raise UserError(f"{error} --max_length truncates texts.") from None
            yield from zip(texts, encoded, strict=True)
            bar.update(len(texts))


class _Counted:
    """Passes texts on, and counts those that were truncated and those without a token."""

    def __init__(self, encoded: Iterator[tuple[str, Encoded]]) -> None:
        self.encoded, self.cut, self.empty = encoded, 0, 0

    def __iter__(self) -> Iterator[tuple[str, Encoded]]:
        for text, one in self.encoded:
            self.cut += one.cut > 0
            self.empty += len(one.ids) == 2
            yield text, one


def _sentence(encoded: Encoded, config: EmbedConfig) -> Tensor:
    inside = torch.tensor([offsets is not None for offsets in encoded.offsets])
    return pooled(combined(encoded.hidden_states, config), inside, config.pooling)


def _write_array(file: Path, encoded: Iterable[tuple[str, Encoded]], config: EmbedConfig, total: int) -> int:
    array = None
    for place, (_, one) in enumerate(encoded):
        vector = _sentence(one, config).numpy()
        if array is None:
            array = np.lib.format.open_memmap(file, "w+", np.float32, (total, len(vector)))
        array[place] = vector
    array.flush()
    return array.shape[1]


def _write_lines(file: Path, encoded: Iterable[tuple[str, Encoded]], config: EmbedConfig, total: int) -> int:
    width = 0
    with file.open("w", encoding="utf-8") as lines:
        for text, one in encoded:
            row, width = _row(text, one, config)
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
    return width


def _row(text: str, one: Encoded, config: EmbedConfig) -> tuple[dict, int]:
    if config.unit == "sentence":
        vector = _sentence(one, config).tolist()
        return {"text": text, "tokens": one.tokens, "vector": vector}, len(vector)
    vectors = combined(one.hidden_states, config)
    if config.unit == "token":
        return {"text": text, "tokens": one.tokens, "vectors": vectors.tolist()}, vectors.shape[1]
    ranges = [(one.offsets[first][0], one.offsets[end - 1][1]) for first, end in pieces_of_words(one.words)]
    words = [text[start:end] for start, end in ranges]
    return {"text": text, "words": words, "vectors": word_vectors(vectors, one.words).tolist()}, vectors.shape[1]
