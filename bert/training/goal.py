"""Which weights of a run are the best."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Goal:
    """Which weights are the best, and which ones are in the output's root when the run is done.

    Attributes:
        metric: a name that the evaluation gives.
        higher_is_better: its direction.
        root: the others go to `best/` or `last/`.
        among_equals: a metric, the lower the better, that breaks ties.
    """

    metric: str
    higher_is_better: bool
    root: Literal["last", "best"]
    among_equals: str | None = None

    def better(self, found: dict[str, float], best: float | None, best_among_equals: float | None) -> bool:
        """Whether an evaluation beats the best so far; NaN never does."""
        value = found[self.metric]
        if math.isnan(value):
            return False
        if best is None:
            return True
        if value == best:
            return best_among_equals is not None and found[self.among_equals] < best_among_equals
        return value > best if self.higher_is_better else value < best
