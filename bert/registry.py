"""Looking up a name in one of the project's tables."""

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
    """' (did you mean x?)' for the closest choice, or one that contains the name, or '' where there is neither."""
    choices = list(choices)
    closest = difflib.get_close_matches(name, choices, n=1, cutoff=0.6) or [
        one for one in choices if name and name in one
    ]
    return f" (did you mean {closest[0]}?)" if closest else ""
