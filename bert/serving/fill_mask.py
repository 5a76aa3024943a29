"""The script with which MLflow serves a pretrained model; MLflow runs it, and nothing imports it.

A row has the column `text`, with one or more masks. The answer is `fill_mask`'s: for each mask its `top` tokens.
"""

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from bert.errors import UserError
from bert.pretrained import Bert, filled
from bert.serving.requests import refused_politely, rows_of


class FillMask(mlflow.pyfunc.PythonModel):
    """A pretrained model that predicts masked words."""

    def load_context(self, context: mlflow.pyfunc.PythonModelContext) -> None:
        """Open the model."""
        self._bert = Bert.from_pretrained(Path(context.artifacts["config"]).parent)

    def predict(self, context, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> list[dict]:
        """Each text, and the candidates for each of its masks."""
        with refused_politely():
            return [self._filled(*row, **params) for row in enumerate(rows_of(model_input), 1)]

    def _filled(self, number: int, row: dict[str, str], top: int) -> dict:
        try:
            return filled(self._bert, row["text"], top)
        except UserError as error:
            raise UserError(f"row {number}: {error}") from error


mlflow.models.set_model(FillMask())
