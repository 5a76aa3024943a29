"""From a FinetuneConfig to a finished run: files, features, loop, report."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import torch

from bert import hub
from bert.errors import UserError, refuse_if
from bert.registry import did_you_mean
from bert.training import checkpoint, distributed, identity, lock, provenance
from bert.training import config as training_config
from bert.training.device import choose_device
from bert.training.loop import Goal, fit
from bert.training.tracking import Tracker, track
from finetune import builtin_labels
from finetune.config import DataConfig, FinetuneConfig, TaskConfig
from finetune.data import Batches
from finetune.examples import Examples, labels_of, read
from finetune.features import Feature
from finetune.judge import CLASSES, CONFUSION, evaluator, predict, write_classes
from finetune.model import build, load
from finetune.tasks import TASKS
from finetune.tasks.task import Task

DEFAULT_EPOCHS, DEFAULT_LR = 3, 1e-4
"""The budget of a run that was given none, and its peak learning rate."""

# Options that change nothing in the result, so that a run may be resumed with others.
FREE = (
    "tracking.",
    "output",
    "accept_changes",
    "training.workers",
    "training.keep_checkpoints",
    "training.profile",
    "training.gradient_checkpointing",
)


def train(config: FinetuneConfig) -> dict[str, float] | None:
    """Run, resume or decline a fine-tuning run, and print what it reached.

    Returns:
        The metrics that metrics.json holds; None where the output was finished before.

    Raises:
        UserError: anything the person can put right.
        Stopped: a signal asked to stop.
    """
    config = with_defaults(config)
    refuse_if(check(config))
    device = choose_device(config.training)
    with lock.hold(Path(config.output)):
        return _continue(config, device)


def _continue(config: FinetuneConfig, device: torch.device) -> dict[str, float] | None:
    output = Path(config.output)
    with distributed.first_alone():
        data = builtin_labels.files(config.task) if config.data.train == "builtin" else config.data
    train_set = read(Path(data.train), config.task, data, "data.train")
    labels = labels_of(train_set.used)
    _refuse_one_class(labels, train_set)
    eval_set = read(Path(data.eval), config.task, data, "data.eval", labels)
    print(train_set.in_words("data.train"), eval_set.in_words("data.eval"), sep="\n")
    if shared := train_set.shared_with(eval_set):
        print(f"data.eval: {shared:,} of its {len(eval_set.used):,} texts are in data.train too")
    facts = {"train": _fingerprint(train_set), "eval": _fingerprint(eval_set)}
    state = distributed.from_first(
        lambda: identity.state_of(output, asdict(config), facts, FREE, tuple(config.accept_changes))
    )
    if state == "finished":
        print(f"'{output}' is finished: nothing to do. Its figures are in {output / 'metrics.json'}.")
        return None
    return _run(config, train_set, eval_set, facts, device, resume=state == "unfinished")


def with_defaults(config: FinetuneConfig) -> FinetuneConfig:
    """The configuration with the defaults where nothing was given, and its best metric by name."""
    training = config.training
    if training.lr is None:
        training = replace(training, lr=DEFAULT_LR)
    if all(getattr(training, name) is None for name in training_config.BUDGETS):
        training = replace(training, epochs=DEFAULT_EPOCHS)
    return replace(config, training=training, best=config.best or TASKS[config.task.name].best)


def check(config: FinetuneConfig) -> list[str]:
    """All that is wrong with the values, a line each."""
    faults = training_config.check(config.training)
    if config.data.train != "builtin" and config.data.eval is None:
        faults.append("data.eval: needed beside data.train; the model is judged by it after each epoch.")
    if config.data.train == "builtin":
        faults += [
            f"data.{name}: {getattr(config.data, name)!r} was given, but it belongs to a data.train of your own."
            for name in ("eval", "format", "text", "text_pair", "label")
            if getattr(config.data, name) != getattr(DataConfig, name)
        ]
    if config.data.max_length < 8:
        faults.append(f"data.max_length: {config.data.max_length}, but it must be at least 8.")
    known = ("loss", *TASKS[config.task.name].metrics)
    if config.best not in known:
        hint = did_you_mean(config.best, known)
        faults.append(f"best: no metric {config.best!r}; one of {', '.join(known)}{hint}.")
    if config.init == "none" and config.like is None:
        faults.append("like: needed with init=none: the folder whose tokenizer and model sizes are used.")
    if config.init != "none" and config.like is not None:
        faults.append(f"like: {config.like!r} was given, but it belongs to init=none.")
    if config.task.name != "ner":
        for name in ("head", "unit", "scheme"):
            value = getattr(config.task, name)
            if value != getattr(TaskConfig, name):
                faults.append(f"task.{name}: {value!r} was given, but it belongs to task.name=ner.")
    elif config.data.text_pair is not None:
        given = config.data.text_pair
        faults.append(f"data.text_pair: {given!r} was given, but it belongs to task.name=classification.")
    return faults


def _refuse_one_class(labels: list[str], examples: Examples) -> None:
    if len(labels) < 2:
        raise UserError(
            f"data.train: every row of '{examples.path}' has the label {labels[0]!r}; nothing can be learned."
        )


def _fingerprint(examples: Examples) -> str:
    return provenance.fingerprint(repr(example) for example in examples.used)


def _run(
    config: FinetuneConfig,
    train_set: Examples,
    eval_set: Examples,
    facts: dict[str, str],
    device: torch.device,
    resume: bool,
) -> dict[str, float]:
    output, training = Path(config.output), config.training
    task = _start(config, labels_of(train_set.used), resume).to(device)
    features = task.features(train_set.used)
    if not features:
        raise UserError(f"data.train: the tokenizer of '{config.init}' leaves nothing of any text in it.")
    print(_in_words(task, train_set, features))
    size = training_config.micro_batch_size(training)
    batches = Batches(features, lambda some: task.pack(some, train_set.used), size, training.seed)
    if training.eval_every is None:
        training = replace(training, eval_every=-(-batches.per_epoch // training_config.micro_batches(training)))
    if distributed.is_first():
        identity.claim(output, asdict(config), facts)
    tags = provenance.tags(device) | {name: value[:16] for name, value in facts.items()} | _TABLE_TAG
    tags |= {} if config.init == "none" else provenance.parent(Path(config.init))
    with track(output, config.tracking, asdict(config), tags, resume) as tracker:
        evaluate_now = evaluator(task, eval_set, size, device, training)
        goal = Goal(f"valid/{config.best}", higher_is_better=config.best != "loss", root="best")
        result = fit(task, batches, evaluate_now, training, goal, output, tracker)
        print(f"\nthe best by {config.best}, of step {result['best_step']}:")
        result |= evaluate_now()  # the root holds the best weights: what they reach, not what the last did
        if distributed.is_first():
            identity.finish(output, result)
            _leave_artifacts(output, task, tracker)
    if distributed.is_first():
        _print_report(config, result, task, eval_set, device)
    return result


def _start(config: FinetuneConfig, labels: list[str], resume: bool) -> Task:
    """A run's model as it begins; that of its newest checkpoint where it goes on, for `init` may be gone by then."""
    newest = checkpoint.newest(Path(config.output)) if resume else None
    if newest is not None:
        return load(str(newest), config.training.attention, config.training.gradient_checkpointing)
    task, said = build(config, labels)
    print(said)
    return task


def _in_words(task: Task, examples: Examples, features: list[Feature]) -> str:
    lengths = sorted(len(feature.token_ids) for feature in features)
    said = f"{len(features):,} sequences of {lengths[len(lengths) // 2]} tokens (median), {lengths[-1]} at most"
    if cut := sum(feature.cut > 0 for feature in features):
        said += f"; {cut:,} texts are cut to data.max_length={task.max_length}"
    if more := len(features) - len({feature.example for feature in features}):
        said += f"; {more:,} of them go on with a text longer than data.max_length={task.max_length}"
    if empty := len(examples.used) - len({feature.example for feature in features if len(feature.token_ids) > 2}):
        said += f"; {empty:,} texts have no token at all"
    if task.task.name == "ner":
        ceiling = task.ceiling(examples.used, features)
        said += f"; tagging every {task.task.unit} right would reach entity_micro_f1 {ceiling:.3f}"
    return said


_TABLE_TAG = {"mlflow.loggedArtifacts": json.dumps([{"path": CLASSES, "type": "table"}])}
"""By this tag the MLflow UI shows the file as a table."""


def _leave_artifacts(output: Path, task: Task, tracker: Tracker) -> None:
    write_classes(task, output)
    for name in ("run.yaml", "metrics.json", CLASSES, CONFUSION):
        tracker.artifact(output / name)
    for name in (*hub.FILES, "heads.safetensors"):
        if (output / name).is_file():
            tracker.artifact(output / name, "model")


def _print_report(
    config: FinetuneConfig, result: dict[str, float], task: Task, eval_set: Examples, device: torch.device
) -> None:
    shown = [name for name in result if name.startswith("valid/")]
    width = max(map(len, shown))
    print("\n" + "\n".join(f"  {name:<{width}}  {result[name]:.4f}" for name in shown))
    print("\nthe first texts of data.eval:")
    for prediction in predict(task.eval(), eval_set.used[:3], 3, device):
        said = task.in_words(prediction)
        print(f"  {said[:200]}{'...' if len(said) > 200 else ''}")
    print(f"\nmodel and figures:  {config.output}")
    print(f"confusion matrix:   {config.output}/{CONFUSION}")
    print(f"use it:             python run_finetune.py predict --checkpoint {config.output} --input FILE --output FILE")
