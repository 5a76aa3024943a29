"""How much of a run is done, in the budget's own unit."""

from dataclasses import dataclass, replace

from bert.training.config import BUDGETS, TrainingConfig
from bert.training.position import Position


@dataclass(frozen=True)
class Budget:
    """An amount of steps, epochs or tokens. Minutes become tokens before training starts."""

    unit: str
    amount: float

    @staticmethod
    def of(config: TrainingConfig) -> "Budget":
        """The one budget that was given."""
        unit = next(name for name in BUDGETS if getattr(config, name) is not None)
        return Budget(unit, getattr(config, unit))


@dataclass(frozen=True)
class Progress:
    """What a run has done, and where its data continues.

    Attributes:
        step: optimizer steps taken.
        tokens, sequences: read so far.
        epochs: passes over the data, with the fraction of the current one.
        position: of the next micro-batch.
        budget: in its final unit.
        best: value of the metric that decides which weights are the best, and the step it was reached at.
        best_among_equals: at that step, the value of the metric that breaks ties.
        better_step: the step of the last evaluation that was an improvement, even if its weights could not be written;
            patience counts from it.
    """

    step: int
    tokens: int
    sequences: int
    epochs: float
    position: Position
    budget: Budget
    best: float | None = None
    best_step: int | None = None
    best_among_equals: float | None = None
    better_step: int = 0

    @property
    def spent(self) -> float:
        """How much of the budget is spent, in its unit."""
        return {"steps": self.step, "tokens": self.tokens, "epochs": self.epochs}[self.budget.unit]

    @property
    def share(self) -> float:
        """The share of the budget that is spent, at most 1."""
        return min(1.0, self.spent / self.budget.amount)

    def after_step(self, tokens: int, sequences: int, position: Position, epochs: float) -> "Progress":
        """The progress once a step over this many tokens and sequences is done."""
        return replace(
            self,
            step=self.step + 1,
            tokens=self.tokens + tokens,
            sequences=self.sequences + sequences,
            position=position,
            epochs=epochs,
        )

    @staticmethod
    def from_json(saved: dict) -> "Progress":
        """Read back what `dataclasses.asdict` made of one."""
        return Progress(**saved | {"position": Position(**saved["position"]), "budget": Budget(**saved["budget"])})
