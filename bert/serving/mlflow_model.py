"""A finished output as an MLflow model: a script that opens it, our code, and what is asked and answered."""

import warnings
from pathlib import Path
from typing import Any

from bert.serving.served import SCRIPTS, Served

CODE = Path(__file__).parents[2]
"""Where our packages lie."""

INSIDE = "artifacts"
"""Where in an MLflow model the files of the output lie."""


def write(folder: Path, target: Path, **known: Any) -> None:
    """Write the MLflow model of an output, all but its weights and tokenizer, which belong beside its config.json.

    No pickle is in it: MLflow opens it by running our script. The packages it needs go with it, as they are now.

    Args:
        folder: the output, with its served.json.
        target: a folder that is empty, or none yet; `target`/INSIDE is where the rest belongs.
        known: what the MLflow model is to say of itself: `model_id`, `run_id` and such.
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
        # Of any type: a column of strings would have MLflow make the text "None" of null before our script sees it.
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
