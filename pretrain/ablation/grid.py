"""The options of an ablation, and the cells they make."""

import itertools
import re
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bert.cli import put, read_options
from bert.errors import UserError, refuse_if
from bert.registry import did_you_mean
from bert.training import config as training_config
from bert.training.identity import flatten
from bert.training.metric import is_known
from bert.training.tracking import TrackingConfig
from pretrain.ablation.metric_names import PRETRAINING, full_name, place_of, prefix_of
from pretrain.config import PretrainConfig
from pretrain.options import check, with_defaults
from pretrain.validation import metric_names

_TAKEN = (PRETRAINING, "pretrain")
"""The names that stand for pretraining: among the metrics, and in a cell's folder (`cell_runs`)."""


@dataclass(frozen=True)
class FinetuneTask:
    """A task that every model of the grid is scored on."""

    options: dict[str, Any]
    """Those of `run_finetune.py train`, as in its YAML; init, output, seed and tracking are set by the grid."""

    seeds: list[int] = field(default_factory=lambda: [0])
    """Fine-tuning seeds; a model's score is the mean over them."""

    checkpoints: bool = False
    """Also score every checkpoint that pretraining saves: the score against tokens."""


@dataclass(frozen=True)
class AblateConfig:
    """Run a grid of pretraining variants with several seeds, and report which differences are real."""

    axes: dict[str, list[Any]]
    """What is varied: any option of `run.py pretrain`, and its values. Every combination is a cell."""

    seeds: list[int]
    """Every cell is run with each. Cells with the same seed see the same documents in the same order."""

    tokens: int
    """The budget of every run, in tokens."""

    baseline: dict[str, Any]
    """The value of each axis that the others are compared with."""

    effects: list[str]
    """The axes whose main effects are tested, declared beforehand. An effect is averaged over the other axes."""

    base: dict[str, Any] = field(default_factory=dict)
    """What all cells share: options of `run.py pretrain`, as in its YAML."""

    metrics: list[str] = field(default_factory=lambda: ["valid/masked_lm_loss"])
    """What is compared: a metric of pretraining, or TASK/METRIC of a fine-tuning task below (ner/entity_macro_f1)."""

    finetune: dict[str, FinetuneTask] = field(default_factory=dict)
    """Tasks to score every model on, by a name of your own."""

    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    output: str = "runs/ablation"
    """The grid's folder: cells/, report.md, report.json, charts."""

    jobs: int = 1
    """Cells run at the same time on this machine, each on the next GPU. Other processes or machines may work on the
    same folder too."""

    only: str | None = None
    """Run this one cell (as --print_cells names it) and make no report."""

    dry_run: bool = False
    """Print the plan and its cost, and run nothing."""

    print_cells: bool = False
    """Print one command per cell, for any queue; the same command without --only then makes the report."""


@dataclass(frozen=True)
class Cell:
    """One combination with one seed.

    Attributes:
        values: of each axis.
        seed: of pretraining.
    """

    values: dict[str, Any]
    seed: int

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def variant(self) -> str:
        """The combination's name."""
        return variant_name(self.values)

    @property
    def name(self) -> str:
        """Its folder below cells/."""
        return f"{self.variant}/seed-{self.seed}"


def variant_name(values: dict[str, Any]) -> str:
    """A combination's name, and its folder's."""
    return "-".join(re.sub(r"[^\w.]+", "_", str(value)) for value in values.values())


def combinations(config: AblateConfig) -> list[dict[str, Any]]:
    """Every combination of the axes' values, in order."""
    return [dict(zip(config.axes, values, strict=True)) for values in itertools.product(*config.axes.values())]


def cells(config: AblateConfig) -> list[Cell]:
    """Every combination with every seed; seeds outermost, so that an unfinished grid is one with fewer seeds."""
    return [Cell(values, seed) for seed in config.seeds for values in combinations(config)]


def models_are_alike(config: AblateConfig) -> bool:
    """Whether all cells have the same tokenizer and model shape: what fails with one model would fail with all."""
    return not any(axis.startswith(("model.", "tokenizer.", "data.", "init")) for axis in config.axes)


def grid_as_yaml(config: AblateConfig) -> str:
    """The grid, for --config."""
    left_out = ("output", "jobs", "only", "dry_run", "print_cells", "tracking")
    shown = {name: value for name, value in asdict(config).items() if name not in left_out}
    return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True)


def pretrain_options(config: AblateConfig, cell: Cell, folder: Path) -> dict[str, Any]:
    """The options of a cell's pretraining run, nested as in its YAML."""
    options = deepcopy(config.base)
    changes = cell.values | {"training.seed": cell.seed, "output": str(folder)}
    changes |= dict.fromkeys(training_config.BUDGET_OPTIONS) | {"training.tokens": config.tokens}
    if any(task.checkpoints for task in config.finetune.values()):
        changes["training.keep_checkpoints"] = 1_000_000
    for name, value in changes.items():
        put(options, name, value)
    return options


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
        for fault in faults + unknown_metrics(config, PRETRAINING, metric_names(run)):
            first_with.setdefault(fault, named)
    refuse_if([f"axes: {named}: {fault}" for fault, named in first_with.items()])


def unknown_metrics(config: AblateConfig, place: str, names: Iterable[str]) -> list[str]:
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
    yield from (f"seeds: {seed}, but each must be at least 0." for seed in config.seeds if seed < 0)
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
        yield from (f"finetune.{name}.seeds: {seed}, but each must be at least 0." for seed in task.seeds if seed < 0)


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
    known = [prefix_of(place) for place in (PRETRAINING, *config.finetune)]
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
