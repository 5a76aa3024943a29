"""Looking a name up in one of the project's tables."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from bert.errors import UserError

Value = TypeVar("Value")


def lookup(table: Mapping[str, Value], name: str, argument: str) -> Value:
    """The table's entry of that name.

    Raises:
        UserError: there is none; the message names the argument, lists the choices and the closest one.
    """
    if name not in table:
        raise UserError(f"{argument}: no {name!r}; one of {', '.join(table)}{did_you_mean(name, table)}.")
    return table[name]


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """' (did you mean x?)' for the closest choice, or '' where none is close."""
    closest = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return f" (did you mean {closest[0]}?)" if closest else ""
