"""Wall time to a validation masked-LM loss a given gain below the unigram cross-entropy, ours and transformers'.

    python -m benchmarks.time_to_loss --text ko_corpus_small.txt

Ours is the loop (`fit`) with its sampler. The peer is transformers' Trainer with BertForPreTraining; it is given the
same batches in the same order, sampled before its clock starts, and pads each to its longest sequence. Both have the
same initial weights, dropout (with another seed in each round), AdamW (fused), clipping and learning rates. Every
`eval_every` steps both are evaluated on the same frozen batches by the same code (ours, which loads the peer's
weights); both clocks stop meanwhile. Each run has a process of its own, with the machine to itself, the peer's with
PyTorch's default settings.
"""

import tempfile
import time
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch.utils.data import IterableDataset

from benchmarks.same_work import (
    Work,
    apart,
    apart_for_peer,
    described,
    device_of_peer,
    padded,
    parser,
    prepare_again,
    prepare_for_peer,
    report,
    spread,
    take_up,
)
from bert.packed import PackedBatch
from bert.training.device import autocast, product_type
from bert.training.evaluation import evaluate
from bert.training.goal import Goal
from bert.training.loop import fit
from bert.training.optim import build_optimizer
from bert.training.position import Position
from bert.training.schedule import SCHEDULES
from bert.training.tracking import TrackingConfig, track
from pretrain.objectives.masked_lm import MaskedLM
from pretrain.stream import Stream
from pretrain.validation import build_validation


class Reached(Exception):
    """The target loss is reached."""


class Judge:
    """Says when the loss is reached; its clock stops during evaluations.

    Attributes:
        target: the loss to reach, in nats.
        curve: steps, seconds and loss at each evaluation.
    """

    def __init__(self, work: Work, gain: float, every: int) -> None:
        validation = build_validation(work.config, work.text)
        self.batches, self.target = validation.masked["token"], validation.unigram_cross_entropy - gain
        self.work, self.every = work, every
        self.start()

    def start(self) -> None:
        """Start over, from zero seconds."""
        self.curve: list[tuple[int, float, float]] = []
        self.began = time.perf_counter()

    def __call__(self, objective: MaskedLM) -> dict[str, float]:
        """Evaluate a model; raises Reached where it is good enough."""
        stopped = time.perf_counter()
        precision = autocast(self.work.config.training.precision, self.work.device)
        means, _ = evaluate(objective, self.batches, self.work.device, precision)
        loss = means["masked_lm_loss"]
        self.curve.append((self.every * (len(self.curve) + 1), stopped - self.began, loss))
        print(f"  step {self.curve[-1][0]}, {self.curve[-1][1]:.1f} s: {loss:.3f}", flush=True)
        if loss <= self.target:
            raise Reached
        self.began += time.perf_counter() - stopped
        return {"valid/masked_lm_loss": loss}


def ours(work: Work, judge: Judge, seed: int) -> None:
    """Our loop, from the initial weights until the loss is reached."""
    objective, stream = work.ours(), Stream(work.sampler, 0)
    training = replace(work.config.training, seed=seed)
    goal = Goal("valid/masked_lm_loss", higher_is_better=False, root="last")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder)
        try:
            with track(output, TrackingConfig(uri="none"), {}, {}, resume=False) as tracker:
                judge.start()
                fit(objective, stream, lambda: judge(objective), training, goal, output, tracker)
        except Reached:
            return


def theirs(work: Work, judge: Judge, seed: int, attention: str) -> None:
    """transformers' Trainer, likewise."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    training, twin = work.config.training, work.ours()

    class Judging(TrainerCallback):
        def on_step_end(self, args, state, control, model, **_) -> None:
            if state.global_step % judge.every == 0:
                take_up(twin, model)
                judge(twin)

    model = work.theirs(attention)
    optimizer = build_optimizer(model, training)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            seed=seed,
            max_steps=training.steps,
            per_device_train_batch_size=1,  # an item of the data is a whole batch
            max_grad_norm=training.max_grad_norm,
            remove_unused_columns=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=work.device.type == "cpu",
            bf16=product_type(training.precision, work.device) is torch.bfloat16,
            dataloader_pin_memory=work.device.type == "cuda",
        )
        trainer = Trainer(
            model,
            arguments,
            data_collator=lambda items: padded(items[0]),
            train_dataset=Sampled(work),
            optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(training, step))),
            callbacks=[Judging()],
        )
        judge.start()
        try:
            trainer.train()
        except Reached:
            return


class Sampled(IterableDataset):
    """The batches of our loop in their order, sampled on construction."""

    def __init__(self, work: Work) -> None:
        stream = Stream(work.sampler, 0)(Position())
        self.batches: list[PackedBatch] = [batch for batch, _ in islice(stream, work.config.training.steps)]

    def __iter__(self):
        return iter(self.batches)


def rate(training, step: int) -> float:
    """Our loop's factor of the learning rate: that at the middle of the step."""
    return SCHEDULES[training.schedule]((step + 0.5) / training.steps, training.warmup)


def main() -> None:
    """Measure in turn and report."""
    options = parser(__doc__)
    options.set_defaults(preset="tiny", vocab_size=8000, max_length=64, batch_size=32)
    options.add_argument("--lr", type=float, default=2e-3, help="peak learning rate")
    options.add_argument("--steps", type=int, default=2000, help="the schedule's budget, and the most steps taken")
    options.add_argument("--eval_every", type=int, default=50, help="steps between two evaluations")
    options.add_argument("--gain", type=float, default=0.5, help="nats below the unigram cross-entropy to reach")
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--peer_attention", default="sdpa", help="eager, or sdpa (the library's default)")
    arguments = options.parse_args()
    common = apart(described, arguments)
    curves = {"ours": [], "theirs": []}
    for seed in range(arguments.rounds):
        print("ours:", flush=True)
        curves["ours"].append(apart(curve, "ours", arguments, seed))
        print("theirs:", flush=True)
        curves["theirs"].append(apart_for_peer(arguments, curve, "theirs", arguments, seed))
    report(figures(arguments, common, curves), arguments.json)


@dataclass(frozen=True)
class Curve:
    """One side's path to the loss: steps, seconds and loss at each evaluation."""

    points: list[tuple[int, float, float]]
    target: float


def curve(name: str, arguments, seed: int) -> Curve:
    """One side's path to the loss, from the initial weights."""
    device = None if name == "ours" else device_of_peer(arguments)
    work = with_training(prepare_again(arguments, device), arguments)
    judge = Judge(work, arguments.gain, arguments.eval_every)
    if name == "ours":
        ours(work, judge, seed)
    else:
        theirs(with_training(prepare_for_peer(arguments), arguments), judge, seed, arguments.peer_attention)
    if judge.curve[-1][2] > judge.target:
        raise SystemExit(f"{name}: {arguments.steps} steps end above {judge.target:.3f}; give more --steps.")
    return Curve(judge.curve, judge.target)


def with_training(work: Work, arguments) -> Work:
    """The work with the rates and steps of this benchmark, and no checkpoint on the way."""
    given = {"lr": arguments.lr, "steps": arguments.steps, "eval_every": arguments.eval_every}
    training = replace(work.config.training, **given, save_every=10**9)
    return replace(work, config=replace(work.config, training=training))


def figures(arguments, common: dict, curves: dict[str, list[Curve]]) -> dict:
    """Times to the target, and their ratio round by round."""
    ends = {name: [one.points[-1] for one in of_rounds] for name, of_rounds in curves.items()}  # steps, seconds, loss
    seconds = {name: [end[1] for end in of_rounds] for name, of_rounds in ends.items()}
    of_a_step = {name: [end[1] / end[0] for end in of_rounds] for name, of_rounds in ends.items()}
    return common | {
        "lr": arguments.lr,
        "steps_of_the_schedule": arguments.steps,
        "peer": f"transformers Trainer, BertForPreTraining, {arguments.peer_attention}, dynamic padding",
        "target_loss": curves["ours"][0].target,
        "steps": {name: [end[0] for end in of_rounds] for name, of_rounds in ends.items()},
        "loss": {name: [end[2] for end in of_rounds] for name, of_rounds in ends.items()},
        "seconds": spread(seconds["ours"]),
        "seconds_peer": spread(seconds["theirs"]),
        "ratio_of_a_step": spread(_ratios(of_a_step)),
        "ratio": spread(_ratios(seconds)),
        "curves": {name: [one.points for one in of_rounds] for name, of_rounds in curves.items()},
    }


def _ratios(of_each: dict[str, list[float]]) -> list[float]:
    return [a / b for a, b in zip(of_each["ours"], of_each["theirs"], strict=True)]


if __name__ == "__main__":
    main()
