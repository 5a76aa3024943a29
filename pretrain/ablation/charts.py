"""Charts of a grid."""

from pathlib import Path

import numpy as np

from bert.picture import blank, save
from bert.training.metric import higher_is_better, in_unit, meaning
from pretrain.ablation.effects import Effect
from pretrain.ablation.grid import AblateConfig, Cell, combinations, variant_name
from pretrain.ablation.results import Result
from pretrain.ablation.statistics import SIGNIFICANT

_HOLLOW = "none"
"""Fills a point that has no interval: of one seed, or of seeds without any spread."""


def curves(config: AblateConfig, results: dict[Cell, Result], path: Path) -> None:
    """Validation loss against tokens: the mean over seeds, with a band of one deviation; one seed is hollow."""
    figure, axes = _figure(9, 5)
    for values in combinations(config):
        of_variant = [result.curve for cell, result in results.items() if cell.variant == variant_name(values)]
        points = min(map(len, of_variant), default=0)
        if not points:
            continue
        tokens = np.mean([[t for t, _ in curve[:points]] for curve in of_variant], axis=0)
        losses = np.array([[loss for _, loss in curve[:points]] for curve in of_variant])
        mean = losses.mean(0)
        (line,) = axes.plot(tokens, mean, marker=".", label=variant_name(values))
        if len(losses) > 1:
            deviation = losses.std(0, ddof=1)
            axes.fill_between(tokens, mean - deviation, mean + deviation, alpha=0.2, color=line.get_color())
        else:
            line.set_markerfacecolor(_HOLLOW)
    axes.set_xlabel("tokens")
    axes.set_ylabel("valid/masked_lm_loss (nats)")
    if axes.lines:
        axes.legend(fontsize=8, ncols=2)
    save(figure, path, 120)


def effects(found: dict[str, list[Effect]], path: Path) -> None:
    """Every declared effect with its 95% interval and its seeds, a panel for each metric; right is better.

    The intervals are not corrected for the number of effects; an asterisk is where the corrected test finds one. A
    hollow point has no interval.
    """
    most = max((len(of_metric) for of_metric in found.values()), default=1)
    columns = min(3, max(1, len(found)))
    rows = -(-max(1, len(found)) // columns)
    figure, panels = _figure(4.2 * columns + 1, rows * (0.5 * most + 1.4), rows, columns)
    panels = np.ravel(panels)
    for axes in panels[len(found) :]:
        axes.set_axis_off()
    for axes, (metric, of_metric) in zip(panels, found.items(), strict=False):
        names = [_named(effect) for effect in of_metric]
        for place, effect in enumerate(of_metric):
            if effect.comparison is not None:
                _point(axes, place, effect)
            else:
                middle = axes.get_yaxis_transform()  # across the panel, whatever the values
                axes.text(0.5, place, "not compared", transform=middle, ha="center", fontsize=8, color="grey")
        axes.axvline(0, color="grey", linewidth=0.8)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(max(1, len(names)) - 0.5, -0.5)
        axes.locator_params(axis="x", nbins=5)
        axes.set_title(metric, fontsize=9)
        turned = "" if higher_is_better(metric) else "; axis reversed: right is better"
        unknown = any(e.comparison and np.isnan(e.comparison.difference.low) for e in of_metric)
        hollow = "; hollow: no interval" if unknown else ""
        label = f"difference ({meaning(metric).unit or 'no unit'}{turned})\n* p < 0.05 (Holm){hollow}"
        axes.set_xlabel(label, fontsize=8)
        if not higher_is_better(metric):
            axes.invert_xaxis()
    save(figure, path, 120)


def _point(axes, place: int, effect: Effect) -> None:
    d = effect.comparison.difference
    mean, low, high, *seeds = (in_unit(v, effect.metric) for v in (d.mean, d.low, d.high, *effect.by_seed.values()))
    if np.isnan(low):
        axes.plot(mean, place, "o", color="C0", markerfacecolor=_HOLLOW)
    else:
        axes.errorbar(mean, place, xerr=[[mean - low], [high - mean]], fmt="o", capsize=4, color="C0")
    axes.plot(seeds, [place + 0.2] * len(seeds), ".", color="grey", markersize=4)


def _named(effect: Effect) -> str:
    """What is compared, whether it was found to differ, and in how much of the grid."""
    found = "*" if effect.p < SIGNIFICANT else ""
    part = f"\n({effect.over[0]} of {effect.over[1]} combinations)" if 0 < effect.over[0] < effect.over[1] else ""
    return f"{effect.axis}:\n{effect.value} - {effect.baseline}{found}{part}"


def _figure(width: float, height: float, rows: int = 1, columns: int = 1):
    figure = blank(width, height)
    return figure, figure.subplots(rows, columns)
