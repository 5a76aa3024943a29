"""Requests to a server: rows of texts, and how it refuses invalid ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bert.errors import UserError, refuse_if

MOST_FAULTS = 10
"""Faults that are reported together, at most."""


def rows_of(request: Any) -> list[dict[str, str]]:
    """The rows of a request.

    Args:
        request: a pandas.DataFrame of texts; MLflow has checked that the columns are those of the signature.

    Raises:
        UserError: fields without text, by row (from 1) and column; MOST_FAULTS of them at most.
    """
    lists = [column for column in request.columns if len(request) == 1 and isinstance(request[column].iloc[0], list)]
    if lists:
        try:
            request = request.explode(lists)  # {"inputs": {"text": [...]}}: MLflow makes one row of it
        except ValueError as error:
            raise UserError(f"inputs: {error}.") from None
    rows = request.to_dict("records")
    faults = [
        f"row {number}: the column {column!r} {fault}."
        for number, row in enumerate(rows, 1)
        for column, value in row.items()
        if (fault := _fault(value))
    ]
    refuse_if(faults[:MOST_FAULTS])
    return [{column: str(text) for column, text in row.items()} for row in rows]


@contextmanager
def refused_politely() -> Iterator[None]:
    """Answer the user's mistake as such: HTTP 400 and its message, no traceback."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except UserError as error:
        raise MlflowException.invalid_parameter_value(str(error)) from None


def _fault(value: Any) -> str | None:
    """What is wrong with a field; pandas has None or NaN where a row lacks one."""
    if value is None or value != value:
        return "is empty"
    if not isinstance(value, str):
        return f"holds {value!r}, which is not text"
    return None if value.strip() else "is empty"
