"""From a dataclass to a parser, and from what it parses to an instance; nothing here knows of verbs."""

import argparse
from collections.abc import Collection, Iterator
from dataclasses import fields, is_dataclass
from types import NoneType
from typing import Any, NoReturn, get_args, get_type_hints

import jsonargparse

from bert.cli.messages import readable
from bert.errors import UserError, refuse_if

jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)


class Parser(jsonargparse.ArgumentParser):
    """A parser whose errors are one line with the closest name."""

    outermost = False
    """False for those that jsonargparse makes for dataclasses inside dictionaries; their errors lack the place."""

    def error(self, message: str, error: Exception | None = None) -> NoReturn:
        """Raise an error that says what is wrong."""
        if not self.outermost:
            raise jsonargparse.ArgumentError(None, message)
        raise UserError(f"{self.prog}: {readable(message, self._names())}")

    def _names(self) -> list[str]:
        return [name for action in self._actions for name in action.option_strings or [action.dest]]


def read_options(program: str, config: type, options: dict[str, Any]) -> Any:
    """An instance of a verb's dataclass from nested options, as a YAML file would hold them.

    Raises:
        UserError: an unknown option or a wrong value; one line, as on the command line.
    """
    parser = parser_of(program, config)
    return instance(parser, config, parser.parse_object(options))


def parser_of(program: str, config: type, about: str | None = None, unused: Collection[str] = ()) -> Parser:
    """The parser of a dataclass's options.

    Args:
        program: what --help and errors call it.
        config: the dataclass; its docstrings are the help.
        about: its description in --help, in place of the dataclass's own.
        unused: options that --help leaves out.
    """
    parser = Parser(
        prog=program,
        description=about or config.__doc__,
        usage="%(prog)s [--config FILE] [--OPTION VALUE ...]",
        allow_abbrev=False,
    )
    parser.outermost = True
    parser.add_argument("--config", action="config", help="A YAML file with any of the options below.")
    parser.add_class_arguments(config, as_group=False)
    for action in parser._actions:
        if action.dest in unused or action.dest.endswith(".help"):  # the latter is jsonargparse's, of an entry's fields
            action.help = argparse.SUPPRESS
    return parser


def instance(parser: Parser, config: type, parsed: jsonargparse.Namespace) -> Any:
    """The dataclass with the values that its parser read.

    Raises:
        UserError: a group of options is no group, or an option that needs a value has none.
    """
    for group in fields(config):
        if is_dataclass(group.type) and not isinstance(parsed[group.name], jsonargparse.Namespace):
            parser.error(f"{group.name}: {parsed[group.name]!r}, where a group of options is needed.")
    values = {name: value for name, value in parser.instantiate(parsed).items() if name != "config"}
    options = config(**values)
    refuse_if([f"{parser.prog}: {fault}" for fault in _without_value(options)])
    return options


def _without_value(options: Any, group: str = "") -> Iterator[str]:
    """Faults of options that a file leaves empty, though they have no such value; jsonargparse takes null for any."""
    kinds = get_type_hints(type(options))
    for option in fields(options):
        name, value = f"{group}{option.name}", getattr(options, option.name)
        if is_dataclass(value):
            yield from _without_value(value, f"{name}.")
        elif value is None and NoneType not in get_args(kinds[option.name]):
            yield f"{name}: null, but it needs a value."
        elif value == "" and option.name == "output":
            yield f"{name}: '' is no folder."
