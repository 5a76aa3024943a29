"""The options of an ablation, and the cells they make."""

import hashlib
import itertools
import re
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bert.cli import put
from bert.training import config as training_config
from bert.training.tracking import TrackingConfig

_LONGEST_NAME = 255  # bytes, of a folder


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
    """Tasks to score every model on, by a name of your own: {NAME: {options: {...}, seeds: [0], checkpoints: false}}.
    options are those of `run_finetune.py train`, as in its YAML; seeds are of fine-tuning, and a model's score is the
    mean over them; with checkpoints every checkpoint that pretraining saves is scored too: the score against tokens."""

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
    """A combination's name, and its folder's; a long one is cut, and made unique by a digest."""
    name = "-".join(re.sub(r"[^\w.]+", "_", str(value)) for value in values.values())
    encoded = name.encode()
    if len(encoded) <= _LONGEST_NAME:
        return name
    return encoded[:100].decode(errors="ignore") + "-" + hashlib.blake2b(encoded, digest_size=8).hexdigest()


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
