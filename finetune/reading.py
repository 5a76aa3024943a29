"""How a labelled file is read: its format, columns and quotation marks; from options, or as in training."""

from dataclasses import replace
from pathlib import Path

from bert.errors import UserError
from finetune.config import DataConfig, TaskConfig
from finetune.formats import FORMATS
from finetune.formats.kinds import FIRST, LAST, Format
from finetune.formats.lists import TAGS, UNITS
from finetune.tasks import kind_of

READING = ("text", "text_pair", "label", "quoting")
"""The data options that say how a labelled file of one format is read."""

_CHARACTERS = {"conll": "klue", "word_lists": "character_lists"}
"""The format of characters that a file may have which is detected as one of words."""


def reading(data: DataConfig, task: TaskConfig) -> dict[str, str | None]:
    """How the training file is read: what a fine-tuned folder remembers."""
    path = Path(data.train)
    name = format_name(path, task, data, "data.") if path.is_file() else data.format
    return {"format": name} | {name: getattr(data, name) for name in READING}


def as_in_training(
    data: DataConfig, remembered: dict[str, str | None], task: TaskConfig, path: Path, prefix: str
) -> DataConfig:
    """The options, with training's for those that were not given.

    Args:
        data: the options given now, which are kept.
        remembered: training's, from `reading`; empty where a folder has none.
        task: the model's.
        path: the file to read; options that do not apply to its format are left out.
        prefix: as in `format_name`.

    Raises:
        UserError: pairs are to be read, but training was on single texts.
    """
    if kind_of(task).pairs and data.text_pair is not None and remembered.get("text_pair", data.text_pair) is None:
        raise UserError(f"{prefix}text_pair: {data.text_pair!r} was given, but the model was trained on single texts.")
    if data.format == "auto" and not path.is_file():
        return data  # reading it says so
    name = _format_as_in_training(data, remembered, task, path, prefix)
    if name != format_name(path, task, data, prefix):
        data = replace(data, format=name)
    format_, of_training = FORMATS[name], FORMATS.get(remembered.get("format"))
    others = of_training is not None and format_.columns != of_training.columns
    if others or format_.holds not in kind_of(task).holds:
        return data  # other columns than those of training
    not_given = (name for name in format_.options if getattr(data, name) == getattr(DataConfig, name))
    return replace(data, **{name: remembered[name] for name in not_given if name in remembered})


def _format_as_in_training(
    data: DataConfig, remembered: dict[str, str | None], task: TaskConfig, path: Path, prefix: str
) -> str:
    """The file's format: as given, or by its beginning and, where that leaves it open, by what training read."""
    if data.format != "auto":
        return data.format
    known = remembered.get("format")
    of_training = FORMATS.get(known)
    lists = of_training is not None and of_training.columns == (UNITS, TAGS)
    one_text = kind_of(task).columns == ("text",)
    table = "text" if one_text and data.eval is None and not lists else None  # to predict on, if a row has it and lists
    name = format_name(path, task, replace(data, text=data.text or remembered.get("text") or table), prefix)
    if of_training is not None and of_training.holds == "characters":
        return _CHARACTERS.get(name, name)
    return known if (name, known) == ("klue", "conll") else name


def taken_from_training(given: DataConfig, resolved: DataConfig) -> str:
    """The options that `as_in_training` filled in, in words."""
    names = ("format", *READING)
    taken = {name: getattr(resolved, name) for name in names if getattr(given, name) != getattr(resolved, name)}
    return ", ".join(f"{name}={value}" for name, value in taken.items() if name != "label" or given.eval is not None)


def format_name(path: Path, task: TaskConfig, data: DataConfig, prefix: str) -> str:
    """The file's format: as given, or by its extension and beginning.

    Args:
        path: the file.
        task, data: the options.
        prefix: of option names in errors: `data.` or nothing.

    Raises:
        UserError: neither tells.
    """
    if data.format != "auto":
        return data.format
    if found := kind_of(task).format_of(path, data):
        return found
    ending = path.suffix.lstrip(".").lower()
    if ending not in FORMATS:
        raise UserError(
            f"{prefix}format: '{path}' does not say by its extension what it holds; give one of {', '.join(FORMATS)}."
        )
    return ending


def foreign_options(data: DataConfig, format_name: str, prefix: str) -> list[str]:
    """Options that were given but do not apply to this format, or that it does not support, a line each."""
    faults, format_ = [], FORMATS[format_name]
    for name in (name for name in READING if getattr(data, name) != getattr(DataConfig, name)):
        value = getattr(data, name)
        if name not in format_.options:
            owners = ", ".join(owner for owner, other in FORMATS.items() if name in other.options)
            belongs = f"belongs to {prefix}format={owners}; this is {format_name}"
            faults.append(f"{prefix}{name}: {value!r} was given, but it {belongs}.")
        elif format_.columns == (FIRST, LAST) and not (value.isdecimal() and int(value)):
            faults.append(
                f"{prefix}{name}: {value!r}, but columns of {format_name} have no names; give numbers, from 1."
            )
    return faults


def quoting_of(format_: Format, data: DataConfig) -> dict[str, bool]:
    """Whether quotation marks enclose fields, for `Format.read`; empty where the format has no such choice."""
    if format_.quoting is None:
        return {}
    return {"quoting": format_.quoting if data.quoting == "auto" else data.quoting == "on"}


def needed_columns(format_: Format, data: DataConfig, labelled: bool) -> tuple[str, ...]:
    """The columns to ask `Format.read` for."""
    if format_.holds == "questions":
        return ("answers",) if labelled else ()
    data = with_column_names(format_, data)
    columns = (data.text, *([data.text_pair] if data.text_pair else []))
    return (*columns, data.label) if labelled else columns


def with_column_names(format_: Format, data: DataConfig) -> DataConfig:
    """The options with the format's default columns where none are given."""
    text, label = format_.columns
    return replace(data, text=data.text or text, label=data.label or label)
