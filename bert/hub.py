"""The Hugging Face format, in and out: weights under transformers' names, config.json, and the check of both.

Our fused query-key-value matrix is split on the way out and fused on the way in; nothing else changes but names.
"""

import json
import re
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bert.config import ModelConfig
from bert.errors import UserError, refuse_if

FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
"""What a model's folder holds."""

# Ours -> transformers', as prefixes of a parameter's name; `#` is a layer's number.
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
}
_FUSED = "attention.self.query_key_value."
_PARTS = ("query", "key", "value")


def to_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our parameters under transformers' names, query, key and value apart."""
    theirs = {}
    for name, tensor in state.items():
        name = _rename(name, _NAMES)
        if _FUSED not in name:
            theirs[name] = tensor.contiguous()
            continue
        for part, piece in zip(_PARTS, tensor.chunk(3), strict=True):
            theirs[name.replace("query_key_value", part)] = piece.contiguous()
    return theirs


def from_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """transformers' parameters under our names, query, key and value in one matrix."""
    state = {re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name)): t for name, t in state.items()}
    for name in [name for name in state if ".attention.self.query." in name]:
        pieces = [state.pop(name.replace(".query.", f".{part}.")) for part in _PARTS]
        state[name.replace(".query.", ".query_key_value.")] = torch.cat(pieces)
    backwards = {theirs: ours for ours, theirs in _NAMES.items()}
    return {_rename(name, backwards): tensor for name, tensor in state.items()}


def _rename(name: str, names: dict[str, str]) -> str:
    number = re.search(r"\.(\d+)\.", name)
    general = re.sub(r"\.\d+\.", ".#.", name, count=1)
    for before, after in names.items():
        if general.startswith(before):
            changed = after + general[len(before) :]
            return changed.replace("#", number[1]) if number else changed
    return name


def save_config(folder: Path, config: ModelConfig, architecture: str, **extra) -> None:
    """Write config.json: the model's sizes and the transformers class that holds all of it."""
    described = {
        "architectures": [architecture],
        "model_type": "bert",
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "tie_word_embeddings": True,
        "dtype": "float32",
        **vars(config),
        **extra,
    }
    (folder / "config.json").write_text(json.dumps(described, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load_config(folder: Path) -> tuple[ModelConfig, dict]:
    """The model's sizes, and all that config.json says.

    Raises:
        UserError: the folder, or its config.json, is no BERT model's.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise UserError(f"{str(folder)!r} is no model's folder: it has no config.json.")
    try:
        described = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: not JSON: {error}.") from error
    if not isinstance(described, dict) or described.get("model_type") != "bert":
        raise UserError(f"{file}: model_type is not 'bert'.")
    _refuse_other_models(file, described)
    known = {name: described[name] for name in ModelConfig.__dataclass_fields__ if name in described}
    missing = [n for n in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads") if n not in known]
    if missing or "intermediate_size" not in known:
        raise UserError(f"{file}: no {', '.join(missing or ['intermediate_size'])}.")
    refuse_if(
        [
            f"{file}: {name} is {value!r}, which is no number."
            for name, value in known.items()
            if not isinstance(value, int | float)
        ]
    )
    return ModelConfig(**known), described


def _refuse_other_models(file: Path, described: dict) -> None:
    """Refuse what transformers' BertConfig can say and this encoder does not do."""
    only = {"hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False}
    refuse_if(
        [
            f"{file}: {name} is {described[name]!r}, and this encoder has {value!r} alone."
            for name, value in only.items()
            if described.get(name, value) != value
        ]
    )


def save_weights(folder: Path, model: nn.Module, leave_out: tuple[str, ...] = ()) -> None:
    """Write model.safetensors with transformers' names; tied matrices are one parameter here, so saved once."""
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items() if name not in leave_out}
    file = folder / "model.safetensors"
    save_file(to_transformers(state), file, metadata={"format": "pt"})
    shutil.copymode(folder / "config.json", file)  # the library lets the owner alone read it


def load_weights(folder: Path, model: nn.Module, absent_allowed: tuple[str, ...] = ()) -> list[str]:
    """Fill the model from model.safetensors.

    Args:
        folder: where the file lies.
        model: a module whose parameter names are those of the pretraining objective (`bert.`, `masked_lm_head.`, ...).
        absent_allowed: prefixes of parameters that may be missing from the file; they keep their values.

    Returns:
        The names in the file that the model has no place for.

    Raises:
        UserError: no such file, not readable, or a parameter is missing or of another shape.
    """
    file = folder / "model.safetensors"
    if not file.is_file():
        raise UserError(f"{str(folder)!r} is no model's folder: it has no model.safetensors.")
    try:
        found = from_transformers(load_file(file))
    except (SafetensorError, KeyError, OSError, RuntimeError) as error:
        raise UserError(f"{file}: not readable as weights: {error}.") from error
    wanted = model.state_dict()
    faults = [
        f"{file}: no {name!r}." for name in wanted if name not in found and not name.startswith(absent_allowed or "\0")
    ]
    faults += [
        f"{file}: {name!r} is {tuple(found[name].shape)}, but the model's is {tuple(tensor.shape)}."
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tensor.shape
    ]
    if faults:
        raise UserError(*faults)
    model.load_state_dict({name: found[name] for name in wanted if name in found}, strict=not absent_allowed)
    return sorted(set(found) - set(wanted))
