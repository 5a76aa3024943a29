"""What a metric's values mean, by the ending of its name."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Meaning:
    """How a metric is read.

    Attributes:
        higher_is_better: its direction.
        unit: in words; shares are shown in points, hundredths of one.
    """

    higher_is_better: bool
    unit: str = ""


_SHARE = Meaning(higher_is_better=True, unit="points")
_LOSS = Meaning(higher_is_better=False, unit="nats")

MEANINGS = {
    "loss": _LOSS,
    "cross_entropy": _LOSS,
    "bits_per_character": Meaning(higher_is_better=False, unit="bits"),
    "mse": Meaning(higher_is_better=False),
    "pearson": Meaning(higher_is_better=True),
    "spearman": Meaning(higher_is_better=True),
    "accuracy": _SHARE,
    "f1": _SHARE,
    "f1_without_o": _SHARE,
    "f1_ceiling": _SHARE,
    "exact_match": _SHARE,
}
"""By a name's ending; any other ending is an error, since nothing says which way is better."""


def meaning(metric: str) -> Meaning:
    """How a metric is read, with or without a prefix (valid/, a task's).

    Raises:
        LookupError: its ending is not in MEANINGS.
    """
    for ending, found in MEANINGS.items():
        if metric.endswith(ending):
            return found
    raise LookupError(f"{metric}: which way is better? Its ending is not in bert/training/metric.py.")


def is_known(metric: str) -> bool:
    """Whether its ending is in MEANINGS."""
    return metric.endswith(tuple(MEANINGS))


def higher_is_better(metric: str) -> bool:
    """Its direction."""
    return meaning(metric).higher_is_better


def in_unit(value: float, metric: str) -> float:
    """A value in the unit that it is shown in."""
    return 100 * value if meaning(metric).unit == "points" else value


def number(value: float, metric: str, sign: bool = False) -> str:
    """A value as it is shown, without its unit: with so many decimals, and at least two significant digits."""
    decimals, shown = 2 if meaning(metric).unit == "points" else 3, in_unit(value, metric)
    is_small = 1e-12 < abs(shown) < 10 ** (1 - decimals)  # what is below is a rounding error
    return f"{shown:{'+' if sign else ''}{'#.2g' if is_small else f'.{decimals}f'}}"


def amount(value: float, metric: str) -> str:
    """A value as it is shown, with its unit."""
    return f"{number(value, metric)} {meaning(metric).unit}".rstrip()


def signed(value: float, metric: str) -> str:
    """A difference as it is shown, with its sign and unit."""
    return f"{'+' if value >= 0 else '-'}{amount(abs(value), metric)}"
