"""The command line: verbs, help from the dataclasses' docstrings, closest names, exit codes."""

import argparse
import contextlib
import difflib
import errno
import json
import re
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from pydoc import locate
from types import NoneType
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

import jsonargparse
import yaml

from bert.errors import REFUSED, UserError, refuse_if
from bert.registry import did_you_mean
from bert.training import distributed, stopping

jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)


@dataclass(frozen=True)
class Verb:
    """What a command does.

    Attributes:
        config: the dataclass that holds its options; its docstrings are the help.
        call: runs it, given an instance.
        positional: the option whose value may be given without its name.
        alternatives: sets of options of which one is given, each with those that belong only to it; one on the command
            line replaces a file's others, and what belongs to them.
        about: its description in --help, where the dataclass belongs to another verb.
        trees: options that hold another command's options, nested as in its YAML; single ones may be given too.
        unused: options of the dataclass that the verb refuses; --help leaves them out.
    """

    config: type
    call: Callable[[Any], Any]
    positional: str | None = None
    alternatives: tuple[dict[str, tuple[str, ...]], ...] = ()
    about: str | None = None
    trees: tuple[str, ...] = ()
    unused: Collection[str] = ()


class Parser(jsonargparse.ArgumentParser):
    """A parser whose errors are one line with the closest name."""

    outermost = False
    """False for those that jsonargparse makes for dataclasses inside dictionaries; their errors lack the place."""

    def error(self, message: str, error: Exception | None = None) -> NoReturn:
        """Raise an error that says what is wrong."""
        if not self.outermost:
            raise jsonargparse.ArgumentError(None, message)
        raise UserError(f"{self.prog}: {_readable(message, self._names())}")

    def _names(self) -> list[str]:
        return [name for action in self._actions for name in action.option_strings or [action.dest]]


def main(program: str, description: str, verbs: dict[str, Verb], default: str, arguments: list[str]) -> int:
    """Run one verb.

    Args:
        program: its file's name.
        description: for --help.
        verbs: by name.
        default: the verb when the first argument names none.
        arguments: without the program's name.

    Returns:
        The exit code: 0 done (under torchrun also where stopped), 2 the user's mistake, 75 stopped on request with a
        checkpoint saved, 130 interrupted.
    """
    # Also into a file, so that each line can be read as it comes, and errors stand in their place.
    sys.stdout.reconfigure(line_buffering=True)
    if arguments[:1] in (["--help"], ["-h"]):
        print(_overview(program, description, verbs, default))
        return 0
    name = arguments[0] if arguments and arguments[0] in verbs else default
    rest = arguments[1:] if arguments and arguments[0] in verbs else arguments
    if rest and not rest[0].startswith("-") and name == default and arguments[0] not in verbs:
        return _fail(f"{program}: no verb {rest[0]!r}; one of {', '.join(verbs)}{did_you_mean(rest[0], verbs)}.")
    try:
        rest = _files_first(_name_positional(rest, verbs[name].positional))
        rest += [option for options in verbs[name].alternatives for option in _set_aside(rest, options)]
        verbs[name].call(_parse(f"{program} {name}", verbs[name], rest))
        distributed.leave()
    except UserError as error:
        return _fail(str(error))
    except stopping.Stopped as stopped:
        distributed.leave()
        print(stopped, file=sys.stderr)
        return 0 if distributed.started_by_torchrun() else stopping.EXIT_CODE
    except OSError as error:  # a path that cannot be used; the error names it
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _fail(f"{error.strerror}: free some space; the same command goes on from the last checkpoint.")
        if error.filename is None:
            raise
        return _fail(f"{error.strerror}: '{error.filename}'")
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    return 0


def read_options(program: str, config: type, options: dict[str, Any]) -> Any:
    """An instance of a verb's dataclass from nested options, as a YAML file would hold them.

    Raises:
        UserError: an unknown option or a wrong value; one line, as on the command line.
    """
    parser = _parser(program, config)
    return _instance(parser, config, parser.parse_object(options))


def _parse(program: str, verb: Verb, arguments: list[str]) -> Any:
    parser = _parser(program, verb.config, verb.about, verb.unused)
    _refuse_unclear(arguments, verb.config)
    return _instance(parser, verb.config, parser.parse_args(_trees_whole(parser, verb, arguments)))


def _trees_whole(parser: Parser, verb: Verb, arguments: list[str]) -> list[str]:
    """The arguments, with single options of a tree replaced by the whole tree, merged from files and arguments.

    jsonargparse would drop the tree's other options.

    Raises:
        UserError: a single entry was given of a dictionary that is not a tree of options.
    """
    dictionaries = [option.name for option in fields(verb.config) if get_origin(option.type) is dict]
    kept, typed, rest = [], [], iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        whole, dot, inside = name.removeprefix("--").partition(".")
        if not (name.startswith("--") and dot and whole in dictionaries):
            kept.append(argument)
        elif whole in verb.trees:
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
    trees = {whole: parsed[whole] for whole, _, _ in typed}
    for whole, inside, value in typed:
        put(trees[whole], inside, _typed_value(value, f"{parser.prog}: --{whole}.{inside}"))
    return [*kept, *(f"--{whole}={json.dumps(tree, ensure_ascii=False)}" for whole, tree in trees.items()), *shown]


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


def _refuse_unclear(arguments: list[str], config: type) -> None:
    """Refuse files for --config that are not YAML, set an option twice (only the last would count), or belong to
    another verb.

    Raises:
        UserError: the file, the line, and what is wrong.
    """
    files = [after for one, after in pairwise(arguments) if one == "--config"]
    files += [one.removeprefix("--config=") for one in arguments if one.startswith("--config=")]
    for file in (file for file in files if Path(file).is_file()):
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


def _twice(node: yaml.Node | None, prefix: str) -> Iterator[tuple[str, int]]:
    """Each name that a mapping repeats, with the line of the repetition."""
    names = set()
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        name = f"{prefix}{key.value}"
        if name in names:
            yield name, key.start_mark.line + 1
        names.add(name)
        yield from _twice(value, f"{name}.")


def _parser(program: str, config: type, about: str | None = None, unused: Collection[str] = ()) -> Parser:
    parser = Parser(
        prog=program,
        description=about or config.__doc__,
        usage="%(prog)s [--config FILE] [--OPTION VALUE ...]",
        allow_abbrev=False,
    )
    parser.outermost = True
    parser.add_argument("--config", action="config", help="A YAML file with any of the options below.")
    parser.add_class_arguments(config, as_group=False)
    for action in (action for action in parser._actions if action.dest in unused):
        action.help = argparse.SUPPRESS
    return parser


def _instance(parser: Parser, config: type, parsed: jsonargparse.Namespace) -> Any:
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


def _given(arguments: list[str]) -> Iterator[list[str]]:
    """The arguments option by option; every option but --help and --print_config takes one value."""
    place = 0
    while place < len(arguments):
        argument = arguments[place]
        alone = "=" in argument or argument in ("--help", "--print_config") or not argument.startswith("--")
        taken = 1 if alone else 2
        yield arguments[place : place + taken]
        place += taken


def _name_positional(arguments: list[str], positional: str | None) -> list[str]:
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


def _files_first(arguments: list[str]) -> list[str]:
    """The arguments with --config in front: what is typed counts over a file, wherever it stands."""
    given = list(_given(arguments))
    files = [option for option in given if option[0].partition("=")[0] == "--config"]
    return [argument for option in files + [o for o in given if o not in files] for argument in option]


def _set_aside(arguments: list[str], alternatives: dict[str, tuple[str, ...]]) -> list[str]:
    """`--NAME=null` for each alternative that was not given, and for what belongs to it, where another one was."""
    typed = {argument.partition("=")[0].removeprefix("--") for argument in arguments if argument.startswith("--")}
    if not typed & alternatives.keys():
        return []
    others = [name for alternative in alternatives.keys() - typed for name in (alternative, *alternatives[alternative])]
    return [f"--{name}=null" for name in others if name not in typed]


def _overview(program: str, description: str, verbs: dict[str, Verb], default: str) -> str:
    lines = [f"usage: python {program} VERB [options]", "", description, ""]
    for name, verb in verbs.items():
        note = " (the default)" if name == default else ""
        lines.append(f"  {name:<14}{verb.about or verb.config.__doc__.splitlines()[0]}{note}")
    return "\n".join([*lines, "", f"python {program} VERB --help explains every option of a verb."])


def _fail(message: str, code: int = REFUSED) -> int:
    print(message, file=sys.stderr)
    return code


def _readable(message: str, names: list[str]) -> str:
    """jsonargparse's message as one line: the argument, the value, what is allowed, the closest name."""
    message = " ".join(message.split())
    if unknown := re.search(r"[Uu]nrecognized arguments: (--[^\s=]+)", message):
        return f"no option {unknown[1]}{_closest_option(unknown[1], names)}."
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
    return f"in an entry, {_readable(fault, [])}"


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
    kinds = [kind for kind in re.findall(r"<class '(\w+)'>", expected) if kind not in ("NoneType", "str")]
    if not kinds and "<class 'str'>" in expected:
        return f"{name}: {value}, but it must be of type str, which is written as '\"{value}\"'."
    if kinds and "Expected a" in fault:
        return f"{name}: {value!r}, but it must be of type {kinds[0]}{_FORMS.get(kinds[0], '')}."
    return f"{name}: {fault}"
