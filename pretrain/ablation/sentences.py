"""An effect in plain words."""

import math
from statistics import fmean

from bert.training.metric import amount, higher_is_better, number, signed
from pretrain.ablation.effects import Effect
from pretrain.ablation.statistics import SIGNIFICANT, compare

FEW_SEEDS = 4
"""With fewer seeds than this, a p value carries a caveat about their spread."""


def sentence(effect: Effect) -> str:
    """An effect in words, beginning with what it covers if that is less than planned."""
    part = _part(effect)
    return f"{part}{_found(effect)}{_range(effect)}"


def p_value(p: float) -> str:
    """A p value as it is shown: with two significant digits, or three near 0.05."""
    return f"{p:#.3g}" if 0.045 <= p < 0.055 else f"{p:.2g}"


def _part(effect: Effect) -> str:
    """Which combinations and seeds an effect covers, if not all."""
    (used, every), parts = effect.over, []
    if effect.comparison is None:
        return ""
    if used < every:
        others = "; ".join(f"{rest}: {why}" for rest, why in effect.left_out.items())
        parts.append(f"in {used} of {every} combinations of the other axes ({', '.join(effect.by_rest)}; not {others})")
    if len(effect.by_seed) < effect.seeds:
        parts.append(f"over {len(effect.by_seed)} of {effect.seeds} seeds")
    return f"Only {', '.join(parts)}: " if parts else ""


def _range(effect: Effect) -> str:
    """How much the effect varies with the other axes, by the two combinations farthest apart.

    Where that is much, their mean says little.
    """
    if len(effect.by_rest) < 2:
        return ""
    means = {rest: fmean(of_rest.values()) for rest, of_rest in effect.by_rest.items()}
    first, *_, last = sorted(means, key=means.get)
    low, high = (f"{signed(means[rest], effect.metric)} ({rest})" for rest in (first, last))
    apart = compare(*(list(effect.by_rest[rest].values()) for rest in (last, first))).difference
    said = f" Across the other axes: from {low} to {high}, {amount(apart.mean, effect.metric)} apart"
    if math.isnan(apart.low):  # one seed, or seeds without any spread
        return f"{said}."
    return f"{said} (95% CI {number(apart.low, effect.metric)} to {number(apart.high, effect.metric)})."


def _found(effect: Effect) -> str:
    named, metric = f"{effect.axis}: {effect.value}", effect.metric
    if effect.comparison is None:
        why = "; ".join(sorted(set(effect.left_out.values())))
        return f"{named} could not be compared with {effect.baseline} on {metric}: {why}."
    difference = effect.comparison.difference
    if math.isnan(effect.comparison.p):
        where = "one seed" if difference.n == 1 else f"each of {difference.n} seeds"
        why = "" if difference.n == 1 else ": without any spread there is nothing to test it against"
        if difference.mean == 0:
            return f"{named} is the same as {effect.baseline} on {metric} in {where}{why}."
        by = signed(difference.mean, metric)
        return f"{named} differs from {effect.baseline} on {metric} by {by} in {where}{why}."
    better = (difference.mean > 0) == higher_is_better(metric)
    if effect.p < SIGNIFICANT:
        low, high = sorted((abs(difference.low), abs(difference.high)))
        return (
            f"{named} {'beats' if better else 'falls behind'} {effect.baseline} on {metric} by "
            f"{amount(abs(difference.mean), metric)}, 95% CI {number(low, metric)} to {number(high, metric)} "
            f"(p = {p_value(effect.p)} after Holm{_few(difference.n)})."
        )
    interval = f"95% CI {number(difference.low, metric)} to {number(difference.high, metric)}"
    if effect.comparison.p < SIGNIFICANT:
        return (
            f"{named}: {signed(difference.mean, metric)} against {effect.baseline} on {metric}, {interval}: "
            f"not significant, given how many effects were tested (p = {p_value(effect.comparison.p)}, "
            f"{p_value(effect.p)} after Holm)."
        )
    return (
        f"{named}: no difference from {effect.baseline} detected on {metric} "
        f"({signed(difference.mean, metric)}, {interval}); to be detected in 80% of such experiments, it would have to "
        f"be about {amount(effect.detectable, metric)}."
    )


def _few(seeds: int) -> str:
    """The caveat to a p value from few seeds."""
    return f"; from only {seeds} seeds, whose spread is hardly known" if seeds < FEW_SEEDS else ""
