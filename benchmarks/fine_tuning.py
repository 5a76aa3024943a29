"""The same pretrained folder, fine-tuned by us and by transformers' Trainer: scores over seeds, and training time.

    python -m benchmarks.fine_tuning --init runs/original --train nsmc_train.tsv \\
        --eval nsmc_eval.tsv --text document
    python -m benchmarks.fine_tuning --init runs/original --train klue_ner_train.tsv \\
        --eval klue_ner_eval.tsv --task ner --epochs 3

Both have the same rows, tokenizer, linear head, batch size, epochs, dropout, AdamW (fused), weight decay (none on
vectors), clipping and learning rates; the order of the rows, the dropout masks and the head's initial weights are each
side's own, by the seed. The peer is the library's default: AutoModelFor..., sdpa attention, a collator that pads to the
batch's longest. The time is that from texts in memory to trained weights: tokenising counts, evaluation does not. Both
are evaluated after the last epoch by the same code (ours, which loads the peer's weights). Each run has a process of
its own, the peer's with PyTorch's default settings.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.same_work import add_peer_settings, apart, apart_for_peer, device_of_peer, report, spread, take_up
from bert.training.config import TrainingConfig
from bert.training.device import choose_device
from bert.training.goal import Goal
from bert.training.loop import fit
from bert.training.tracking import TrackingConfig, track
from finetune.config import DataConfig, FinetuneConfig, TaskConfig
from finetune.data import Batches
from finetune.example_kinds import Tagged
from finetune.examples import Examples, read
from finetune.features import character_tags
from finetune.judge import evaluator
from finetune.model import build
from finetune.tasks import kind_of

SHOWN = {"classification": ("accuracy", "macro_f1"), "ner": ("entity_micro_f1", "entity_macro_f1", "token_accuracy")}
"""The scores that are reported, by task."""


class Contest:
    """Rows, labels and settings that both sides get."""

    def __init__(self, arguments: argparse.Namespace, device: torch.device | None = None) -> None:
        self.arguments, self.task = arguments, TaskConfig(name=arguments.task)
        self.data = DataConfig(
            arguments.train, arguments.eval, text=arguments.text, label=arguments.label, on_bad_row="skip"
        )
        self.train = read(Path(arguments.train), self.task, self.data, "--train")
        self.labels = kind_of(self.task).labels(self.train.used, self.task)
        self.eval = read(Path(arguments.eval), self.task, self.data, "--eval", self.labels)
        self.device = device or choose_device(self.config(0).training)

    def config(self, seed: int) -> FinetuneConfig:
        """Our configuration; the peer's arguments are made from it."""
        training = TrainingConfig(
            epochs=self.arguments.epochs,
            batch_size=self.arguments.batch_size,
            lr=self.arguments.lr,
            eval_every=10**9,
            save_every=10**9,
            seed=seed,
        )
        return FinetuneConfig(task=self.task, data=self.data, init=self.arguments.init, training=training)

    def judged(self, task) -> dict[str, float]:
        """A model's scores on the evaluation rows."""
        found, _ = evaluator(task, self.eval, 64, self.device)()
        return {name: found[f"valid/{name}"] for name in SHOWN[self.task.name]}


def ours(contest: Contest, seed: int) -> dict[str, float]:
    """Our loop over packed batches; its one evaluation, at the end, is not counted in the time."""
    config, judging = contest.config(seed), []
    task, _ = build(config, contest.labels)
    task.to(contest.device)

    def evaluate_at_the_end() -> dict[str, float]:
        stopped = time.perf_counter()
        scores = contest.judged(task)
        judging.append(time.perf_counter() - stopped)
        return scores

    goal, rows = Goal(SHOWN[contest.task.name][-1], higher_is_better=True, root="best"), contest.train.used
    with tempfile.TemporaryDirectory() as folder, _silent(Path(folder)) as tracker:
        began = time.perf_counter()
        batches = Batches(task.features(rows), lambda some: task.pack(some, rows), config.training.batch_size, 1, seed)
        scores = fit(task, batches, evaluate_at_the_end, config.training, goal, Path(folder), tracker)
        seconds = time.perf_counter() - began - sum(judging)
    return {name: scores[name] for name in SHOWN[contest.task.name]} | {"seconds": seconds}


def theirs(contest: Contest, seed: int) -> dict[str, float]:
    """transformers' Trainer over padded batches."""
    import transformers
    from transformers import Trainer  # here, so that importing it is not timed

    config, names = contest.config(seed), dict(enumerate(contest.labels))
    transformers.set_seed(seed)
    tagged = contest.task.name == "ner"
    kind = transformers.AutoModelForTokenClassification if tagged else transformers.AutoModelForSequenceClassification
    model = kind.from_pretrained(contest.arguments.init, num_labels=len(names), id2label=names)
    tokenizer = transformers.AutoTokenizer.from_pretrained(contest.arguments.init)
    pad = transformers.DataCollatorForTokenClassification if tagged else transformers.DataCollatorWithPadding
    with tempfile.TemporaryDirectory() as folder:
        settings = _trainer_settings(config.training, folder, contest.device)
        began = time.perf_counter()
        rows = _encoded(tokenizer, contest.train, contest.labels, config.data.max_length)
        trainer = Trainer(model, settings, data_collator=pad(tokenizer), train_dataset=rows)
        trainer.train()
        seconds = time.perf_counter() - began
    task, _ = build(config, contest.labels)
    take_up(task, model)
    return contest.judged(task.to(contest.device)) | {"seconds": seconds}


def _silent(folder: Path):
    return track(folder, TrackingConfig(uri="none"), {}, {}, resume=False)


def _trainer_settings(training: TrainingConfig, folder: str, device: torch.device):
    """Our settings by transformers' names."""
    from transformers import TrainingArguments

    on_gpu = device.type == "cuda"
    return TrainingArguments(
        folder,
        num_train_epochs=training.epochs,
        per_device_train_batch_size=training.batch_size,
        learning_rate=training.lr,
        lr_scheduler_type="linear",
        warmup_steps=training.warmup,  # below 1: a share of the steps
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        optim="adamw_torch_fused",
        seed=training.seed,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=not on_gpu,
        bf16=on_gpu,
        dataloader_pin_memory=on_gpu,
    )


def _encoded(tokenizer, examples: Examples, labels: list[str], max_length: int) -> list[dict]:
    """Rows as Trainer takes them; a piece's tag is that of its first character, as in ours."""
    ids = {label: number for number, label in enumerate(labels)}
    found = tokenizer([example.text for example in examples.used], truncation=True, max_length=max_length)
    rows = [{name: values[number] for name, values in found.items()} for number in range(len(examples.used))]
    for number, (row, example) in enumerate(zip(rows, examples.used, strict=True)):
        if isinstance(example, Tagged):
            tags = character_tags(len(example.text), example.entities)
            row["labels"] = [ids[tags[a]] if b > a else -100 for a, b in found.encodings[number].offsets]
        else:
            row["label"] = ids[example.label]
    return rows


def main() -> None:
    """Fine-tune in turn, a round for each seed, and report."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--init", required=True, help="a pretrained folder")
    options.add_argument("--train", required=True, help="labelled rows to train on")
    options.add_argument("--eval", required=True, help="labelled rows to evaluate on")
    options.add_argument("--task", default="classification", choices=SHOWN)
    options.add_argument("--text", help="the column with the text, by default text")
    options.add_argument("--label", help="the column with the label, by default label")
    options.add_argument("--epochs", type=float, default=3)
    options.add_argument("--batch_size", type=int, default=32)
    options.add_argument("--lr", type=float, default=3e-4, help="peak learning rate")
    options.add_argument("--seeds", type=int, default=3, help="at least 2")
    add_peer_settings(options)
    options.add_argument("--json", help="a file for the figures")
    arguments = options.parse_args()
    if arguments.seeds < 2:
        options.error("--seeds: at least 2, for a deviation")
    common = apart(described, arguments)
    found = {"ours": [], "theirs": []}
    for seed in range(arguments.seeds):
        found["ours"].append(apart(measured, "ours", arguments, seed))
        print(f"ours, seed {seed}: {found['ours'][-1]}", flush=True)
        found["theirs"].append(apart_for_peer(arguments, measured, "theirs", arguments, seed))
        print(f"theirs, seed {seed}: {found['theirs'][-1]}", flush=True)
    report(common | figures(arguments.task, found), arguments.json)


def measured(name: str, arguments: argparse.Namespace, seed: int) -> dict[str, float]:
    """A side's scores and seconds."""
    if name == "ours":
        return ours(Contest(arguments), seed)
    return theirs(Contest(arguments, device_of_peer(arguments)), seed)


def described(arguments: argparse.Namespace) -> dict:
    """What every measurement has in common."""
    contest = Contest(arguments)
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "peer_settings": arguments.peer_settings,
        "rows": {"train": len(contest.train.used), "eval": len(contest.eval.used)},
    }


def figures(task: str, found: dict[str, list[dict[str, float]]]) -> dict:
    """Mean and standard deviation of each score over the seeds, and the times round by round."""
    scores = {
        f"{score}_{name}": f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"
        for score in SHOWN[task]
        for name, of_seeds in found.items()
        for values in [[one[score] for one in of_seeds]]
    }
    seconds = {name: [one["seconds"] for one in of_seeds] for name, of_seeds in found.items()}
    return {
        **scores,
        "seconds": spread(seconds["ours"]),
        "seconds_peer": spread(seconds["theirs"]),
        "ratio": spread([a / b for a, b in zip(seconds["ours"], seconds["theirs"], strict=True)]),
        "rounds": found,
    }


if __name__ == "__main__":
    main()
