"""jsonargparse's messages as one line each: the argument, the value, what is allowed, the closest name."""

import difflib
import re
from dataclasses import fields
from pydoc import locate

from bert.registry import did_you_mean


def readable(message: str, names: list[str]) -> str:
    """jsonargparse's message as one line: the argument, the value, what is allowed, the closest name."""
    message = " ".join(message.split())
    if unknown := re.search(r"[Uu]nrecognized arguments: (-[^\s=]+)", message):
        return f"no option {unknown[1]}{_closest_option(unknown[1], names)}."
    if loose := re.search(r"[Uu]nrecognized arguments: (.*)", message):
        return f"no option before {loose[1]!r}; put a value with spaces, or a pattern such as '*.txt', in quotes."
    if unknown := re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", message):
        name = f"{unknown[1]}.{unknown[2]}"
        return f"no option {name}{_closest_option(name, [known.lstrip('-') for known in names])}."
    if entry := re.search(r"""Parser key "([\w.]+)": Problem with given class_path '([\w.]+)': (.*)""", message):
        return f"{entry[1]}: {_wrong_entry(locate(entry[2]), entry[3])}"
    if wrong := re.search(
        r'Parser key "([\w.]+)": Not a valid subclass of \w+. Got value: (.*) Subclass types', message
    ):
        return f"{wrong[1]}: an entry is {wrong[2]}, where a group of options is needed."
    if unknown := re.search(r"Option '([\w.]+)' is not accepted", message):
        group, _, last = unknown[1].rpartition(".")
        groups = {known.lstrip("-").split(".")[0] for known in names if "." in known}
        meant = difflib.get_close_matches(group.split(".")[0], groups, n=1)
        hint = f" (did you mean {meant[0]}.{last}?)" if meant else ""
        return f"no option {unknown[1]}{hint if group else _closest_option(last, names)}."
    if wrong := re.search(r'Parser key "([\w.]+)": (.*)', message):
        return _wrong_value(wrong[1], wrong[2])
    return message


_CALLED_ELSEWHERE = {
    "learning_rate": "lr",
    "max_steps": "steps",
    "num_train_epochs": "epochs",
    "num_epochs": "epochs",
    "warmup_ratio": "warmup",
    "lr_scheduler_type": "schedule",
    "max_seq_length": "max_length",
    "model_name_or_path": "init",
    "output_dir": "output",
}
"""transformers' names for our options."""


def _closest_option(name: str, names: list[str]) -> str:
    """A hint by the last part of the name, in the same group first: a shared 'training.' does not count."""
    group, _, last = name.rpartition(".")
    last = _CALLED_ELSEWHERE.get(last.lstrip("-"), last)
    beside = {known.rpartition(".")[2]: known for known in names if known.rpartition(".")[0] == group}
    elsewhere = {known.rpartition(".")[2]: known for known in names}
    for known in (beside, elsewhere):
        if close := difflib.get_close_matches(last.lstrip("-"), [part.lstrip("-") for part in known], n=1, cutoff=0.6):
            full = next(known[part] for part in known if part.lstrip("-") == close[0])
            return f" (did you mean {full}?)"
    return ""


def _wrong_entry(kind: type, fault: str) -> str:
    """What is wrong with an entry of a dictionary of dataclasses."""
    has = f"an entry has {', '.join(option.name for option in fields(kind))}."
    if unknown := re.search(r"Option '([\w.]+)' is not accepted", fault):
        return f"no {unknown[1]!r} in an entry; {has}"
    if lacks := re.search(r"arguments are required: (.*)", fault):
        return f"an entry without {lacks[1]}; {has}"
    return f"in an entry, {readable(fault, [])}"


_VALUES = {"gpu": "cuda"}
"""Values that are called otherwise elsewhere."""

_FORMS = {"list": ", which is written as '[0,1]'", "dict": ", which is written as '{name: value}'"}
"""How to write kinds of values whose form is hard to guess."""


def _wrong_value(name: str, fault: str) -> str:
    value = re.split(r"[Gg](?:ot|iven) value: ", fault)[-1]
    if choices := re.search(r"Literal\[(.*?)\]", fault):
        allowed = re.findall(r"'([^']*)'", choices[1])
        return f"{name}: no {value!r}; one of {', '.join(allowed)}{did_you_mean(_VALUES.get(value, value), allowed)}."
    expected = re.split(r"[Gg]iven value type", fault)[0]
    if "list[str]" in fault and "<class 'str'>" in expected and not value.startswith("["):
        return f"{name}: {value}, but it must be of type str, which is written as '\"{value}\"'."
    if "list[str]" in fault and value.startswith("["):
        return f"{name}: {value}, but a list must have names alone; put a number in quotes, as in '[\"2019\", b.txt]'."
    kinds = [kind for kind in re.findall(r"<class '(\w+)'>", expected) if kind not in ("NoneType", "str")]
    if not kinds and "<class 'str'>" in expected:
        return f"{name}: {value}, but it must be of type str, which is written as '\"{value}\"'."
    if kinds and "Expected a" in fault:
        return f"{name}: {value!r}, but it must be of type {kinds[0]}{_FORMS.get(kinds[0], '')}."
    return f"{name}: {fault}"
