"""served.json: what a finished output answers when it is served."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bert.errors import UserError
from bert.registry import lookup

SERVED = "served.json"
MODEL_FILES = ("config.json", "tokenizer*.json", "*.safetensors")


@dataclass(frozen=True)
class Script:
    """What MLflow runs to open a model.

    Attributes:
        file: the script's path, from the folder of our packages.
        packages: our packages that it imports, which are therefore copied with the model.
    """

    file: str
    packages: tuple[str, ...]


SCRIPTS = {
    "fill_mask": Script("bert/serving/fill_mask.py", ("bert",)),
    "task": Script("finetune/serve_task.py", ("bert", "finetune")),
}


@dataclass(frozen=True)
class Served:
    """How a model answers, with an example.

    Attributes:
        script: a name from SCRIPTS.
        example: a row of a request: the columns `text` and, where two texts are read, `text_pair`; of a task with other
            names for them, its own.
        answer: the model's answer to it.
        params: what else a request may set, with the defaults.
    """

    script: str
    example: dict[str, str]
    answer: dict[str, Any]
    params: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write it beside the model."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False)
        (folder / SERVED).write_text(f"{text}\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Served":
        """Read the folder's served.json.

        Raises:
            UserError: there is none, or it is damaged.
        """
        file = folder / SERVED
        if not folder.is_dir():
            raise UserError(f"checkpoint: no such folder: '{folder}'.")
        if seeds := sorted(path.parent.name for path in folder.glob(f"seed-*/{SERVED}")):
            raise UserError(f"checkpoint: '{folder}' holds a run for each seed: {', '.join(seeds)}; name one of them.")
        if not file.is_file():
            raise UserError(f"'{folder}' has no {SERVED}, which a finished run leaves if its model can be queried.")
        try:
            served = cls(**json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise UserError(f"{file}: damaged ({error}).") from error
        lookup(SCRIPTS, served.script, f"{file}: script")
        return served


def model_files(folder: Path) -> list[Path]:
    """Weights, sizes and tokenizer of a finished output."""
    return sorted(file for pattern in MODEL_FILES for file in folder.glob(pattern))
