"""The script with which MLflow serves a fine-tuned model; MLflow runs it, and nothing imports it.

A row has the column `text` and, for a model trained on pairs, `text_pair`; or `question` and `context`. The answer is
what predict writes to a file, without `line`.
"""

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from bert.serving.requests import refused_politely, rows_of
from bert.training.config import TrainingConfig
from bert.training.device import choose_device
from finetune.judge import predict
from finetune.model import load
from finetune.tasks import kind_of

BATCH_SIZE = 64


class ServedTask(mlflow.pyfunc.PythonModel):
    """A fine-tuned model of any task."""

    def load_context(self, context: mlflow.pyfunc.PythonModelContext) -> None:
        """Open the model, on the GPU where there is one."""
        task = load(str(Path(context.artifacts["config"]).parent))
        self._device = choose_device(TrainingConfig(precision=task.precision))
        self._task = task.to(self._device)

    def predict(self, context, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> list[dict]:
        """The prediction for each row."""
        with refused_politely():
            rows = enumerate(rows_of(model_input), 1)
            # MLflow has put a row's columns into the order of the model's signature, the first text first.
            examples = [kind_of(self._task.task).unlabelled(number, *row.values()) for number, row in rows]
            return predict(self._task, examples, BATCH_SIZE, self._device)


mlflow.models.set_model(ServedTask())
