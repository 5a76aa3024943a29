"""A model's folder, opened: its sizes, its config.json and its tokenizer."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from bert import tokenizer_files, whole_file
from bert.config import ModelConfig
from bert.errors import UserError
from bert.hub.description import load_config
from bert.hub.fetch import fetch
from bert.hub.files import weight_files
from bert.tokenizer import Tokenizer

_SPARE_ROWS = 1024
"""A table may be padded to a round size; one with this many rows without a token belongs to another tokenizer."""


@dataclass(frozen=True)
class ModelFolder:
    """A folder with a model.

    Attributes:
        path: where it is.
        config: the model's sizes.
        described: the content of config.json.
        tokenizer: the model's own.
    """

    path: Path
    config: ModelConfig
    described: dict
    tokenizer: Tokenizer


def open_folder(name: str, argument: str) -> ModelFolder:
    """Open the folder at that path, or the hub's repository with that id; no weights are read yet.

    Args:
        name: a path or an id.
        argument: what to call it in errors.

    Raises:
        UserError: there is none, it is not a BERT's, or tokenizer and model do not belong together.
    """
    path = fetch(name, argument)
    config, described = load_config(path)
    tokenizer = tokenizer_files.load(path, argument)
    if not tokenizer.vocab_size <= config.vocab_size < tokenizer.vocab_size + _SPARE_ROWS:
        sizes = f"a tokenizer of {tokenizer.vocab_size} tokens and a model of {config.vocab_size}"
        raise UserError(f"{argument}: '{name}' holds {sizes}; they do not belong together.")
    return ModelFolder(path, config, described, tokenizer)


def weights_fingerprint(name: str, argument: str) -> str:
    """SHA-256 of the weight files of the folder at that path, or of the hub's repository with that id.

    Raises:
        UserError: there is none, or it has no weights.
    """
    sums = [whole_file.sha256(file) for file in weight_files(fetch(name, argument))]
    return hashlib.sha256(" ".join(sums).encode()).hexdigest()
