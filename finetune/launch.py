"""From a FinetuneConfig to a finished run: files, features, model, loop, report."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch

from bert import hub, tokenizer
from bert.errors import UserError, refuse_if
from bert.training import config as training_config
from bert.training import identity, provenance
from bert.training.device import autocast, choose_device, seed_torch
from bert.training.evaluation import evaluate
from bert.training.loop import Goal, fit
from bert.training.tracking import Tracker, track
from finetune import builtin_labels, pictures
from finetune.config import FinetuneConfig, TaskConfig
from finetune.data import Batches, in_order
from finetune.examples import Examples, Tagged, labels_of, read
from finetune.tasks import TASKS
from finetune.tasks.task import Task

# Options that change nothing in the result, so that a run may be resumed with others.
FREE = ("tracking.", "output", "training.workers", "training.keep_checkpoints")


def train(config: FinetuneConfig) -> dict[str, float] | None:
    """Run, resume or decline a fine-tuning run, and print what it reached.

    Returns:
        The metrics that metrics.json holds; None where the output was finished before.

    Raises:
        UserError: anything the person can put right.
        Stopped: a signal asked to stop.
    """
    refuse_if(check(config))
    output, device = Path(config.output), choose_device(config.training)
    data = builtin_labels.files(config.task) if config.data.train == "builtin" else config.data
    train_set = read(Path(data.train), config.task, data, "data.train")
    labels = labels_of(train_set.used)
    _refuse_one_class(labels, train_set)
    eval_set = read(Path(data.eval), config.task, data, "data.eval", labels)
    print(train_set.in_words("data.train"), eval_set.in_words("data.eval"), sep="\n")
    facts = {"train": _fingerprint(train_set), "eval": _fingerprint(eval_set)}
    state = identity.state_of(output, asdict(config), facts, FREE)
    if state == "finished":
        print(f"'{output}' is finished: nothing to do. Its figures are in {output / 'metrics.json'}.")
        return None
    return _run(config, train_set, eval_set, facts, device, resume=state == "unfinished")


def check(config: FinetuneConfig) -> list[str]:
    """All that is wrong with the values, a line each."""
    faults = training_config.check(config.training)
    if config.data.train != "builtin" and config.data.eval is None:
        faults.append("data.eval: needed beside data.train; the model is judged by it after each epoch.")
    if config.data.max_length < 8:
        faults.append(f"data.max_length: {config.data.max_length}, but it must be at least 8.")
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
        faults.append(
            f"data.text_pair: {config.data.text_pair!r} was given, but it belongs to task.name=classification."
        )
    return faults


def _refuse_one_class(labels: list[str], examples: Examples) -> None:
    if len(labels) < 2:
        raise UserError(
            f"data.train: every row of '{examples.path}' has the label {labels[0]!r}; nothing can be learned."
        )


def _fingerprint(examples: Examples) -> str:
    return provenance.fingerprint(repr(example) for example in examples.used)


def build(config: FinetuneConfig, labels: list[str]) -> tuple[Task, str]:
    """The model, from a folder or from random weights, and what was taken from where."""
    folder = Path(config.like if config.init == "none" else config.init)
    argument = "like" if config.init == "none" else "init"
    if not folder.is_dir():
        raise UserError(f"{argument}: no such folder: '{folder}'.")
    model, _ = hub.load_config(folder)
    if config.data.max_length > model.max_position_embeddings:
        raise UserError(
            f"data.max_length: {config.data.max_length}, but the model of '{folder}' reads "
            f"{model.max_position_embeddings} tokens at most."
        )
    seed_torch(config.training.seed)
    task = TASKS[config.task.name](
        model, tokenizer.load(folder), labels, config.task, config.data.max_length, config.training.attention
    )
    if config.init == "none":
        return task, f"random weights, with the sizes and the tokenizer of {folder}"
    return task, task.start_from(folder)


def load(folder: Path) -> tuple[Task, TaskConfig]:
    """A fine-tuned model.

    Raises:
        UserError: the folder holds none of this project's.
    """
    if not folder.is_dir():
        raise UserError(f"checkpoint: no such folder: '{folder}'.")
    model, described = hub.load_config(folder)
    if "bert_research" not in described:
        raise UserError(f"checkpoint: '{folder}' holds a model, but none that was fine-tuned by this project.")
    task_config = TaskConfig(**described["bert_research"]["task"])
    names = described["id2label"]
    labels = [names[str(number)] for number in range(len(names))]
    task = TASKS[task_config.name](
        model, tokenizer.load(folder), labels, task_config, described["bert_research"]["max_length"]
    )
    task.restore(folder)
    return task.eval(), task_config


def _run(
    config: FinetuneConfig,
    train_set: Examples,
    eval_set: Examples,
    facts: dict[str, str],
    device: torch.device,
    resume: bool,
) -> dict[str, float]:
    output, training = Path(config.output), config.training
    task, said = build(config, labels_of(train_set.used))
    task.to(device)
    print(said)
    size = training_config.micro_batch_size(training)
    features = task.features(train_set.used)
    batches = Batches(features, lambda some: task.pack(some, train_set.used), size, training.seed)
    print(_in_words(task, train_set, features))
    if training.eval_every is None:
        steps = -(-batches.per_epoch // training_config.micro_batches(training))
        training = replace(training, eval_every=max(1, steps))
    best = config.best or task.best
    identity.claim(output, asdict(config), facts)
    tags = provenance.tags(device) | {name: value[:16] for name, value in facts.items()}
    tags |= {} if config.init == "none" else provenance.parent(Path(config.init))
    with track(output, config.tracking, asdict(config), tags, resume) as tracker:
        evaluate_now = evaluator(task, eval_set, size, device, training)
        result = fit(task, batches, evaluate_now, training, _goal(best, task, evaluate_now), output, tracker)
        # The root holds the best weights: say what they reach, not what the last did.
        result |= evaluate_now()
        identity.finish(output, result)
        _leave_artifacts(output, task, tracker)
    _print_report(config, result, task)
    return result


def evaluator(
    task: Task, examples: Examples, size: int, device: torch.device, training: training_config.TrainingConfig
) -> Callable[[], dict[str, float]]:
    """Judges the task on examples when called, and prints its classes."""
    features = task.features(examples.used)

    def run() -> dict[str, float]:
        task.judged = examples.used
        batches = in_order(features, lambda some: task.pack(some, examples.used), size)
        found = evaluate(task, batches, device, autocast(training, device))
        return {f"valid/{name}": value for name, value in found.items()}

    return run


def _goal(best: str, task: Task, evaluate_now: Callable[[], dict[str, float]]) -> Goal:
    names = [name.removeprefix("valid/") for name in evaluate_now()]
    if best not in names:
        raise UserError(f"best: no metric {best!r}; one of {', '.join(names)}.")
    return Goal(f"valid/{best}", higher_is_better=best != "loss", root="best")


def _in_words(task: Task, examples: Examples, features: list) -> str:
    lengths = sorted(len(feature.token_ids) for feature in features)
    cut = sum(feature.cut > 0 for feature in features)
    said = f"{len(features):,} sequences of {lengths[len(lengths) // 2]} tokens (median), {lengths[-1]} at most"
    if isinstance(examples.used[0], Tagged):
        said += f"; tagging every unit right would reach entity_micro_f1 {task.ceiling(examples.used):.3f}"
    return f"{said}; {cut:,} texts are cut to data.max_length={task.max_length}" if cut else said


def _leave_artifacts(output: Path, task: Task, tracker: Tracker) -> None:
    _, table = task.report()
    columns = {
        name: {"precision": c.precision, "recall": c.recall, "f1": c.f1, "support": c.support}
        for name, c in table.items()
    }
    (output / "classes.json").write_text(json.dumps(columns, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    pictures.confusion(task.confusion, task.labels, output / "confusion_matrix.png")
    for name in ("run.yaml", "metrics.json", "classes.json", "confusion_matrix.png"):
        tracker.artifact(output / name)
    for name in (*hub.FILES, "heads.safetensors"):
        if (output / name).is_file():
            tracker.artifact(output / name, "model")


def _print_report(config: FinetuneConfig, result: dict[str, float], task: Task) -> None:
    shown = [name for name in result if name.startswith("valid/")]
    width = max(map(len, shown))
    print("\n" + task.report()[0] + "\n")
    print("\n".join(f"  {name:<{width}}  {result[name]:.4f}" for name in shown))
    print(f"\nmodel and figures (the weights of step {result['best_step']}):  {config.output}")
    print(f"confusion matrix:  {config.output}/confusion_matrix.png")
    print(f"try it:            python run_finetune.py predict --checkpoint {config.output} --input FILE --output FILE")
