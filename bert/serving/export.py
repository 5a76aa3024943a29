"""The verb export-served: a finished output as a folder for `mlflow models serve`, without a tracking store."""

import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from bert import mlflow_environment
from bert.errors import UserError
from bert.serving import mlflow_model
from bert.serving.served import model_files


@dataclass(frozen=True)
class ExportServedConfig:
    """Export a finished run as a folder that `mlflow models serve` opens."""

    output: str
    """The folder to make; it holds the weights, the code and a list of what to install."""

    checkpoint: str = "runs/pretrain"
    """A finished run's output folder, of pretraining or fine-tuning."""


def export_served(config: ExportServedConfig) -> None:
    """Make the folder, and print how to serve it."""
    source, target = Path(config.checkpoint), Path(config.output)
    if target.exists():
        raise UserError(f"output: '{target}' exists already. Use another folder.")
    mlflow_environment.prepare()
    unfinished = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        mlflow_model.write(source, unfinished)
        for file in model_files(source):
            shutil.copy2(file, unfinished / mlflow_model.INSIDE)
        unfinished.replace(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    print(f"serve it:  mlflow models serve --env-manager local --model-uri {target} --port 5001")
