"""The one training loop. It knows steps, sums and files; what is learned is the objective's affair."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import torch
from tqdm import tqdm

from bert.errors import UserError
from bert.packed import PackedBatch
from bert.training import checkpoint
from bert.training.budget import Budget, Progress
from bert.training.config import TrainingConfig, micro_batch_size, micro_batches
from bert.training.device import autocast, seed_torch
from bert.training.objective import Objective
from bert.training.optim import build_optimizer
from bert.training.position import Position
from bert.training.schedule import SCHEDULES
from bert.training.stopping import Stopped, stop_requests
from bert.training.tracking import Tracker


class Data(Protocol):
    """Micro-batches from any position on."""

    def __call__(self, position: Position) -> Iterator[tuple[PackedBatch, Position]]:
        """Micro-batches, each with the position after it; without end."""

    def epochs(self, position: Position) -> float:
        """How many epochs lie before a position."""


@dataclass(frozen=True)
class Goal:
    """Which weights are the best, and which ones lie in the output's root when the run is done.

    Attributes:
        metric: a name that the evaluation gives.
        higher_is_better: its direction.
        root: the others go to `best/` or `last/`.
    """

    metric: str
    higher_is_better: bool
    root: Literal["last", "best"]

    def better(self, value: float, best: float | None) -> bool:
        """Whether a value beats the best so far; one that is not a number never does."""
        if math.isnan(value):
            return False
        return best is None or (value > best if self.higher_is_better else value < best)


def fit(
    objective: Objective,
    data: Data,
    evaluate: Callable[[], dict[str, float]],
    config: TrainingConfig,
    goal: Goal,
    output: Path,
    tracker: Tracker,
) -> dict[str, float]:
    """Train until the budget is spent, from the newest checkpoint where there is one.

    Args:
        objective: on its device.
        data: the training stream.
        evaluate: metrics of the model as it is, by their full names.
        config: what the loop is told.
        goal: which weights to keep.
        output: the run's folder.
        tracker: where metrics go.

    Returns:
        The last evaluation, and what the run did.

    Raises:
        Stopped: a signal asked to stop; a checkpoint is saved.
        UserError: damaged checkpoints, or a loss that is no number.
    """
    run = _Run(objective, data, evaluate, config, goal, output, tracker)
    run.start()
    try:
        with stop_requests() as stop_asked:
            run.train(stop_asked)
    except torch.OutOfMemoryError as error:
        size = micro_batch_size(config)
        raise UserError(
            f"training.micro_batch_size: {size} sequences at once are more than the memory of {run.device} holds; "
            f"lower it (training.batch_size stays what it is)."
        ) from error
    return run.finish()


class _Run:
    """The state of one call of `fit`."""

    def __init__(self, objective, data, evaluate, config, goal, output, tracker) -> None:
        self.objective, self.data, self.evaluate = objective, data, evaluate
        self.config, self.goal, self.output, self.tracker = config, goal, output, tracker
        self.device = next(objective.parameters()).device
        self.optimizer = build_optimizer(objective, config)
        self.micro_batches = micro_batches(config)
        self.progress = Progress(0, 0, 0, 0.0, Position(), Budget.of(config))
        self.window = Window()
        self.latest: dict[str, float] = {}

    def start(self) -> None:
        """Take up the newest checkpoint, or settle the budget of a fresh run."""
        folder = checkpoint.newest(self.output)
        if folder is not None:
            state = checkpoint.restore(folder, self.objective, self.optimizer)
            self.window = Window.from_json(state.pop("window"))
            self.progress = Progress.from_json(state)
            print(f"resuming from {folder}")
        elif self.progress.budget.unit == "minutes":
            self.progress = replace(self.progress, budget=self._minutes_as_tokens())

    def train(self, stop_asked: Callable[[], bool]) -> None:
        """Steps until the budget is spent, with evaluations and checkpoints on the way."""
        self.objective.train()
        stream = self.data(self.progress.position)
        with self._progress_bar() as bar:
            while self.progress.share < 1:
                self._step(stream)
                bar.update(self.progress.spent - bar.n)
                self._look_after_step(bar, last=self.progress.share >= 1)
                if stop_asked() and self.progress.share < 1:
                    self._save()
                    raise Stopped(f"stopped at step {self.progress.step}; the same command goes on from there.")

    def _look_after_step(self, bar: tqdm, last: bool) -> None:
        step, config = self.progress.step, self.config
        saving = last or step % config.save_every == 0
        if saving or step % config.log_every == 0:
            self._log(bar)
        if last or step % config.eval_every == 0:
            self._evaluate(bar)
        if saving:
            self._save()

    def _step(self, stream: Iterator[tuple[PackedBatch, Position]]) -> None:
        began = time.perf_counter()
        taken = [next(stream) for _ in range(self.micro_batches)]
        batches, position = [batch for batch, _ in taken], taken[-1][1]
        tokens = sum(batch.num_tokens for batch in batches)
        sequences = sum(batch.num_sequences for batch in batches)
        after = self.progress.after_step(tokens, sequences, position, self.data.epochs(position))
        # The rate of the middle of the step: neither the first step nor the last is taken at 0.
        factor = SCHEDULES[self.config.schedule]((self.progress.share + after.share) / 2, self.config.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * factor
        sums, counts, norm = training_step(
            self.objective, batches, self.optimizer, self.config, self.progress.step, self.device
        )
        self.progress = after
        self.window.add(sums, counts, norm, tokens, time.perf_counter() - began)

    def _wait_for_device(self) -> None:
        """Let a GPU finish the steps it was given, and count that as their time."""
        if self.device.type == "cuda":
            began = time.perf_counter()
            torch.cuda.synchronize(self.device)
            self.window.seconds += time.perf_counter() - began

    def _log(self, bar: tqdm) -> None:
        self._wait_for_device()
        if not self.window.steps:
            return
        metrics = self.window.metrics(self.objective.weights) | {
            "train/learning_rate": self.optimizer.param_groups[0]["lr"],
            "train/epochs": self.progress.epochs,
            "train/tokens": self.progress.tokens,
        }
        self.window = Window()
        self.tracker.log(self.progress.step, metrics)
        bar.set_postfix_str(f"loss {metrics['train/loss']:.3f}, {metrics['speed/tokens_per_second']:,.0f} tokens/s")
        if not math.isfinite(metrics["train/loss"] + metrics["train/gradient_norm"]):
            raise UserError(
                f"training.lr: loss {metrics['train/loss']}, gradient norm {metrics['train/gradient_norm']} at step "
                f"{self.progress.step} with "
                f"training.lr={self.config.lr}; a lower rate or a longer training.warmup keeps it finite."
            )

    def _evaluate(self, bar: tqdm) -> None:
        self._wait_for_device()
        self.latest = self.evaluate()
        self.tracker.log(self.progress.step, self.latest)
        shown = ", ".join(f"{name.removeprefix('valid/')} {value:.4g}" for name, value in self.latest.items())
        bar.write(f"step {self.progress.step} ({self.progress.share:.0%}): {shown}")
        value = self.latest[self.goal.metric]
        if self.goal.better(value, self.progress.best):
            self.progress = replace(self.progress, best=value, best_step=self.progress.step)
            checkpoint.export(self.objective, self.output / "best")

    def _save(self) -> None:
        state = asdict(self.progress) | {"window": self.window.to_json()}
        checkpoint.save(self.output, self.objective, self.optimizer, state, self.config.keep_checkpoints)

    def finish(self) -> dict[str, float]:
        """Lay the model in the output's root and say what was reached."""
        if not self.latest:  # stopped between the last checkpoint and the end of the run
            self.latest = self.evaluate()
        if self.goal.root == "best":
            checkpoint.export(self.objective, self.output / "last")
            self.objective.restore(self.output / "best")
        self.objective.export(self.output)
        return self.latest | {
            "steps": self.progress.step,
            "tokens": self.progress.tokens,
            "sequences": self.progress.sequences,
            "epochs": self.progress.epochs,
            "best_step": self.progress.best_step,
            f"best_{self.goal.metric}": self.progress.best,
        }

    def _progress_bar(self) -> tqdm:
        budget = self.progress.budget
        return tqdm(
            total=budget.amount,
            initial=self.progress.spent,
            unit=f" {budget.unit}",
            unit_scale=budget.unit == "tokens",
            bar_format="{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{unit} [{elapsed}<{remaining}, {postfix}]",
            dynamic_ncols=True,
            disable=None,
        )

    def _minutes_as_tokens(self) -> Budget:
        """Measure a few steps and one evaluation, undo them, and say how many tokens the minutes allow."""
        seconds = 60 * self.config.minutes
        weights = {name: tensor.clone() for name, tensor in self.objective.state_dict().items()}
        began = time.perf_counter()
        self.evaluate()
        evaluation = time.perf_counter() - began
        fresh, stream = self.progress, self.data(self.progress.position)
        self.progress = replace(fresh, budget=Budget("steps", 10**9))
        self._step(stream)  # the first one warms up
        self.window = Window()
        while self.window.steps < 3 or self.window.seconds < min(10, 0.02 * seconds):
            self._step(stream)
            self._wait_for_device()
        per_step, tokens = self.window.seconds / self.window.steps, self.window.tokens / self.window.steps
        self.objective.load_state_dict(weights)
        self.optimizer.state.clear()
        self.progress, self.window = fresh, Window()
        steps = max(1.0, (seconds - evaluation) / (per_step + evaluation / self.config.eval_every))
        print(f"{self.config.minutes:g} minutes are {steps * tokens:,.0f} tokens here (about {steps:,.0f} steps)")
        return Budget("tokens", int(steps * tokens))


def training_step(
    objective: Objective,
    batches: list[PackedBatch],
    optimizer: torch.optim.Optimizer,
    config: TrainingConfig,
    step: int,
    device: torch.device,
) -> tuple[dict[str, torch.Tensor], Counter, torch.Tensor]:
    """One step over its micro-batches.

    Each loss is its sum over all of them divided, once, by its count over all of them: so, but for dropout, it does
    not matter how the step is cut.

    Returns:
        The sums, their counts, and the gradient's norm before clipping; tensors on the device.
    """
    counts = Counter()
    for batch in batches:
        counts.update(objective.counts(batch))
    sums: dict[str, torch.Tensor] = {}
    for number, batch in enumerate(batches):
        batch = batch.to(device, non_blocking=True)
        seed_torch(config.seed, step, number)
        with autocast(config, device):
            found = objective(batch)
        parts = [weight * found[n] / max(1, counts[n]) for n, weight in objective.weights.items() if n in found]
        sum(parts).backward()
        for name, value in found.items():
            sums[name] = sums.get(name, 0) + value.detach()
    norm = torch.nn.utils.clip_grad_norm_(objective.parameters(), config.max_grad_norm or math.inf)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return sums, counts, norm


class Window:
    """Sums since the last line of metrics."""

    def __init__(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.counts: Counter = Counter()
        self.norm: torch.Tensor | float = 0.0
        self.steps = self.tokens = 0
        self.seconds = 0.0

    def add(self, sums: dict[str, torch.Tensor], counts: Counter, norm: torch.Tensor, tokens: int, seconds: float):
        """Take in a step; nothing waits for the device."""
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0) + value
        self.counts.update(counts)
        self.norm = self.norm + norm
        self.steps += 1
        self.tokens += tokens
        self.seconds += seconds

    def to_json(self) -> dict:
        """What a resumed run needs to go on with the line it was in."""
        sums = {name: float(value) for name, value in self.sums.items()}
        return vars(self) | {"sums": sums, "norm": float(self.norm), "counts": dict(self.counts)}

    @staticmethod
    def from_json(saved: dict) -> "Window":
        """Read back what to_json gave."""
        window = Window()
        vars(window).update(saved, counts=Counter(saved["counts"]))
        return window

    def metrics(self, weights: dict[str, float]) -> dict[str, float]:
        """Means over the window's targets, by their full names."""
        means = {name: float(value) / max(1, self.counts[name]) for name, value in self.sums.items()}
        return {
            "train/loss": sum(weight * means[name] for name, weight in weights.items() if name in means),
            **{f"train/{name}": value for name, value in means.items()},
            "train/gradient_norm": float(self.norm) / self.steps,
            "speed/tokens_per_second": self.tokens / self.seconds,
        }
