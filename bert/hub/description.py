"""config.json: a model's sizes and architecture, in transformers' terms."""

import json
from dataclasses import fields
from pathlib import Path

from bert.config import ModelConfig
from bert.errors import UserError, refuse_if
from bert.hub.families import FAMILIES

_NEEDED = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
# Options of transformers' BertConfig for which this encoder has one value only.
_ONLY = {
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "tie_word_embeddings": True,
}


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
    """The model's sizes, and the content of config.json; the sizes are those of the BERT that it is read as.

    Raises:
        UserError: the folder, or its config.json, is not a BERT model's.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise UserError(f"{str(folder)!r} is not a model folder: it has no config.json.")
    try:
        described = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: not JSON: {error}.") from error
    kind = described.get("model_type", "bert") if isinstance(described, dict) else None
    if kind not in FAMILIES:
        raise UserError(f"{file}: model_type is {kind!r}, not one of {', '.join(FAMILIES)}.")
    described = FAMILIES[kind].defaults | {"model_type": kind} | described
    _refuse_other_models(file, described)
    return FAMILIES[kind].sizes(_sizes(file, described)), described


def _refuse_other_models(file: Path, described: dict) -> None:
    faults = [
        f"{file}: {name} is {described[name]!r}, but this encoder has only {value!r}."
        for name, value in _ONLY.items()
        if described.get(name, value) != value
    ]
    narrow, width = described.get("embedding_size"), described.get("hidden_size")
    if narrow not in (None, width):
        faults.append(f"{file}: embedding_size is {narrow}, but this token table is as wide as hidden_size, {width}.")
    refuse_if(faults)


def _sizes(file: Path, described: dict) -> ModelConfig:
    known = {field.name: described[field.name] for field in fields(ModelConfig) if field.name in described}
    if missing := [name for name in _NEEDED if name not in known]:
        raise UserError(f"{file}: no {', '.join(missing)}.")
    whole = {field.name for field in fields(ModelConfig) if field.type is int}
    faults = []
    for name, value in known.items():
        if isinstance(value, bool) or not isinstance(value, int if name in whole else int | float):
            faults.append(f"{file}: {name} is {value!r}, which is not a {'whole ' if name in whole else ''}number.")
    refuse_if(faults)
    return ModelConfig(**known)
