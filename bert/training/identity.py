"""Whether an output folder belongs to the requested run."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import yaml

from bert import whole_file
from bert.errors import UserError, refuse_if
from bert.registry import did_you_mean
from bert.training import checkpoint
from bert.training.metrics_file import finite_or_words

OPTIONS, FACTS, RESULT = "run.yaml", "run_facts.json", "metrics.json"
"""A run's options, what else it depends on, and what it reached: the mark of a finished run."""

FREE = (
    "tracking.",
    "output",
    "accept_changes",
    "training.workers",
    "training.keep_checkpoints",
    "training.save_error",
    "training.profile",
    "training.gradient_checkpointing",
)
"""Options of every run, or groups of them ("tracking."), that do not change its result."""

_MINUTES = "training.minutes"
"""It may not change when a run resumes, since minutes were converted to tokens when it began."""

_FIXED = (_MINUTES, "tokenizer")
"""Nor may this, since the rows of the embeddings stand for its tokens."""


def state_of(
    output: Path,
    config: dict[str, Any],
    facts: dict[str, str],
    free: tuple[str, ...],
    accepted: tuple[str, ...] | None = (),
    defaults: dict[str, Any] | None = None,
) -> Literal["new", "unfinished", "changed", "finished"]:
    """What the folder holds of this run; "changed" is unfinished, but what follows differs from what was logged.

    Args:
        output: the run's folder.
        config: the run's options, nested.
        facts: what else it depends on (fingerprints), by name.
        free: options, and groups of them, that may differ, since they do not change the result.
        accepted: names whose difference the user accepts, while the run is not finished; it is printed. None where
            none can be.
        defaults: nested like config: the values of options that are newer than the run and unknown to it.

    Raises:
        UserError: the folder holds something else; the message names the differences. A run that never reached a
            checkpoint does not count, and is replaced.
    """
    now, asked = flatten(config) | facts, accepted or ()
    if not (output / OPTIONS).is_file():
        _refuse_unknown(asked, now)
        if has_begun(output):
            raise UserError(
                f"output: '{output}' holds what a run left, but not its {OPTIONS}, which says which run. Restore that "
                f"file, or use another folder."
            )
        if (output / "config.json").exists():
            raise UserError(f"output: '{output}' holds a model, but no run of this project. Use another folder.")
        return "new"
    recorded, begun, finished = _read(output), has_begun(output), is_finished(output)
    if begun and _groups(recorded) - _groups(now) and _groups(now) - _groups(recorded):
        raise UserError(f"output: '{output}' holds a run of another command. Use another folder.")
    before = flatten(defaults or {}) | recorded
    _refuse_unknown(asked, before | now)
    names = (name for name in sorted(before.keys() | now.keys()) if not is_free(name, free))
    differing = [name for name in names if before.get(name) != now.get(name)]
    changeable = [] if finished else [name for name in differing if name not in _FIXED]
    taken = [name for name in changeable if name in asked]
    for name in taken:
        print(f"output: '{output}' continues with {name}={now.get(name)}, which was {before.get(name)}")
    refused = [name for name in differing if name not in taken]
    if refused and begun:
        way_out = _way_out(refused, {*refused} <= {*changeable} and accepted is not None, finished)
        raise UserError(*_differences(output, refused, before, now, way_out))
    if refused:
        return "new"
    if finished:
        return "finished"
    minutes_are_measured_anew = now.get(_MINUTES) is not None and not begun
    return "changed" if taken or minutes_are_measured_anew else "unfinished"


def _way_out(refused: list[str], may_be_accepted: bool, finished: bool) -> str:
    """What can be done where the folder's run differs from the one asked for."""
    if may_be_accepted:
        return f"Use another folder, or continue anyway: --accept_changes '[{','.join(refused)}]'."
    return f"Use another folder{'; a finished run cannot be changed' if finished else ''}."


def _differences(output: Path, names: list[str], before: dict, now: dict, way_out: str) -> list[str]:
    """A line for each option or fact that differs, the last with what can be done."""
    lines = [
        f"output: '{output}' was started with {name}={_shown(before.get(name))}, and is now asked for with "
        f"{_shown(now.get(name))}."
        for name in names
    ]
    return [*lines[:-1], f"{lines[-1]} {way_out}"]


def _shown(value: Any) -> str:
    """A value as errors show it: fingerprints of texts or files shortened, and called so."""
    said, fingerprints = re.subn("([0-9a-f]{8})[0-9a-f]{24,}", r"\1...", str(value))
    return f"{said} (by its content)" if fingerprints else said


def is_free(name: str, free: Iterable[str]) -> bool:
    """Whether an option is among those named, or in a group that is: "tracking.uri" in "tracking."."""
    return name in free or any(name.startswith(group) for group in free if group.endswith("."))


def _groups(names: Iterable[str]) -> set[str]:
    """What is before the first dot."""
    return {name.partition(".")[0] for name in names if "." in name}


def _refuse_unknown(accepted: tuple[str, ...], known: dict[str, Any]) -> None:
    refuse_if([f"accept_changes: no {name!r}{did_you_mean(name, known)}." for name in accepted if name not in known])


def accepted_tag(config: dict[str, Any], facts: dict[str, str], accepted: tuple[str, ...]) -> dict[str, str]:
    """The accepted changes of a resumed run, for MLflow, whose parameters stay those of the start."""
    now = flatten(config) | facts
    said = ", ".join(f"{name}={now.get(name)}" for name in accepted)
    return {"accept_changes": said} if said else {}


def has_begun(output: Path) -> bool:
    """Whether a folder holds something of a run: a result, or a checkpoint, or runs of its own."""
    found = [output / RESULT, *checkpoint.folders(output), *output.glob(f"*/{OPTIONS}")]
    return any(path.exists() for path in found)


def is_finished(output: Path) -> bool:
    """Whether the run in a folder has reached its end."""
    return (output / RESULT).is_file()


def say_finished(output: Path) -> None:
    """Print that there is nothing left to do, and where the figures are."""
    print(f"'{output}' is finished: nothing to do. Its results are in {output / RESULT}.")


def started_with(output: Path, option: str) -> Any:
    """The value of an option in the folder's run; None where there is no run."""
    return _read(output).get(option) if (output / OPTIONS).is_file() else None


def claim(output: Path, config: dict[str, Any], facts: dict[str, str]) -> None:
    """Record whose folder this is: run.yaml, which `--config` takes, and the facts."""
    output.mkdir(parents=True, exist_ok=True)
    whole_file.write(output / FACTS, json.dumps(facts, indent=2) + "\n")
    whole_file.write(output / OPTIONS, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))


def reopen(output: Path) -> None:
    """Mark the run as unfinished: more is asked of it than it reached."""
    (output / RESULT).unlink(missing_ok=True)


def finish(output: Path, metrics: dict[str, float]) -> None:
    """Write metrics.json: what was reached, and the mark of a finished run."""
    whole_file.write(output / RESULT, metrics_as_text(metrics))


def metrics_as_text(metrics: dict[str, float]) -> str:
    """What metrics.json holds."""
    return json.dumps(finite_or_words(metrics), indent=2) + "\n"


def metrics_in(text: str) -> dict[str, float]:
    """The metrics in what `metrics_as_text` gave; a ValueError where it is damaged."""
    return {name: float(value) if isinstance(value, str) else value for name, value in json.loads(text).items()}


def _read(output: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load((output / OPTIONS).read_text(encoding="utf-8"))
        return flatten(config) | json.loads((output / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, AttributeError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"output: '{output}' does not say which run it holds ({why}). Use another folder.") from error


def flatten(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat = {}
    for name, value in nested.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
