"""What is typed, brought into the form that jsonargparse reads."""

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, get_origin

import yaml

from bert.cli.parser import Parser
from bert.errors import UserError


def whole_trees(parser: Parser, config: type, trees: tuple[str, ...], arguments: list[str]) -> list[str]:
    """The arguments, with single options of a tree replaced by the whole tree, merged from files and arguments.

    jsonargparse would drop the tree's other options.

    Raises:
        UserError: a single entry was given of a dictionary that is not a tree of options.
    """
    dictionaries = [option.name for option in fields(config) if get_origin(option.type) is dict]
    kept, typed, rest = [], [], iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        whole, dot, inside = name.removeprefix("--").partition(".")
        if not (name.startswith("--") and dot and whole in dictionaries):
            kept.append(argument)
        elif whole in trees:
            value = value if equals else next(rest, None)
            if value is None:
                parser.error(f"{name}: a value is needed.")
            typed.append((whole, inside, value))
        else:
            raise UserError(
                f"{parser.prog}: no option --{whole}.{inside}; give --{whole} as a whole: --{whole} '{{name: value}}'."
            )
    if not typed:
        return arguments
    shown = [argument for argument in kept if argument.startswith("--print_config")]
    kept = [argument for argument in kept if argument not in shown]
    parsed = parser.parse_args(kept)
    merged = {whole: parsed[whole] for whole, _, _ in typed}
    for whole, inside, value in typed:
        put(merged[whole], inside, _typed_value(value, f"{parser.prog}: --{whole}.{inside}"))
    return [*kept, *(f"--{whole}={json.dumps(tree, ensure_ascii=False)}" for whole, tree in merged.items()), *shown]


def put(options: dict[str, Any], dotted: str, value: Any) -> None:
    """Set a nested option by its dotted name.

    Raises:
        UserError: what should be a group of options is not one.
    """
    *groups, last = dotted.split(".")
    for group in groups:
        options = options.setdefault(group, {})
        if not isinstance(options, dict):
            raise UserError(f"{dotted}: {group} is {options!r}, where a group of options is needed.")
    options[last] = value


def _typed_value(text: str, argument: str) -> Any:
    """The text as YAML reads it, but 1e-4, which YAML takes for a string, as a number."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{argument}: {text!r} is not valid YAML: {' '.join(str(error).split())}.") from error
    with contextlib.suppress(TypeError, ValueError):
        return float(value) if isinstance(value, str) else value
    return value


def _given(arguments: list[str]) -> Iterator[list[str]]:
    """The arguments option by option; every option but --help and --print_config takes one value."""
    place = 0
    while place < len(arguments):
        argument = arguments[place]
        alone = "=" in argument or argument in ("--help", "--print_config") or not argument.startswith("--")
        taken = 1 if alone else 2
        yield arguments[place : place + taken]
        place += taken


def name_positional(arguments: list[str], positional: str | None) -> list[str]:
    """The arguments with --NAME before a value given without it.

    Raises:
        UserError: there are several such values, of which only the last would count.
    """
    if positional is None:
        return arguments
    given = list(_given(arguments))
    alone = [option[0] for option in given if not option[0].startswith("-")]
    if len(alone) > 1:
        raise UserError(f"{positional}: one is expected, not {len(alone)} ({', '.join(map(repr, alone))}); quote it.")
    if alone and any(option[0].partition("=")[0] == f"--{positional}" for option in given):
        raise UserError(f"{positional}: given twice, once as {alone[0]!r} and once by name.")
    return [argument for o in given for argument in ([f"--{positional}", *o] if o[0] in alone else o)]


def typed_again(arguments: list[str]) -> list[str]:
    """The options that are given more than once, of which the last counts; not those that add up."""
    names = Counter(option[0].partition("=")[0] for option in _given(arguments))
    return [name for name, times in names.items() if times > 1 and name != "--config" and not name.endswith("+")]


def files_first(arguments: list[str]) -> list[str]:
    """The arguments with --config in front: what is typed counts over a file, wherever it stands."""
    given = list(_given(arguments))
    files = [option for option in given if option[0].partition("=")[0] == "--config"]
    return [argument for option in files + [o for o in given if o not in files] for argument in option]


def set_aside(
    arguments: list[str], alternatives: tuple[dict[str, tuple[str, ...]], ...], replaces: dict[str, tuple[str, ...]]
) -> dict[str, list[str]]:
    """The options of a file that typed ones take the place of, by the latter's names; what is typed itself is not.

    Args:
        arguments: as typed; an option that is null is not given.
        alternatives, replaces: as in Verb.
    """
    typed = {name.removeprefix("--"): value for name, value in map(_name_and_value, _given(arguments))}
    given = [name for name, value in typed.items() if value != "null"]
    aside = {name: list(replaces[name]) for name in given if name in replaces}
    for options in alternatives:
        if chosen := [name for name in given if name in options]:
            others = [(other, *belonging) for other, belonging in options.items() if other not in chosen]
            aside[chosen[0]] = [name for names in others for name in names]
    # A group may be typed as a whole too: --model '{hidden_size: 64}'.
    return {
        option: [name for name in names if not {name, name.partition(".")[0]} & typed.keys()]
        for option, names in aside.items()
    }


def _name_and_value(option: list[str]) -> tuple[str, str]:
    name, _, value = option[0].partition("=")
    return name, value if len(option) == 1 else option[1]
