"""Finding a model: a local folder, or a repository on the Hugging Face hub."""

import re
from pathlib import Path

from bert.errors import UserError
from bert.hub.files import BESIDE

_DESCRIPTION = ["config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]
_DESCRIPTION += ["vocab.txt", "added_tokens.json", BESIDE]
_WEIGHTS = (["model*.safetensors", "model.safetensors.index.json"], ["pytorch_model*.bin", "pytorch_model.bin.index*"])
_OURS = "runs"
"""Where outputs go by default: such a path is never an id."""

_HUB_ID = r"\w[\w.-]*(/[\w.-]+)?"


def fetch(name: str, argument: str) -> Path:
    """The folder at that path, or of the hub's repository with that id (`klue/bert-base`).

    A repository is downloaded once into the hub library's own cache; pickled weights only where it has no safetensors.

    Args:
        name: a path or an id; an existing folder takes precedence over a repository of the same name.
        argument: what to call it in errors.

    Raises:
        UserError: there is no such folder, and no such repository, or it cannot be reached.
    """
    folder = Path(name)
    if folder.is_dir():
        return folder
    if not re.fullmatch(_HUB_ID, name) or folder.exists() or folder.parts[0] == _OURS:
        hint = " `python run.py` leaves one there." if name == f"{_OURS}/pretrain" else ""
        raise UserError(f"{argument}: no such folder: '{name}'.{hint}")
    return _from_hub(name, argument)


def _from_hub(name: str, argument: str) -> Path:
    from huggingface_hub import snapshot_download

    print(f"{argument}: no folder '{name}' here; looking on the Hugging Face hub")
    try:
        for weights in _WEIGHTS:
            folder = Path(snapshot_download(name, allow_patterns=[*_DESCRIPTION, *weights]))
            if any(folder.glob(weights[0])):
                break
    except Exception as error:  # whatever its layers raise: no network, no such repository, a lost connection
        why = " ".join(str(error).split())[:200]
        raise UserError(
            f"{argument}: no folder '{name}' here, and it cannot be fetched from the Hugging Face hub ({why})."
        ) from error
    return folder
