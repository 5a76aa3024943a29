"""The declared effects of a grid: what is compared with what, and what cannot be compared."""

import itertools
import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pretrain.ablation.grid import AblateConfig, Cell, cells, combinations, variant_name
from pretrain.ablation.metric_names import is_of_pretraining, name_in_place
from pretrain.ablation.results import Result
from pretrain.ablation.statistics import Comparison, Summary, compare, detectable, holm, summarise
from pretrain.validation import set_of

Failed = dict[Cell, str]
"""Cells that failed, and why; the others are finished or still to be run."""


@dataclass(frozen=True)
class Effect:
    """A value of an axis against the baseline's, averaged over the other axes.

    Attributes:
        axis, value, baseline: what was changed.
        metric: what was measured.
        comparison: variant minus baseline; None where nothing can be compared.
        p: adjusted for the number of declared effects on this metric.
        detectable: the true difference that would have been found in 80% of such experiments.
        over: how many combinations of the other axes it is averaged over, and how many there are in all.
        seeds: how many there should be.
        by_seed: the difference of each seed.
        by_rest: the difference of each seed in each combination of the other axes, by its name.
        left_out: why some combinations, or all, are not compared, by their names.
    """

    axis: str
    value: Any
    baseline: Any
    metric: str
    comparison: Comparison | None
    p: float
    detectable: float
    over: tuple[int, int]
    seeds: int
    by_seed: dict[int, float] = field(default_factory=dict)
    by_rest: dict[str, dict[int, float]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def effects(config: AblateConfig, results: dict[Cell, Result], failed: Failed, metric: str) -> list[Effect]:
    """The declared main effects on a metric: each value against the baseline's, paired by seed.

    For each seed the difference is averaged over the combinations of the other axes that can be compared, using only
    seeds finished in all of them (full factorial), so that each seed gives one number.
    """
    found = [
        _effect(config, results, failed, metric, axis, value)
        for axis in config.effects
        for value in config.axes[axis]
        if value != config.baseline[axis]
    ]
    p_values = [effect.comparison.p if effect.comparison else math.nan for effect in found]
    tests = sum(not math.isnan(p) for p in p_values)
    return [
        effect if math.isnan(p) else replace(effect, p=p, detectable=detectable(effect.comparison.difference, tests))
        for effect, p in zip(found, holm(p_values), strict=True)
    ]


def against_baseline(
    config: AblateConfig, results: dict[Cell, Result], failed: Failed, metric: str
) -> dict[str, Comparison]:
    """Each combination against the baseline, paired by seed; descriptive only: `effects` has the tests."""
    found = {}
    for values in combinations(config):
        pairs, _ = _paired(config, results, failed, metric, values, config.baseline)
        if values != config.baseline and pairs:
            found[variant_name(values)] = compare(*zip(*pairs.values(), strict=True))
    return found


def summaries(results: dict[Cell, Result], metric: str) -> dict[str, Summary]:
    """Each combination's summary over its seeds."""
    values: dict[str, list[float]] = {}
    for cell, result in results.items():
        values.setdefault(cell.variant, []).append(result.metrics[metric])
    return {variant: summarise(of_variant) for variant, of_variant in values.items()}


def _effect(
    config: AblateConfig, results: dict[Cell, Result], failed: Failed, metric: str, axis: str, value: Any
) -> Effect:
    baseline, by_name, left_out = config.baseline[axis], {}, {}
    others = {name: values for name, values in config.axes.items() if name != axis}
    rests = [dict(zip(others, rest, strict=True)) for rest in itertools.product(*others.values())]
    for rest in rests:
        variant, base = ({name: (rest | {axis: v})[name] for name in config.axes} for v in (value, baseline))
        pairs, why = _paired(config, results, failed, metric, variant, base)
        if pairs:
            by_name[variant_name(rest)] = pairs
        else:
            left_out[variant_name(rest)] = why
    seeds = sorted(set.intersection(*map(set, by_name.values()))) if by_name else []
    effect = Effect(
        axis=axis,
        value=value,
        baseline=baseline,
        metric=metric,
        comparison=None,
        p=math.nan,
        detectable=math.nan,
        over=(len(by_name), len(rests)),
        seeds=len(config.seeds),
        left_out=left_out,
    )
    if not seeds:
        disjoint = dict.fromkeys(by_name, "no seed is finished in all combinations")
        return replace(effect, over=(0, len(rests)), left_out=left_out | disjoint)
    pairs = np.array([[of_rest[seed] for seed in seeds] for of_rest in by_name.values()])  # (combinations, seeds, 2)
    differences = pairs[..., 0] - pairs[..., 1]
    return replace(
        effect,
        comparison=compare(*pairs.mean(0).T.tolist()),
        by_seed=dict(zip(seeds, differences.mean(0).tolist(), strict=True)),
        by_rest={
            rest: dict(zip(seeds, of_rest, strict=True))
            for rest, of_rest in zip(by_name, differences.tolist(), strict=True)
        },
    )


def _paired(
    config: AblateConfig, results: dict[Cell, Result], failed: Failed, metric: str, variant: dict, base: dict
) -> tuple[dict[int, tuple[float, float]], str]:
    """By seed, the metric of two combinations where both are finished; or nothing, and why.

    Where a model has not learned or a run failed, the remaining seeds would be a biased selection.
    """
    sides = [[cell for cell in cells(config) if cell.values == values] for values in (variant, base)]
    every = [cell for side in sides for cell in side]
    both = [(one, other) for one, other in zip(*sides, strict=True) if one in results and other in results]
    for one, other in both:
        if why := _judged_otherwise(results[one], results[other], metric):
            return {}, why
    if not all(results[cell].learned for cell in every if cell in results):
        return {}, "a seed has not learned"
    if any(results[cell].at_floor(metric) for cell in every if cell in results):
        return {}, "a seed has not learned the task"
    if any(cell in failed for cell in every):
        return {}, "a seed failed"
    if not both:
        return {}, "no seed is finished in both"
    pairs = {one.seed: (results[one].metrics[metric], results[other].metrics[metric]) for one, other in both}
    if not np.isfinite(list(pairs.values())).all():
        return {}, "a score is not finite"
    return pairs, ""


def _judged_otherwise(one: Result, other: Result, metric: str) -> str | None:
    """Why a pretraining metric was not measured on the same frozen set; None if it was, or for a task's metric."""
    sets = [result.judged_on.get(set_of(name_in_place(metric))) for result in (one, other)]
    if not is_of_pretraining(metric) or sets[0] == sets[1]:
        return None
    return "they are judged on different text, tokens or pairs"
