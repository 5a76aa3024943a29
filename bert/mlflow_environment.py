"""How MLflow is to behave inside a run: quietly, and without waiting."""

import os

ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",  # we retry, later; by default MLflow holds one call for minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_UV_AUTO_DETECT": "false",  # a served model needs our requirements, not those of the working folder
}


def prepare() -> None:
    """Set the variables that are not set yet; call it before MLflow is imported."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
