"""The report of a grid: findings in plain sentences, the tables behind them, and charts."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np

from bert.counting import count_of
from bert.training.identity import flatten
from bert.training.metric import number
from bert.training.provenance import git_commit
from pretrain.ablation import charts
from pretrain.ablation.effects import Effect, Failed, against_baseline, effects, summaries
from pretrain.ablation.grid import AblateConfig, Cell, cells, combinations, grid_as_yaml, variant_name
from pretrain.ablation.metric_names import VALID, full_name
from pretrain.ablation.results import Result
from pretrain.ablation.sentences import p_value, sentence
from pretrain.ablation.statistics import Summary, uncertainty
from pretrain.validation import LEARNED, VALIDATION_MASKINGS, loss_under

FILES = ("report.md", "report.json", "curves.png", "effects.png")


def write_report(
    config: AblateConfig, results: dict[Cell, Result], failed: Failed, changed: list[str], folder: Path
) -> str:
    """Write report.md, report.json and the charts.

    Args:
        config: the grid.
        results: of its finished cells.
        failed: cells that failed, and why.
        changed: what differs from the declaration before the first cell was finished, in words.
        folder: the grid's.

    Returns:
        The report's text.
    """
    found = {metric: effects(config, results, failed, metric) for metric in config.metrics}
    charts.curves(config, results, folder / "curves.png")
    charts.effects(found, folder / "effects.png")
    text = "\n".join(
        [
            "# Ablation",
            "",
            *_design(config, results, failed, changed),
            "## What was found",
            "",
            *_findings(found),
            "![Differences from the baseline, with 95% intervals](effects.png)",
            "",
            "## Effects",
            "",
            *_effect_table(found),
            "## Cells",
            "",
            *_cell_table(config, results, failed),
            "![Masked-LM loss against tokens, mean and deviation over seeds](curves.png)",
            "",
            *_by_tokens(config, results),
            *_limits(config, found),
            "## The grid",
            "",
            "```yaml",
            grid_as_yaml(config).rstrip(),
            "```",
        ]
    )
    (folder / "report.md").write_text(text + "\n", encoding="utf-8")
    (folder / "report.json").write_text(_as_json(config, results, found, failed), encoding="utf-8")
    return text


def _design(config: AblateConfig, results: dict[Cell, Result], failed: Failed, changed: list[str]) -> list[str]:
    wanted = cells(config)
    unlearned = sorted({cell.variant for cell, result in results.items() if not result.learned})
    axes = "; ".join(f"`{name}` in {', '.join(map(str, values))}" for name, values in config.axes.items())
    baseline = variant_name({name: config.baseline[name] for name in config.axes})
    run_by = sorted({one for result in results.values() for one in result.run_by})
    lines = [
        f"{axes}: {count_of(len(combinations(config)), 'combination')}, {count_of(len(config.seeds), 'seed')} each, "
        f"{config.tokens:,} tokens a run. Baseline: {baseline}. Run by "
        f"{'; '.join(run_by) or 'nobody yet'}; reported by commit {git_commit()}.",
        "",
    ]
    if config.effects:
        declared = "" if changed else " declared beforehand"
        named = ", ".join(f"`{name}`" for name in config.effects)
        how = (
            "and paired by seed; a paired t-test gives the interval, and p values are corrected for the number of "
            "effects on a metric (Holm). Intervals are not: one may exclude 0 where the corrected p value is above "
            "0.05."
        )
        if len(config.seeds) == 1:
            how = "(one seed: nothing is tested)."
        lines += [f"Main effects{declared}: {named}. Each is averaged over the other axes {how}", ""]
    if len(run_by) > 1:
        lines += ["**Cells were run by different code or devices**, which may explain a difference.", ""]
    if changed:
        lines += [
            f"**Not as declared before the first cell was finished**: {'; '.join(changed)}. Choosing after looking, or "
            f"looking after each seed until something is found, finds something by chance in more than 5% of cases.",
            "",
        ]
    masks = {full_name(VALID, loss_under(masking)): masking for masking in VALIDATION_MASKINGS}
    judged = [f"`{metric}` by {masks[metric].replace('_', ' ')}" for metric in config.metrics if metric in masks]
    if judged and any(axis.startswith("masking.") for axis in config.effects):
        lines += [
            f"Each masked-LM loss is measured on frozen masks of one kind: {', '.join(judged)}. A model "
            f"does better on the kind that it was trained on; to compare maskings, use all kinds, or a task.",
            "",
        ]
    if missing := len(set(wanted) - results.keys() - failed.keys()):
        interim = f"**Not finished: {missing} of {count_of(len(wanted), 'cell')}**; p values are interim."
        lines += [interim, ""]
    lines += [f"- failed: {cell.name}: {fault}" for cell, fault in failed.items()] + [""] * bool(failed)
    if unlearned:
        lines += [
            f"Not compared, since a seed has not learned (less than {LEARNED} nats below the unigram cross-entropy): "
            f"{', '.join(unlearned)}. More `tokens`, in another folder, may help.",
            "",
        ]
    return lines + [line for metric in config.metrics for line in _at_floor(results, metric)]


def _at_floor(results: dict[Cell, Result], metric: str) -> list[str]:
    """The combinations not compared on a task's metric, since a model has not learned the task."""
    lines: dict[str, set[str]] = {}
    for cell, result in results.items():
        if by := result.at_floor(metric):
            scores = " and ".join(f"{number(result.floors[name], name)} on {name}" for name in by)
            lines.setdefault(scores, set()).add(cell.variant)
    return [
        line
        for scores, variants in lines.items()
        for line in (
            f"Not compared on {metric}, since a seed is not clearly better (by two standard errors) than one answer to "
            f"everything, or guessing, which scores {scores}: {', '.join(sorted(variants))}. The task may need longer "
            f"or faster training (its `options`), or more `tokens`.",
            "",
        )
    ]


def _findings(found: dict[str, list[Effect]]) -> list[str]:
    """The primary metric's sentences, and the others' separately: Holm's correction is within each metric only."""
    if not any(found.values()):
        return ["No effect was declared, so none is tested.", ""]
    primary, *secondary = found
    lines = [f"On the primary metric, the first of `metrics` ({primary}):", ""]
    lines += [f"- {sentence(effect)}" for effect in found[primary]] + [""]
    if secondary:
        tests = sum(len(found[metric]) for metric in secondary)
        lines += [
            f"On the others ({count_of(tests, 'more effect')}, corrected only within each metric: the more metrics, "
            f"the likelier a difference by chance):",
            "",
        ]
    for metric in secondary:
        lines += [f"- {sentence(effect)}" for effect in found[metric]] + [""]
    return lines


def _effect_table(found: dict[str, list[Effect]]) -> list[str]:
    lines = [
        "| metric | effect | difference | 95% interval | p | p (Holm) | detectable | seeds | averaged over |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for metric, of_metric in found.items():
        for effect in of_metric:
            name = f"{effect.axis}: {effect.value} - {effect.baseline}"
            if effect.comparison is None:
                lines.append(
                    f"| {metric} | {name} | not compared | | | | | 0 of {effect.seeds} | 0 of {effect.over[1]} |"
                )
                continue
            c = effect.comparison
            none = math.isnan(c.difference.low)  # one seed, or seeds without any spread
            interval = "" if none else f"{number(c.difference.low, metric)} to {number(c.difference.high, metric)}"
            detectable = "" if none else number(effect.detectable, metric)
            p, adjusted = ("" if math.isnan(p) else p_value(p) for p in (c.p, effect.p))
            lines.append(
                f"| {metric} | {name} | {number(c.difference.mean, metric, sign=True)} | {interval} | {p} | "
                f"{adjusted} | {detectable} | {c.difference.n} of {effect.seeds} | "
                f"{effect.over[0]} of {effect.over[1]} |"
            )
    return [*lines, ""]


def _cell_table(config: AblateConfig, results: dict[Cell, Result], failed: Failed) -> list[str]:
    columns = ["cell", "seeds", "nats below unigram", *config.metrics, "tokens/s", "minutes"]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    by_metric = {metric: summaries(results, metric) for metric in config.metrics}
    differences = {metric: against_baseline(config, results, failed, metric) for metric in config.metrics}
    for values in combinations(config):
        variant = variant_name(values)
        of_variant = [result for cell, result in results.items() if cell.variant == variant]
        if not of_variant:
            lines.append(f"| {variant} | 0 |" + " |" * (len(columns) - 2))
            continue
        below = [result.below_unigram for result in of_variant]
        mark = "" if all(result.learned for result in of_variant) else " (not learned)"
        shown = [_cell_value(by_metric[m][variant], differences[m].get(variant), m) for m in config.metrics]
        speed = sum(result.tokens_per_second for result in of_variant) / len(of_variant)
        minutes = sum(result.seconds for result in of_variant) / len(of_variant) / 60
        row = [variant, str(len(of_variant)), f"{min(below):.2f} to {max(below):.2f}{mark}", *shown]
        lines.append("| " + " | ".join([*row, f"{speed:,.0f}", f"{minutes:.1f}"]) + " |")
    note = "Mean ± deviation over seeds [95% interval of the mean] (paired difference from the baseline)."
    return [*lines, "", note, ""]


def _cell_value(summary: Summary, difference, metric: str) -> str:
    said = number(summary.mean, metric)
    if summary.n > 1:
        interval = f"{number(summary.low, metric)}, {number(summary.high, metric)}"
        said += f" ± {number(summary.deviation, metric)} [{interval}]"
    return said + (f" ({number(difference.difference.mean, metric, sign=True)})" if difference else "")


def _by_tokens(config: AblateConfig, results: dict[Cell, Result]) -> list[str]:
    """Scores of checkpoints, where a task asks for them; those that few seeds have say how many."""
    metrics = sorted({m for result in results.values() for m in result.by_tokens} & set(config.metrics))
    lines = []
    for metric in metrics:
        lines += [f"## {metric} against tokens", "", "| cell | " + "tokens: mean over seeds |", "|---|---|"]
        for values in combinations(config):
            of_variant = [r for c, r in results.items() if c.variant == variant_name(values) and metric in r.by_tokens]
            points: dict[int | str, list[tuple[float, float]]] = {}
            for result in of_variant:
                for step, point in result.by_tokens[metric].items():
                    points.setdefault(step, []).append(point)
            means = sorted((*np.mean(of_step, axis=0).tolist(), len(of_step)) for of_step in points.values())
            shown = [
                f"{tokens:,.0f}: {number(score, metric)}"
                + (f" ({n} of {len(config.seeds)} seeds)" if n < len(config.seeds) else "")
                for tokens, score, n in means
            ]
            lines.append(f"| {variant_name(values)} | {', '.join(shown)} |")
        lines.append("")
    return lines


def _and_starts(starts: list[str]) -> str:
    if not starts:
        return ""
    return f", nor how the weights of {' and '.join(map(repr, starts))} came about, which cells start from"


def _limits(config: AblateConfig, found: dict[str, list[Effect]]) -> list[str]:
    compared = {len(e.by_seed) for of_metric in found.values() for e in of_metric if e.comparison}
    counts = sorted(compared) or [len(config.seeds)]
    n = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    starts = [value for value in config.axes.get("init", [flatten(config.base).get("init")]) if value]
    initial = "weights that init does not give" if starts else "initial weights"
    varied = (
        f"- {n} seeds vary the {initial}, the order of documents, the pairs and the masks together. The validation "
        f"text, its masks and the labelled data are the same for all, so the intervals do not cover how these were "
        f"sampled{_and_starts(starts)}."
    )
    if counts[-1] == 1:
        varied = (
            f"- One seed: nothing is tested. Other {initial}, another order of documents, other pairs and masks may "
            f"reverse any difference."
        )
    lines = [
        "## What this can and cannot say",
        "",
        f"- It holds for this corpus, this model and {config.tokens:,} tokens. A longer run or a larger model may "
        f"reverse a difference.",
        varied,
    ]
    if config.finetune:
        lines.append(
            "- A task's score is that of the epoch that was best on the file it is scored on, which flatters tasks "
            "whose scores vary much from epoch to epoch (TASK/test/NAME/METRIC is of a file that had no say in this); "
            "the seeds of fine-tuning are the same for all models."
        )
    if several := sorted(count for count in compared if count > 1):
        low, high = uncertainty(several[0])
        few = f"{several[0]} seeds" if len(several) == 1 else f"as few as {several[0]} seeds"
        lines.append(
            f"- Intervals are those of a t-test: with so few seeds, where they scatter to one side (some learn late), "
            f"fewer than 95% contain the true difference. The dots in the picture are the seeds. `detectable`, the "
            f"difference that the corrected test would find in 80% of such experiments, takes the deviation of "
            f"{few} for the true one, which may be {low:.1f} to {high:.1f} times as large."
        )
    most = max((len(effect.by_rest) for of_metric in found.values() for effect in of_metric), default=0)
    if most > 2:
        lines.append(
            f'- The two combinations that "Across the other axes" names are the farthest apart of up to {most}. They '
            f"were picked after looking, so that the interval between them is too narrow, and some distance would be "
            f"there by chance alone: it is no test."
        )
    return [
        *lines,
        "- A difference that was not detected is not shown to be zero.",
        "- Differences of single cells from the baseline (in the table of cells) were not declared, and are not "
        "tested; neither are those between combinations of the other axes.",
        "",
    ]


def _as_json(config: AblateConfig, results: dict[Cell, Result], found: dict[str, list[Effect]], failed) -> str:
    report = {
        "grid": grid_as_yaml(config),
        "effects": [asdict(effect) | {"sentence": sentence(effect)} for e in found.values() for effect in e],
        "cells": [
            {"variant": cell.variant, "values": cell.values, "seed": cell.seed, "learned": result.learned}
            | asdict(result)
            for cell, result in results.items()
        ],
        "failed": {cell.name: fault for cell, fault in failed.items()},
    }
    return json.dumps(_finite(report), indent=1, ensure_ascii=False) + "\n"


def _finite(value):
    """The value with null for nan and infinity, which JSON lacks."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
