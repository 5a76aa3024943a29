"""What is checked in a YAML file of options before jsonargparse reads it."""

from collections.abc import Iterator
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from bert.errors import UserError, refuse_if
from bert.registry import did_you_mean


def refuse_unclear(arguments: list[str], config: type) -> None:
    """Refuse files for --config that are not YAML, set an option twice (only the last would count), or belong to
    another verb.

    Raises:
        UserError: the file, the line, and what is wrong.
    """
    for file in (file for file in files_in(arguments) if Path(file).is_file()):
        try:
            root = yaml.compose(Path(file).read_text(encoding="utf-8"))
        except yaml.MarkedYAMLError as error:
            raise UserError(f"{file}:{error.problem_mark.line + 1}: {error.problem}.") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{file}: {' '.join(str(error).split())}.") from error
        refuse_if([f"{file}:{line}: {name} is given twice." for name, line in _twice(root, "")])
        known = ["config", *(option.name for option in fields(config))]
        pairs = root.value if isinstance(root, yaml.MappingNode) else ()
        keys = [key for key, _ in pairs if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        unknown = [(key.value, key.start_mark.line + 1) for key in keys if key.value.split(".")[0] not in known]
        refuse_if(
            [
                f"{file}:{line}: no option {name}{did_you_mean(name, known) or '; is the file for another verb?'}"
                for name, line in unknown
            ]
        )


def files_in(arguments: list[str]) -> list[str]:
    """The files given for --config."""
    files = [after for one, after in pairwise(arguments) if one == "--config"]
    return files + [one.removeprefix("--config=") for one in arguments if one.startswith("--config=")]


def values_in(files: list[str]) -> dict[str, Any]:
    """What files that were read as options set, by dotted name; of several, what the last one says.

    What else jsonargparse reads as options (standard input, say) has none here.
    """
    there = (path for path in (Path(file).expanduser() for file in files) if path.is_file())
    read = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in there)
    return {name: value for options in read for name, value in _flat(options, "")}


def _flat(options: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in options.items() if isinstance(options, dict) else ():
        yield f"{prefix}{name}", value
        yield from _flat(value, f"{prefix}{name}.")


def _twice(node: yaml.Node | None, prefix: str) -> Iterator[tuple[str, int]]:
    """Each name that a mapping repeats, with the line of the repetition."""
    names = set()
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        name = f"{prefix}{key.value}"
        if name in names:
            yield name, key.start_mark.line + 1
        names.add(name)
        yield from _twice(value, f"{name}.")
