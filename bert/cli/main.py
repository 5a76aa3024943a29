"""Running a command's verb: help, errors and exit codes."""

import errno
import json
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from bert.cli.arguments import files_first, name_positional, set_aside, typed_again, whole_trees
from bert.cli.parser import instance, parser_of
from bert.cli.streams import outliving_readers
from bert.cli.yaml_files import files_in, refuse_unclear, values_in
from bert.errors import REFUSED, UserError
from bert.registry import did_you_mean
from bert.training import distributed, stopping


@dataclass(frozen=True)
class Verb:
    """What a command does.

    Attributes:
        config: the dataclass that holds its options; its docstrings are the help.
        call: runs it, given an instance.
        positional: the option whose value may be given without its name.
        alternatives: sets of options of which one is given, each with those that belong only to it; one on the command
            line replaces a file's others, and what belongs to them.
        replaces: options that bring their own of what others say; on the command line each replaces those of a file.
        about: its description in --help, where the dataclass belongs to another verb.
        trees: options that hold another command's options, nested as in its YAML; single ones may be given too.
        unused: options of the dataclass that the verb refuses; --help leaves them out.
        ranks: whether torchrun may start it: as several processes it would do everything several times.
    """

    config: type
    call: Callable[[Any], Any]
    positional: str | None = None
    alternatives: tuple[dict[str, tuple[str, ...]], ...] = ()
    replaces: dict[str, tuple[str, ...]] = field(default_factory=dict)
    about: str | None = None
    trees: tuple[str, ...] = ()
    unused: Collection[str] = ()
    ranks: bool = False


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
    with outliving_readers():
        return _run(program, description, verbs, default, arguments)


def _run(program: str, description: str, verbs: dict[str, Verb], default: str, arguments: list[str]) -> int:
    if arguments[:1] in (["--help"], ["-h"]):
        print(_overview(program, description, verbs, default))
        return 0
    name = arguments[0] if arguments and arguments[0] in verbs else default
    rest = arguments[1:] if arguments and arguments[0] in verbs else arguments
    if rest and not rest[0].startswith("-") and name == default and arguments[0] not in verbs:
        return _fail(f"{program}: no verb {rest[0]!r}; one of {', '.join(verbs)}{did_you_mean(rest[0], verbs)}.")
    try:
        rest = files_first(name_positional(rest, verbs[name].positional))
        if distributed.started_by_torchrun() and not verbs[name].ranks:
            raise UserError(f"{program} {name}: it is one process; start it without torchrun.")
        verbs[name].call(_parse(f"{program} {name}", verbs[name], rest))
        distributed.leave()
    except UserError as error:
        return _fail(str(error))
    except stopping.Stopped as stopped:
        distributed.leave()
        print(stopped, file=sys.stderr)
        return 0 if distributed.started_by_torchrun() else stopping.EXIT_CODE
    except OSError as error:  # a path that cannot be used; the error names it
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        if error.filename is None and not is_full:
            raise
        return _fail(
            f"{error.strerror}: '{error.filename}'" if error.filename else f"{error.strerror}: free some space."
        )
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    return 0


def _parse(program: str, verb: Verb, arguments: list[str]) -> Any:
    parser = parser_of(program, verb.config, verb.about, verb.unused)
    refuse_unclear(arguments, verb.config)
    aside = set_aside(arguments, verb.alternatives, verb.replaces)
    unset = {name: attrgetter(name)(verb.config()) for names in aside.values() for name in names}
    completed = [*arguments, *(f"--{name}={_written(value)}" for name, value in unset.items())]
    options = instance(parser, verb.config, parser.parse_args(whole_trees(parser, verb.config, verb.trees, completed)))
    if distributed.is_or_will_be_first():
        for name in typed_again(arguments):
            print(f"{name}: given more than once; the last counts", file=sys.stderr)
        _say_set_aside(aside, unset, files_in(arguments))
    return options


def _say_set_aside(aside: dict[str, list[str]], unset: dict[str, Any], files: list[str]) -> None:
    """Print what typed options have replaced: what the files set, and not to its default."""
    values = values_in(files) if aside else {}
    for option, names in aside.items():
        lost = [(name, values[name]) for name in names if values.get(name, unset[name]) != unset[name]]
        if lost:
            said = ", ".join(f"{name}={_written(value)}" for name, value in lost)
            print(f"{option}: given, which sets aside {said} of {', '.join(map(repr, files))}")


def _written(value: Any) -> str:
    """A value as it is typed."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _overview(program: str, description: str, verbs: dict[str, Verb], default: str) -> str:
    lines = [f"usage: python {program} VERB [options]", "", description, ""]
    for name, verb in verbs.items():
        note = " (the default)" if name == default else ""
        lines.append(f"  {name:<14}{verb.about or verb.config.__doc__.splitlines()[0]}{note}")
    return "\n".join([*lines, "", f"python {program} VERB --help explains every option of a verb."])


def _fail(message: str, code: int = REFUSED) -> int:
    print(message, file=sys.stderr)
    return code
