"""What the steps since the last line of metrics did."""

import math

import torch

from bert.training import distributed
from bert.training.step import StepResult


class Window:
    """Sums since the last line of metrics, over the steps that were not skipped.

    Attributes:
        skipped_in_a_row: consecutive steps skipped up to now; carried over from line to line.
        seconds: of the steps only.
        elapsed: seconds of everything up to the last time it was counted, without evaluations.
    """

    def __init__(self, skipped_in_a_row: torch.Tensor | float = 0.0) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.counts: dict[str, torch.Tensor] = {}
        self.norm: torch.Tensor | float = 0.0
        self.skipped: torch.Tensor | float = 0.0
        self.skipped_in_a_row = skipped_in_a_row
        self.steps = self.tokens = 0
        self.flops = self.seconds = self.elapsed = 0.0

    def add(self, did: StepResult, tokens: int, flops: float, seconds: float) -> None:
        """Add a step; nothing waits for the device."""
        for name, value in did.sums.items():
            self.sums[name] = self.sums.get(name, 0) + value
            self.counts[name] = self.counts.get(name, 0) + did.counts[name]
        self.norm = self.norm + did.norm
        self.skipped = self.skipped + did.skipped
        self.skipped_in_a_row = (self.skipped_in_a_row + 1) * did.skipped
        self.steps += 1
        self.tokens += tokens
        self.flops += flops
        self.seconds += seconds

    def to_json(self) -> dict:
        """What a resumed run needs to continue its current line; the sums are those of all ranks."""
        numbers = {name: float(getattr(self, name)) for name in ("norm", "skipped", "skipped_in_a_row")}
        counts = {name: float(value) for name, value in self.counts.items()}
        return vars(self) | {"sums": distributed.total(self.sums), "counts": counts} | numbers

    @staticmethod
    def from_json(saved: dict) -> "Window":
        """Read back what to_json gave; only rank 0 takes the sums."""
        window = Window()
        vars(window).update(saved)
        if not distributed.is_first():
            window.sums = dict.fromkeys(window.sums, 0.0)
        return window

    def metrics(self, weights: dict[str, float]) -> dict[str, float]:
        """Means over the window's targets on all ranks, by their full names; NaN where every step was skipped."""
        sums, nothing = distributed.total(self.sums), math.nan if float(self.skipped) == self.steps else 0.0
        counts = {name: float(count) for name, count in self.counts.items()}
        means = {name: value / counts[name] if counts[name] else nothing for name, value in sums.items()}
        return {
            "train/loss": sum(weight * means[name] for name, weight in weights.items() if name in means),
            **{f"train/{name}": value for name, value in means.items()},
            "train/gradient_norm": float(self.norm) / max(1.0, self.steps - float(self.skipped)),
            "train/skipped_steps": float(self.skipped),
            "speed/tokens_per_second": self.tokens / self.seconds,
        }
