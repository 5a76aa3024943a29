"""Whether a grid can be run: its own options, those of every combination and task, and the files that they name."""

import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from bert import hub
from bert.checking import FINGERPRINTS, LATER, LONGEST, SCORES
from bert.cli import read_options
from bert.config import resolve
from bert.errors import UserError, refuse_if
from bert.registry import did_you_mean
from bert.training import config as training_config
from bert.training.identity import FACTS, flatten, has_begun
from bert.training.metric import is_known
from bert.training.provenance import INIT_WEIGHTS
from pretrain.ablation.cell_runs import PRETRAINING, CellRun, cell_folder, record_of
from pretrain.ablation.commands import checked
from pretrain.ablation.grid import (
    AblateConfig,
    Cell,
    cells,
    combinations,
    models_are_alike,
    pretrain_options,
    variant_name,
)
from pretrain.ablation.metric_names import VALID, full_name, place_of, prefix_of
from pretrain.config import PretrainConfig
from pretrain.corpus_files import named_files, refuse_unreadable
from pretrain.options import PATHS, TEXT_OPTIONS, check, with_defaults
from pretrain.text import text_fingerprint
from pretrain.validation import metric_names

_TAKEN = (VALID, PRETRAINING.name)
"""The names that stand for pretraining: among the metrics, and in a cell's folder."""

_FILES = (*PATHS, "tokenizer.path", "tokenizer.add")
"""Options that name files."""


def refuse_wrong(config: AblateConfig) -> None:
    """Check the grid and every combination before any compute is spent.

    Raises:
        UserError: with all faults found.
    """
    refuse_if(_grid_faults(config))
    first_with: dict[str, str] = {}  # a fault of many combinations is reported for the first
    for values in combinations(config):
        named = ", ".join(f"{name}={value}" for name, value in values.items())
        try:
            options = pretrain_options(config, Cell(values, config.seeds[0]), Path(config.output))
            run = with_defaults(read_options("run.py pretrain", PretrainConfig, options))
        except UserError as error:
            raise UserError(f"axes: {named}: {error}") from error
        faults = check(run)
        for fault in faults + _unknown_metrics(config, VALID, metric_names(run)):
            first_with.setdefault(fault, named)
    refuse_if([f"axes: {named}: {fault}" for fault, named in first_with.items()])


def unreadable_files(config: AblateConfig) -> list[str]:
    """Faults of the files that pretraining would read: those that are not there, or no text."""
    given = flatten(config.base) | config.axes
    named = {
        name: value if name in config.axes else [value] for name, value in given.items() if name in _FILES and value
    }
    faults = [_unreadable(name, value) for name, values in named.items() for value in values]
    return [fault for fault in faults if fault]


def _unreadable(name: str, value: Any) -> str | None:
    """What is wrong with the files that a value of such an option names, without reading all of them."""
    if value in (None, "builtin"):
        return None
    if name not in PATHS:
        return None if Path(value).exists() else f"{name}: no such file: '{value}'."
    try:
        for file in named_files(value, name):
            refuse_unreadable(file, name)
    except UserError as error:
        return str(error)
    return None


def changed_inputs(config: AblateConfig, wanted: list[Cell]) -> list[str]:
    """Faults of texts and starts that are not what they were when cells began with them, while others are yet to."""
    text = "data.train: its text, or that of data.valid, is not what {} has been trained on"
    start = "init: the weights of that model are not those that {} started from"
    return [
        *_changed(config, wanted, "corpus", TEXT_OPTIONS, text_fingerprint, text),
        *_changed(config, wanted, INIT_WEIGHTS, ("init",), _init_weights, start),
    ]


def _changed(
    config: AblateConfig,
    wanted: list[Cell],
    fact: str,
    depends_on: tuple[str, ...],
    now: Callable[[PretrainConfig], str | None],
    said: str,
) -> list[str]:
    """Faults of one fact of cells, which is the same where these options are."""
    before: dict[str, tuple[str, str]] = {}  # by the options, the first such cell's name and the fact it recorded
    ahead: dict[str, Cell] = {}
    for cell in cells(config):
        key, folder = _values_of(config, cell, depends_on), cell_folder(config, cell)
        if has_begun(output := PRETRAINING.output(folder)) and (known := record_of(output, FACTS).get(fact)):
            before.setdefault(key, (cell.name, known))
        resumes = fact == INIT_WEIGHTS and has_begun(output)  # from its checkpoint
        if cell in wanted and not PRETRAINING.is_finished(folder) and not resumes:
            ahead.setdefault(key, cell)
    faults = []
    for key in ahead.keys() & before.keys():
        name, known = before[key]
        options = pretrain_options(config, ahead[key], Path(config.output))
        if now(read_options("run.py pretrain", PretrainConfig, options)) != known:
            faults.append(f"{said.format(repr(name))}. Put it back, or use another folder.")
    return sorted(faults)


def _values_of(config: AblateConfig, cell: Cell, names: tuple[str, ...]) -> str:
    """What a cell's options say, by these names."""
    options = flatten(pretrain_options(config, cell, Path(config.output)))
    return repr([options.get(name) for name in names])


def _init_weights(run: PretrainConfig) -> str | None:
    return None if run.init is None else hub.weights_fingerprint(run.init, "init")


def refuse_wrong_tasks(config: AblateConfig) -> None:
    """Have the fine-tuning command check each task's options and files, and the first cell's model if it is finished
    and all models are alike."""
    first = cell_folder(config, cells(config)[0])
    there = models_are_alike(config) and PRETRAINING.is_finished(first)
    init = str(PRETRAINING.output(first)) if there else LATER
    for name, task in config.finetune.items():
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{name}.yaml"
            options = task.options | {"init": init}
            file.write_text(yaml.safe_dump(options, sort_keys=False, allow_unicode=True), encoding="utf-8")
            said = checked(file)
        if said.returncode:
            raise UserError(f"finetune.{name}: {said.stderr.strip()}")
        longest, _, rest = said.stdout.rpartition(LONGEST)[2].partition(FINGERPRINTS)
        now, _, scores = rest.partition(SCORES)
        refuse_if(_too_long(config, name, int(longest)))
        refuse_if(_unknown_metrics(config, name, scores.strip().split(", ")))
        refuse_if(_changed_files(config, name, json.loads(now)))


def _too_long(config: AblateConfig, task: str, longest: int) -> list[str]:
    """The fault of a task with longer sequences than a model of the grid that is yet to be trained will read."""
    to_train = [cell for cell in cells(config) if not PRETRAINING.is_finished(cell_folder(config, cell))]
    for cell in {cell.variant: cell for cell in to_train}.values():
        options = pretrain_options(config, cell, Path(config.output))
        run = read_options("run.py pretrain", PretrainConfig, options)
        sizes = resolve(run.model, 1) if run.init is None else hub.open_folder(run.init, "init").config
        if longest > (most := sizes.max_position_embeddings):
            model = f"the model of '{cell.variant}' reads {most} tokens at most"
            return [f"finetune.{task}: data.max_length: {longest}, but {model}."]
    return []


def _changed_files(config: AblateConfig, task: str, now: dict[str, str]) -> list[str]:
    """The fault of a task's files that are not what a model was fine-tuned with, while others are yet to be."""
    runs = [(cell, CellRun(task, seed)) for cell in cells(config) for seed in config.finetune[task].seeds]
    if all(run.is_finished(cell_folder(config, cell)) for cell, run in runs):
        return []
    for cell, run in runs:
        output = run.output(cell_folder(config, cell))
        before = record_of(output, FACTS) if has_begun(output) else {}
        if changed := [name for name, value in now.items() if not before.get(name, value).startswith(value)]:
            files = " and ".join(f"data.{name}" for name in changed)
            return [
                f"finetune.{task}: {files} is not what it was for '{cell.name}'. Put it back, or use another folder."
            ]
    return []


def _unknown_metrics(config: AblateConfig, place: str, names: Iterable[str]) -> list[str]:
    """Faults of the grid's metrics of a place, pretraining or a task: those not among its names, or with no known
    direction."""
    known = [full_name(place, name) for name in names if is_known(name)]
    return [
        f"metrics: no {metric!r}; one of {', '.join(known)}{did_you_mean(metric, known)}."
        for metric in config.metrics
        if place_of(metric) == place and metric not in known
    ]


def _grid_faults(config: AblateConfig) -> list[str]:
    """All that is wrong with the grid itself, whatever its cells are."""
    checks = (_numbers, _effects, _tasks, _axes, _metrics, _set_by_the_grid)
    return [fault for check_of in checks for fault in check_of(config)]


def _numbers(config: AblateConfig) -> Iterator[str]:
    if not config.seeds:
        yield "seeds: none given."
    if len(set(config.seeds)) < len(config.seeds):
        yield f"seeds: {config.seeds}, but each may be given once only."
    yield from training_config.seed_faults("seeds", config.seeds)
    if config.tokens <= 0:
        yield f"tokens: {config.tokens}, but it must be above 0."
    if config.jobs < 1:
        yield f"jobs: {config.jobs}, but it must be at least 1."


def _effects(config: AblateConfig) -> Iterator[str]:
    options = _options()
    known = [axis for axis in config.axes if axis in options]  # `_axes` says what the others may have been meant for
    for name in config.effects:
        if name not in config.axes:
            close = "" if name in options else did_you_mean(name, known)
            instead = f"; one of {', '.join(known)}{close}" if known else ""
            yield f"effects: {name!r} is not an axis{instead}."
        elif len(config.axes[name]) == 1:
            yield f"effects: {name!r} has one value, {config.axes[name][0]!r}, and none to compare it with."
    for name in sorted({name for name in config.effects if config.effects.count(name) > 1}):
        yield f"effects: {name!r} is given twice, and would count as two tests."


def _tasks(config: AblateConfig) -> Iterator[str]:
    for name, task in config.finetune.items():
        if name in _TAKEN or not re.fullmatch(r"\w[\w.-]*", name):
            allowed = f"use letters, digits and any of . _ -, but neither {' nor '.join(_TAKEN)}"
            yield f"finetune: {name!r} is not a valid task name; {allowed}."
        if not task.seeds or len(set(task.seeds)) < len(task.seeds):
            yield f"finetune.{name}.seeds: {task.seeds}, but there must be at least one, and each only once."
        yield from training_config.seed_faults(f"finetune.{name}.seeds", task.seeds)


def _axes(config: AblateConfig) -> Iterator[str]:
    if not config.axes:
        yield "axes: none given; name an option and its values."
    options = _options()
    for name, values in config.axes.items():
        if not values:
            yield f"axes: {name} has no values."
        if name not in options:
            yield f"axes: no option {name!r}{did_you_mean(name, options)}."
        elif name not in config.baseline:
            yield f"baseline: no value for {name}; one of {values}."
        elif config.baseline[name] not in values:
            yield f"baseline: {name}={config.baseline[name]!r} is not among its values {values}."
    yield from (f"baseline: {name!r} is not an axis." for name in config.baseline if name not in config.axes)
    names = [variant_name(values) for values in combinations(config)]
    if len(set(names)) < len(names):
        yield "axes: two combinations have the same name."


def _options() -> dict[str, Any]:
    """Every option of pretraining, with its default."""
    return flatten(asdict(PretrainConfig()))


def _metrics(config: AblateConfig) -> Iterator[str]:
    if not config.metrics:
        yield "metrics: none given."
    if len(set(config.metrics)) < len(config.metrics):
        yield f"metrics: {config.metrics}, but each may be given once only."
    known = [prefix_of(place) for place in (VALID, *config.finetune)]
    for metric in config.metrics:
        if not metric.startswith(tuple(known)):
            close = did_you_mean(place_of(metric), known)
            yield f"metrics: {metric!r} begins with none of {', '.join(known)}{close}."


def _set_by_the_grid(config: AblateConfig) -> Iterator[str]:
    for name, task in config.finetune.items():
        for option in flatten(task.options):
            if option in ("init", "output", "seeds", "training.seed") or option.startswith("tracking"):
                by = f"set by the grid (output, tracking, finetune.{name}.seeds)"
                yield f"finetune.{name}.options: {option} is {by}."
    given = [("base", name) for name in flatten(config.base)] + [("axes", name) for name in config.axes]
    for where, name in given:
        if name in ("output", "training.seed", *training_config.BUDGET_OPTIONS) or name.startswith("tracking."):
            yield f"{where}: {name} is set by the grid (axes, seeds, tokens, output, tracking)."
