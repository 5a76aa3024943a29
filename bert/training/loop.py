"""The training loop. It knows steps, sums and files; what is learned is up to the objective."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from tqdm import tqdm

from bert.counting import count_of
from bert.errors import UserError
from bert.flops import matrix_rate
from bert.packed import PackedBatch
from bert.training import checkpoint, distributed, team
from bert.training.budget import Budget, Progress
from bert.training.config import TrainingConfig, micro_batch_size, micro_batches
from bert.training.device import product_type
from bert.training.goal import Goal
from bert.training.objective import Objective
from bert.training.optim import build_optimizer
from bert.training.position import Position
from bert.training.profile import profiled
from bert.training.schedule import SCHEDULES
from bert.training.step import refuse_division, training_step
from bert.training.stopping import Stopped, note_last_step, stop_requests
from bert.training.tracking import Tracker
from bert.training.window import Window

SKIPPED_AT_MOST = 3
"""Steps in a row without a finite gradient before a run gives up."""

SAY_EVERY = 30.0
"""Seconds between two lines of a run that shows no progress bar, since it writes to a file."""

_NO_MEMORY = ("can't allocate memory", "MemoryError", "CUBLAS_STATUS_ALLOC_FAILED", "out of memory")
"""Messages of out-of-memory errors without a type of their own: of a CPU, of a helper, of cuBLAS, of the driver and of
Triton."""

STOPPED = "stopped"
"""A file in the output of a run that was asked to stop."""


class Data(Protocol):
    """Micro-batches from any position on."""

    def __call__(self, position: Position) -> Iterator[tuple[PackedBatch, Position]]:
        """Endless micro-batches, each with the position after it."""

    def epochs(self, position: Position) -> float:
        """How many epochs lie before a position."""


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
        evaluate: metrics of the current model, by their full names.
        config: the loop's options.
        goal: which weights to keep.
        output: the run's folder.
        tracker: where metrics go.

    Returns:
        The last evaluation, and what the run did.

    Raises:
        Stopped: a signal asked to stop; a checkpoint is saved.
        UserError: a step that may not be divided and would be, damaged checkpoints, a disk that cannot be written to,
            or a loss that stays non-finite.
    """
    refuse_division(objective, config)
    run = _Run(objective, data, evaluate, config, goal, output, tracker)
    try:
        run.start()
        with stop_requests() as stop_asked:
            run.train(stop_asked)
    except (RuntimeError, MemoryError) as error:
        if advice := _advice(error, config, run.device):
            raise UserError(advice) from error
        raise
    finally:
        if run.team is not None:
            run.team.end()
    return run.finish()


def _advice(error: Exception, config: TrainingConfig, device: torch.device) -> str | None:
    """What the user can do about an error of the machine, if anything."""
    said = str(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in said for words in _NO_MEMORY):
        unit, what = ("size", "sequences") if config.batch_tokens is None else ("tokens", "tokens")
        return (
            f"training.micro_batch_{unit}: {micro_batch_size(config)} {what} at once do not fit in the memory of "
            f"{device}; lower it (training.batch_{unit} can stay as it is), or set "
            f"training.gradient_checkpointing."
        )
    if isinstance(error, team.Killed):
        return (
            f"training.processes: {said}; the system may have ended it for lack of memory. The same command continues "
            f"from the last checkpoint; --training.processes 1 --accept_changes '[training.processes]' needs less."
        )
    if "DataLoader worker" in said:
        return (
            f"training.workers: a process that prepares batches has ended ({said.splitlines()[0]}): for lack of "
            f"memory, unless an error is printed above. The same command continues from the last checkpoint; fewer "
            f"workers need less."
        )
    return None


class _Run:
    """The state of one call of `fit`."""

    def __init__(self, objective, data, evaluate, config, goal, output, tracker) -> None:
        self.objective, self.data, self.evaluate = objective, data, evaluate
        self.config, self.goal, self.output, self.tracker = config, goal, output, tracker
        self.device = next(objective.parameters()).device
        self.forward = distributed.wrap(objective)
        self.optimizer = build_optimizer(objective, config)
        self.micro_batches = micro_batches(config)
        self.progress = Progress(0, 0, 0, 0.0, Position(), Budget.of(config))
        self.window = Window()
        self.batches: list[PackedBatch] = []  # of the last step, and where they began
        self.began_at = self.progress.position
        self.team = team.start(objective, config, self.device)
        self.latest: dict[str, float] = {}
        self.seen: tuple[float, float | None] | None = None  # the best evaluation, its weights written or not
        self.last_line = self.last_said = time.perf_counter()

    @property
    def matrix_rate(self) -> float:
        """FLOP/s of plain matrix products on all ranks; measured when the first figures are due."""
        return matrix_rate(self.device, product_type(self.config.precision, self.device)) * distributed.ranks()

    def start(self) -> None:
        """Resume from the newest checkpoint, or settle the budget of a fresh run."""
        folder = distributed.from_first(lambda: checkpoint.newest(self.output))
        if folder is not None:
            state = checkpoint.restore(folder, self.objective, self.optimizer)
            self.window = Window.from_json(state.pop("window"))
            self.progress = Progress.from_json(state)
            if self.config.minutes is None:  # minutes were converted to tokens once
                self.progress = replace(self.progress, budget=Budget.of(self.config))
            self._take_up_the_best()
            (self.output / STOPPED).unlink(missing_ok=True)
            distributed.wait()  # for ranks that took longer to load it than a step may
            print(f"resuming from {folder}")
            return
        # What a run left that was killed before it saved; this one has no best weights yet.
        distributed.from_first(lambda: checkpoint.remove_export(self.output / "best"))
        if self.progress.budget.unit == "minutes":
            self.progress = replace(self.progress, budget=self._minutes_as_tokens())

    def _take_up_the_best(self) -> None:
        """Let the weights in best/ be the best so far.

        They may be of a later evaluation than the checkpoint, and stay the best whatever the steps in between bring
        this time. If they are gone, the next evaluation is the best, and patience starts anew.
        """
        reached = distributed.from_first(lambda: checkpoint.recover_export(self.output / "best"))
        if reached is None:
            reached = {"best": None, "best_step": None, "best_among_equals": None, "better_step": self.progress.step}
        self.progress = replace(self.progress, **reached)

    def train(self, stop_asked: Callable[[], bool]) -> None:
        """Steps until the budget is spent, with evaluations and checkpoints on the way."""
        self.objective.train()
        stream = self.data(self.progress.position)
        self.last_line = time.perf_counter()
        with (
            self._progress_bar() as bar,
            profiled(self.config.profile, self.output, self.device) as after_step,
        ):
            note_last_step(self._done())
            while not self._done():
                self._step(stream)
                after_step()
                note_last_step(self.progress.share >= 1)
                bar.update(self.progress.spent - bar.n)
                self._look_after_step(bar, last=self.progress.share >= 1)
                note_last_step(self._done())  # also for lack of patience
                if distributed.any_of(stop_asked()) and not self._done():
                    self._save(needed=True)
                    self._mark_stop()
                    raise Stopped(f"stopped at step {self.progress.step}; the same command continues from there.")

    def _look_after_step(self, bar: tqdm, last: bool) -> None:
        step, config = self.progress.step, self.config
        saving = last or step % config.save_every == 0
        if saving or step % config.log_every == 0:
            self._log(bar)
        if last or step % config.eval_every == 0:
            self._evaluate(bar)
        if not last and self._out_of_patience():
            bar.write(
                f"{count_of(config.patience, 'evaluation')} without improvement (training.patience): stopping early"
            )
            self._log(bar)
            saving = True
        if saving:
            self._save()

    def _done(self) -> bool:
        return self.progress.share >= 1 or self._out_of_patience()

    def _out_of_patience(self) -> bool:
        """Whether training.patience evaluations in a row brought no improvement, by the step of the last one."""
        since_better = self.progress.step - max(self.progress.better_step, self.progress.best_step or 0)
        return self.config.patience is not None and since_better >= self.config.patience * self.config.eval_every

    def _step(self, stream: Iterator[tuple[PackedBatch, Position]]) -> None:
        began = time.perf_counter()
        taken = [next(stream) for _ in range(self.micro_batches)]
        batches, position = [batch for batch, _ in taken], taken[-1][1]
        tokens = sum(batch.real_tokens for batch in batches)
        sequences = sum(batch.real_sequences for batch in batches)
        after = self.progress.after_step(tokens, sequences, position, self.data.epochs(position))
        # The rate at the middle of the step, so that neither the first step nor the last has rate 0.
        factor = SCHEDULES[self.config.schedule]((self.progress.share + after.share) / 2, self.config.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * factor * group["lr_scale"]
        did = training_step(
            self.forward, batches, self.optimizer, self.config, self.progress.step, self.device, self.team
        )
        flops = sum(self.objective.flops(batch) for batch in batches)
        self.window.add(did, tokens, flops, time.perf_counter() - began)
        self.batches, self.began_at = batches, self.progress.position
        if self.device.type == "cpu":
            self._refuse_many_skipped(self.progress.step + 1)
        self.progress = after

    def _refuse_many_skipped(self, step: int) -> None:
        """Stop where step after step is skipped; weights and the last checkpoint are as they were before."""
        in_a_row = round(float(self.window.skipped_in_a_row))
        if in_a_row < SKIPPED_AT_MOST:
            return
        file = self.output / "skipped_batch.json"
        if distributed.is_first():
            ids = [batch.to_padded(fill=-1).tolist() for batch in self.batches]
            described = {"step": step, "position": asdict(self.began_at), "token_ids": ids}
            file.write_text(json.dumps(described) + "\n", encoding="utf-8")
        raise UserError(
            f"training.lr: {in_a_row} steps in a row had a loss or gradient that is not finite and were "
            f"skipped, up to step {step}, with training.lr={self.config.lr}; a lower rate or a longer "
            f"training.warmup may keep it finite. The last step's batch is in '{file}'."
        )

    def _wait_for_device(self) -> None:
        """Wait for a GPU to finish its steps, and count that as their time."""
        if self.device.type == "cuda":
            began = time.perf_counter()
            torch.cuda.synchronize(self.device)
            self.window.seconds += time.perf_counter() - began

    def _log(self, bar: tqdm) -> None:
        self._wait_for_device()
        if not self.window.steps:
            return
        self._refuse_many_skipped(self.progress.step)  # a GPU is asked only when it is waited for
        metrics = self.window.metrics(self.objective.weights) | {
            "train/learning_rate": self.optimizer.param_groups[0]["lr"],
            "train/epochs": self.progress.epochs,
            "train/tokens": self.progress.tokens,
            "speed/seconds": self._count_time(),
        }
        if self.window.flops:
            metrics["speed/mfu"] = self.window.flops / self.window.seconds / self.matrix_rate
        self.window = Window(self.window.skipped_in_a_row)
        self.tracker.log(self.progress.step, metrics)
        said = f"loss {metrics['train/loss']:.3f}, {metrics['speed/tokens_per_second']:,.0f} tokens/s"
        bar.set_postfix_str(said)
        if bar.disable and time.perf_counter() - self.last_said >= SAY_EVERY:
            self.last_said = time.perf_counter()
            bar.write(f"step {self.progress.step} ({self.progress.share:.0%}): {said}")
        if skipped := metrics["train/skipped_steps"]:
            many = count_of(round(skipped), "step")
            bar.write(f"step {self.progress.step}: {many} skipped, with a loss or gradient that is not finite")

    def _evaluate(self, bar: tqdm) -> None:
        self._wait_for_device()
        began = time.perf_counter()
        self.latest = self.evaluate()
        seconds = time.perf_counter() - began
        self.last_line += seconds
        self.tracker.log(self.progress.step, self.latest | {"speed/evaluation_seconds": seconds})
        shown = ", ".join(f"{name.removeprefix('valid/')} {value:.4g}" for name, value in self.latest.items())
        bar.write(f"step {self.progress.step} ({self.progress.share:.0%}): {shown}")
        equals = None if self.goal.among_equals is None else self.latest[self.goal.among_equals]
        self._note_improvement(equals)
        self._keep_if_best(equals)

    def _note_improvement(self, equals: float | None) -> None:
        """For training.patience, which counts from the best evaluation, whether or not its weights could be written."""
        before = self.seen or (self.progress.best, self.progress.best_among_equals)
        if self.goal.better(self.latest, *before):
            self.seen = (self.latest[self.goal.metric], equals)
            self.progress = replace(self.progress, better_step=self.progress.step)

    def _keep_if_best(self, equals: float | None) -> None:
        """Write the weights to best/ if they beat those that are there."""
        if not self.goal.better(self.latest, self.progress.best, self.progress.best_among_equals):
            return
        best = {"best": self.latest[self.goal.metric], "best_step": self.progress.step, "best_among_equals": equals}
        if self._write(lambda: checkpoint.export(self.objective, self.output / "best", best)):
            self.progress = replace(self.progress, **best)

    def _count_time(self) -> float:
        """The seconds since the last line, without evaluations; those before a stop are in the saved window."""
        now = time.perf_counter()
        self.window.elapsed += now - self.last_line
        self.last_line = now
        return self.window.elapsed

    def _save(self, needed: bool = False) -> None:
        """Write a checkpoint; a failure ends the run if it is `needed`, or as training.save_error says."""
        if self.window.steps:
            self._count_time()
        state = asdict(self.progress) | {"window": self.window.to_json()}
        keep = self.config.keep_checkpoints
        self.tracker.flush()  # a resumed run expects every line up to its checkpoint
        self._write(lambda: checkpoint.save(self.output, self.objective, self.optimizer, state, keep), needed)

    def _write(self, call: Callable[[], object], needed: bool = False) -> bool:
        """Rank 0 writes, the others wait; a failure ends the run or not, as training.save_error says.

        Args:
            call: writes.
            needed: whether a failure ends the run in any case.

        Returns:
            Whether it was written.
        """

        def written() -> bool:
            try:
                call()
            except (OSError, SafetensorError) as error:
                said = f"output: cannot write to '{self.output}': {error}; the last checkpoint is as it was."
                if needed or self.config.save_error == "stop":
                    raise UserError(said) from error
                tqdm.write(f"{said} Going on, as training.save_error says.", file=sys.stderr)
                return False
            return True

        return distributed.from_first(written)

    def _mark_stop(self) -> None:
        """Say in a file that the run ended because it was asked to: under torchrun the exit code cannot."""
        said = f"asked to stop at step {self.progress.step}\n"
        self._write(lambda: (self.output / STOPPED).write_text(said, encoding="utf-8"), needed=True)

    def finish(self) -> dict[str, float]:
        """Write the model to the output's root, and return what was reached."""
        if not self.latest:  # stopped between the last checkpoint and the end of the run
            self.latest = self.evaluate()
            self.tracker.log(self.progress.step, self.latest)
        if self.goal.root == "best" and self.progress.best is not None:
            self._write(lambda: checkpoint.export(self.objective, self.output / "last", {"step": self.progress.step}))
            self.objective.restore(self.output / "best")
        self._write(lambda: self.objective.export(self.output), needed=True)
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
            disable=None if distributed.is_first() else True,
        )

    def _minutes_as_tokens(self) -> Budget:
        """Measure a few steps and one evaluation, undo them, and return how many tokens the minutes allow."""
        seconds = 60 * self.config.minutes
        weights = {name: tensor.clone() for name, tensor in self.objective.state_dict().items()}
        began = time.perf_counter()
        self.evaluate()
        evaluation = time.perf_counter() - began
        fresh, stream = self.progress, self.data(self.progress.position)
        self.progress = replace(fresh, budget=Budget("steps", 10**9))
        self._step(stream)  # the first one warms up
        self._wait_for_device()
        self.window = Window()
        while distributed.from_first(lambda: self.window.steps < 3 or self.window.seconds < min(10, 0.02 * seconds)):
            self._step(stream)
            self._wait_for_device()
        per_step, tokens = self.window.seconds / self.window.steps, self.window.tokens / self.window.steps
        per_step, evaluation = distributed.from_first(lambda: (per_step, evaluation))
        self.objective.load_state_dict(weights)
        self.optimizer.state.clear()
        self.progress, self.window = fresh, Window()
        steps = max(1.0, (seconds - evaluation) / (per_step + evaluation / self.config.eval_every))
        so_many = f"{steps * tokens:,.0f} tokens here (about {steps:,.0f} steps)"
        print(f"training.minutes: {self.config.minutes:g} makes {so_many}")
        return Budget("tokens", int(steps * tokens))
