"""A finished output as an MLflow model: a script that opens it, our code, and a signature."""

import warnings
from pathlib import Path
from typing import Any

from bert.serving.served import SCRIPTS, Served

CODE = Path(__file__).parents[2]
"""The folder of our packages."""

INSIDE = "artifacts"
"""The folder of the output's files in an MLflow model."""


def write(folder: Path, target: Path, **known: Any) -> None:
    """Write the MLflow model of an output, all but its weights and tokenizer, which belong beside its config.json.

    No pickle is in it: MLflow opens it by running our script. The packages it needs are copied, as they are now.

    Args:
        folder: the output, with its served.json.
        target: an empty folder, or one that does not exist yet; the rest belongs in `target`/INSIDE.
        known: fields of the MLflow model: `model_id`, `run_id` and so on.
    """
    served = Served.read(folder)
    script = SCRIPTS[served.script]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's, about its own type hints
        import mlflow.models
        import mlflow.pyfunc
        import pandas
        from mlflow.types.schema import AnyType, ColSpec, Schema

        example = pandas.DataFrame([served.example])
        signature = mlflow.models.infer_signature(example, [served.answer], served.params or None)
        # Of any type: in a column of strings MLflow would turn null into the text "None" before our script sees it.
        signature.inputs = Schema([ColSpec(AnyType(), column) for column in served.example])
        mlflow.pyfunc.save_model(
            target,
            mlflow_model=mlflow.models.Model(**known),
            python_model=CODE / script.file,
            code_paths=[str(CODE / package) for package in script.packages],
            artifacts={"config": str(folder / "config.json")},
            signature=signature,
            input_example=(example, served.params) if served.params else example,
            pip_requirements=str(CODE / "requirements.txt"),
        )
