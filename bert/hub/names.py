"""transformers' names for our parameters.

Ours -> transformers', as prefixes of a parameter's name; `#` is a layer's number.
"""

import re

from torch import Tensor

_NAMES = {
    "bert.embeddings.token.": "bert.embeddings.word_embeddings.",
    "bert.embeddings.position.": "bert.embeddings.position_embeddings.",
    "bert.embeddings.segment.": "bert.embeddings.token_type_embeddings.",
    "bert.embeddings.norm.": "bert.embeddings.LayerNorm.",
    "bert.encoder.layers.#.attention.query_key_value.": "bert.encoder.layer.#.attention.self.query_key_value.",
    "bert.encoder.layers.#.attention.output.": "bert.encoder.layer.#.attention.output.dense.",
    "bert.encoder.layers.#.attention_norm.": "bert.encoder.layer.#.attention.output.LayerNorm.",
    "bert.encoder.layers.#.feed_forward.intermediate.": "bert.encoder.layer.#.intermediate.dense.",
    "bert.encoder.layers.#.feed_forward.output.": "bert.encoder.layer.#.output.dense.",
    "bert.encoder.layers.#.feed_forward_norm.": "bert.encoder.layer.#.output.LayerNorm.",
    "bert.pooler.": "bert.pooler.dense.",
    "masked_lm_head.transform.": "cls.predictions.transform.dense.",
    "masked_lm_head.norm.": "cls.predictions.transform.LayerNorm.",
    "masked_lm_head.bias": "cls.predictions.bias",
    "sentence_head.classifier.": "cls.seq_relationship.",
    "head.classifier.": "classifier.",
    "head.qa_outputs.": "qa_outputs.",
}
_BACKWARDS = {theirs: ours for ours, theirs in _NAMES.items()}
_ATTENTION = r"bert\.encoder\.layer\.\d+\.attention\.self"
_FUSED = "query_key_value"
_PARTS = ("query", "key", "value")


def to_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our parameters under transformers' names, with query, key and value separate."""
    return {
        theirs: piece.contiguous()
        for name, tensor in state.items()
        for theirs, piece in pieces_of(name, tensor).items()
    }


def pieces_of(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """A parameter of ours as transformers has it: an attention's fused matrix in three, in order, else whole."""
    theirs = rename(name, _NAMES)
    if not re.match(rf"{_ATTENTION}\.{_FUSED}\.", theirs):
        return {theirs: tensor}
    return {theirs.replace(_FUSED, part): piece for part, piece in zip(_PARTS, tensor.chunk(3), strict=True)}


def our_name(name: str) -> str:
    """Our name for a parameter of transformers; the same name where we have no such parameter."""
    return rename(re.sub(rf"^({_ATTENTION})\.(?:{'|'.join(_PARTS)})\.", rf"\1.{_FUSED}.", name), _BACKWARDS)


def modern_name(name: str) -> str:
    """A name as transformers writes it today: older files have gamma and beta, a bare BertModel's lack `bert.`."""
    name = re.sub(r"\.beta$", ".bias", re.sub(r"\.gamma$", ".weight", name))
    return f"bert.{name}" if name.startswith(("embeddings.", "encoder.", "pooler.")) else name


def rename(name: str, names: dict[str, str]) -> str:
    """The name with its beginning changed as a table says, where # stands for its first number; else the same name."""
    number = re.search(r"\.(\d+)\.", name)
    general = re.sub(r"\.\d+\.", ".#.", name, count=1)
    for before, after in names.items():
        if general.startswith(before):
            changed = after + general[len(before) :]
            return changed.replace("#", number[1]) if number else changed
    return name
