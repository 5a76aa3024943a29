"""What the cells of a grid reached: read from their folders, compared over the declared effects."""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bert.training.identity import is_finished
from bert.training.metrics_file import METRICS
from pretrain.ablation.grid import AblateConfig, Cell, cells, combinations, variant_name
from pretrain.ablation.run import cell_folder, metrics_of
from pretrain.ablation.statistics import Comparison, Summary, compare, holm, summarise

LEARNED = 0.5
"""Nats below the unigram cross-entropy that a model must reach to be compared."""


@dataclass(frozen=True)
class Result:
    """A finished cell.

    Attributes:
        metrics: of pretraining by their full names (valid/...), of tasks as TASK/METRIC, means over their seeds.
        below_unigram: nats that its masked-LM loss lies below what word frequencies alone give.
        curve: (tokens, masked-LM loss) at each evaluation.
        by_tokens: for each TASK/METRIC the (tokens, score) of each checkpoint that was scored.
        seconds, tokens_per_second: of its pretraining, without the time between a stop and going on.
        seconds_in_all: of its fine-tunings too.
    """

    metrics: dict[str, float]
    below_unigram: float
    curve: list[tuple[float, float]]
    by_tokens: dict[str, list[tuple[float, float]]]
    seconds: float
    tokens_per_second: float
    seconds_in_all: float

    @property
    def learned(self) -> bool:
        """Whether there is anything to compare."""
        return self.below_unigram >= LEARNED


@dataclass(frozen=True)
class Effect:
    """A value of an axis against the baseline's, averaged over the other axes.

    Attributes:
        axis, value, baseline: what was changed.
        metric: what was measured.
        comparison: variant minus baseline; None where no seed has all that is needed.
        p: adjusted for the number of declared effects on this metric.
        over: the other axes' combinations it is averaged over, and how many there are in all.
    """

    axis: str
    value: Any
    baseline: Any
    metric: str
    comparison: Comparison | None
    p: float
    over: tuple[int, int]


def read_results(config: AblateConfig) -> dict[Cell, Result]:
    """Every finished cell's result."""
    found = {}
    for cell in cells(config):
        folder = cell_folder(config, cell)
        runs = [f"{name}-{seed}" for name, task in config.finetune.items() for seed in task.seeds]
        if is_finished(folder / "pretrain") and all(is_finished(folder / run) for run in runs):
            found[cell] = _read(config, folder)
    return found


def lacking(config: AblateConfig) -> list[str]:
    """Metrics of the grid that finished cells do not have, since another version ran them."""
    found: dict[str, list[str]] = {}
    for cell, result in read_results(config).items():
        for metric in (metric for metric in config.metrics if metric not in result.metrics):
            found.setdefault(metric, []).append(cell.name)
    return [
        f"metrics: {len(names)} finished cells ('{names[0]}' for one) have no {metric!r}. Leave it out, or remove them."
        for metric, names in found.items()
    ]


def summaries(results: dict[Cell, Result], metric: str) -> dict[str, Summary]:
    """Each combination's seeds."""
    values: dict[str, list[float]] = {}
    for cell, result in results.items():
        values.setdefault(cell.variant, []).append(result.metrics[metric])
    return {variant: summarise(of_variant) for variant, of_variant in values.items()}


def effects(config: AblateConfig, results: dict[Cell, Result], metric: str) -> list[Effect]:
    """The declared main effects on a metric: each value against the baseline's, paired by seed.

    For each seed the difference is averaged over every combination of the other axes of which both sides have
    learned in all seeds that count (full factorial), so that each seed gives one number.
    """
    found = [
        _effect(config, results, metric, axis, value)
        for axis in config.effects
        for value in config.axes[axis]
        if value != config.baseline[axis]
    ]
    adjusted = holm([effect.comparison.p if effect.comparison else float("nan") for effect in found])
    return [Effect(**{**vars(effect), "p": p}) for effect, p in zip(found, adjusted, strict=True)]


def against_baseline(config: AblateConfig, results: dict[Cell, Result], metric: str) -> dict[str, Comparison]:
    """Each combination against the baseline's, paired by seed; described, not tested: see `effects` for that."""
    found = {}
    for values in combinations(config):
        pairs = _paired(config, results, metric, values, config.baseline)
        if values != config.baseline and pairs:
            found[variant_name(values)] = compare(*zip(*pairs.values(), strict=True))
    return found


def _effect(config: AblateConfig, results: dict[Cell, Result], metric: str, axis: str, value: Any) -> Effect:
    baseline = config.baseline[axis]
    others = {name: values for name, values in config.axes.items() if name != axis}
    rests = [dict(zip(others, rest, strict=True)) for rest in itertools.product(*others.values())]
    sides = []
    for rest in rests:
        variant, base = ({name: (rest | {axis: v})[name] for name in config.axes} for v in (value, baseline))
        sides.append(_paired(config, results, metric, variant, base))
    sides = [pairs for pairs in sides if pairs]
    seeds = set.intersection(*(set(pairs) for pairs in sides)) if sides else set()
    comparison = None
    if seeds:
        of_seed = [np.mean([pairs[seed] for pairs in sides], axis=0) for seed in sorted(seeds)]
        comparison = compare(*np.transpose(of_seed).tolist())
    return Effect(axis, value, baseline, metric, comparison, float("nan"), (len(sides), len(rests)))


def _paired(
    config: AblateConfig, results: dict[Cell, Result], metric: str, variant: dict, base: dict
) -> dict[int, tuple[float, float]]:
    """By seed: the metric of two combinations, where both are there; empty where either has a model that has not
    learned, since the seeds that have would be a selection."""
    pairs = {}
    for seed in config.seeds:
        both = [results.get(_cell(results, values, seed)) for values in (variant, base)]
        if None in both:
            continue
        if not all(result.learned for result in both):
            return {}
        pairs[seed] = (both[0].metrics[metric], both[1].metrics[metric])
    return pairs


def _cell(results: dict[Cell, Result], values: dict[str, Any], seed: int) -> Cell | None:
    return next((cell for cell in results if cell.seed == seed and cell.values == values), None)


def _read(config: AblateConfig, folder: Path) -> Result:
    pretrained = folder / "pretrain"
    metrics, lines = metrics_of(pretrained), _lines(pretrained)
    steps, tokens = _column(lines, "train/tokens")
    at, losses = _column(lines, "valid/masked_lm_loss")
    _, speeds = _column(lines, "speed/tokens_per_second")
    by_tokens: dict[str, list[tuple[float, float]]] = {}
    for name, task in config.finetune.items():
        of_seeds = [_scores(metrics_of(folder / f"{name}-{seed}")) for seed in task.seeds]
        for metric in of_seeds[0]:
            metrics[f"{name}/{metric}"] = float(np.mean([scores[metric] for scores in of_seeds]))
        for step, of_step in _checkpoints(folder, name, task.seeds).items():
            for metric, score in of_step.items():
                by_tokens.setdefault(f"{name}/{metric}", []).append((float(np.interp(step, steps, tokens)), score))
    return Result(
        metrics=metrics,
        below_unigram=metrics["valid/unigram_cross_entropy"] - metrics["valid/masked_lm_loss"],
        curve=list(zip(np.interp(at, steps, tokens).tolist(), losses, strict=True)),
        by_tokens=by_tokens,
        seconds=_seconds(pretrained),
        tokens_per_second=float(np.median(speeds)),
        seconds_in_all=sum(_seconds(file.parent) for file in folder.glob(f"*/{METRICS}") if is_finished(file.parent)),
    )


def _lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / METRICS).read_text(encoding="utf-8").splitlines()]


def _seconds(run: Path) -> float:
    return sum(sum(_column(_lines(run), name)[1]) for name in ("speed/seconds", "speed/evaluation_seconds"))


def _scores(metrics: dict[str, float]) -> dict[str, float]:
    return {name.removeprefix("valid/"): value for name, value in metrics.items() if name.startswith("valid/")}


def _column(lines: list[dict], name: str) -> tuple[list[int], list[float]]:
    """Steps and values of one metric."""
    points = [(line["step"], float(line["metrics"][name])) for line in lines if name in line["metrics"]]
    return [step for step, _ in points], [value for _, value in points]


def _checkpoints(folder: Path, task: str, seeds: list[int]) -> dict[int, dict[str, float]]:
    """Scores of a task by the step of the checkpoint they are from, means over the task's seeds."""
    found: dict[int, list[dict[str, float]]] = {}
    for seed in seeds:
        for run in sorted(folder.glob(f"{task}-{seed}-step-*")):
            if is_finished(run):
                found.setdefault(int(run.name.rpartition("-")[2]), []).append(_scores(metrics_of(run)))
    return {step: {m: float(np.mean([s[m] for s in scores])) for m in scores[0]} for step, scores in found.items()}
