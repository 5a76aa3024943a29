"""A fine-tuning run's options: their defaults, and what is wrong with them. No file is read."""

from dataclasses import fields, replace
from operator import attrgetter

from bert.registry import did_you_mean
from bert.training import config as training_config
from bert.training.config import TrainingConfig
from bert.training.metric import is_known
from bert.training.tracking import unfit_names
from finetune import builtin_labels
from finetune.config import DataConfig, FinetuneConfig, TaskConfig
from finetune.example_kinds import KINDS
from finetune.reading import READING
from finetune.tasks import TASKS, kind_of

DEFAULT_EPOCHS, DEFAULT_LR = 3, 1e-4
"""The default budget and peak learning rate."""

OF_PRETRAINING = {
    "training.compile": "",
    "training.batch_tokens": "; fine-tuning has training.batch_size",
    "training.workers": "; fine-tuning has all of its examples at hand",
    "training.eval_sequences": "; fine-tuning evaluates on all of data.eval",
}
"""Training options that fine-tuning does not use, and what it has instead."""


def with_defaults(config: FinetuneConfig) -> FinetuneConfig:
    """The configuration with defaults filled in, including the name of the best metric."""
    training = config.training
    if training.lr is None:
        training = replace(training, lr=DEFAULT_LR)
    if all(getattr(training, name) is None for name in training_config.BUDGETS):
        training = replace(training, epochs=DEFAULT_EPOCHS)
    return replace(config, training=training, best=config.best or TASKS[config.task.name].best)


def check(config: FinetuneConfig) -> list[str]:
    """All that is wrong with the values, a line each."""
    faults = training_config.check(replace(config.training, compile=False)) + _check_task(config) + _check_seeds(config)
    faults += (
        _check_names(config)
        + _check_columns(config.data)
        + [
            f"{name}: {str(value).lower()} was given, but it belongs to pretraining{instead}."
            for name, instead in OF_PRETRAINING.items()
            if (value := attrgetter(name)(config)) != attrgetter(name)(FinetuneConfig())
        ]
    )
    if config.data.train != "builtin" and config.data.eval is None:
        faults.append("data.eval: needed with data.train; the model is evaluated on it after each epoch.")
    if config.data.train == "builtin":
        faults += [
            f"data.{name}: {getattr(config.data, name)!r} was given, but it belongs to a data.train of your own."
            for name in ("eval", "test", "format", *READING)
            if getattr(config.data, name) != getattr(DataConfig(), name)
        ]
    if config.data.train == "builtin" and TASKS[config.task.name].kind not in builtin_labels.MADE:
        faults.append(f"data.train: needed; builtin has nothing for task.name={config.task.name}.")
    if config.data.max_length < 8:
        faults.append(f"data.max_length: {config.data.max_length}, but it must be at least 8.")
    if config.data.overlap is not None and not 0 <= config.data.overlap <= (config.data.max_length - 2) // 2:
        most = f"half of data.max_length={config.data.max_length} less 2"
        faults.append(f"data.overlap: {config.data.overlap}, but it must be at least 0 and at most {most}.")
    known = ("loss", *TASKS[config.task.name].metrics)
    if config.best not in known:
        hint = did_you_mean(config.best, known)
        faults.append(f"best: no metric {config.best!r}; one of {', '.join(known)}{hint}.")
    faults += [
        f"task.name: is more of {name!r} better or less? Give its ending a line in bert/training/metric.py."
        for name in known
        if not is_known(name)
    ]
    if config.init == "none" and config.like is None:
        faults.append("like: needed with init=none: the folder whose tokenizer and model sizes are used.")
    if config.init != "none" and config.like is not None:
        faults.append(f"like: {config.like!r} was given, but it belongs to init=none.")
    if config.init == "none" and config.training.freeze != "nothing":
        faults.append(f"training.freeze: {config.training.freeze!r} would freeze the random weights of init=none.")
    if config.reinit_layers and config.init == "none":
        faults.append(f"reinit_layers: {config.reinit_layers} was given, but with init=none all weights are random.")
    return faults


def _check_columns(data: DataConfig) -> list[str]:
    """A column that is given twice: a text that is its own label would be learned at once."""
    given = [(name, getattr(data, name)) for name in ("text", "text_pair", "label")]
    return [
        f"data.{name}: {column!r} was given, but it is data.{other} too."
        for place, (name, column) in enumerate(given)
        for other, before in given[:place]
        if column is not None and column == before
    ]


def _check_names(config: FinetuneConfig) -> list[str]:
    """User-chosen names that MLflow does not accept in a tag."""
    faults = [f"data.test: {name!r}" for name in unfit_names(config.data.test)]
    return [f"{fault}, but a name may have only letters, digits, spaces and any of . _ -." for fault in faults]


def _check_task(config: FinetuneConfig) -> list[str]:
    """What is wrong with the task's options, and which belong to another task."""
    faults = _foreign_options(config.task)
    for name, belongs in (("text_pair", "pairs"), ("overlap", "windows")):
        value = getattr(config.data, name)
        if value is not None and not getattr(kind_of(config.task), belongs):
            owners = " or ".join(owner for owner, task in TASKS.items() if getattr(KINDS[task.kind], belongs))
            faults.append(f"data.{name}: {value!r} was given, but it belongs to task.name={owners}.")
    return faults + TASKS[config.task.name].check(config)


def _foreign_options(given: TaskConfig) -> list[str]:
    """Options that were given but belong to other tasks."""
    faults = []
    for name in (field.name for field in fields(TaskConfig)):
        value, owners = getattr(given, name), [owner for owner, task in TASKS.items() if name in task.options]
        if owners and given.name not in owners and value != getattr(TaskConfig(), name):
            faults.append(f"task.{name}: {value!r} was given, but it belongs to task.name={' or '.join(owners)}.")
    return faults


def _check_seeds(config: FinetuneConfig) -> list[str]:
    """What is wrong with `seeds`, where there are any."""
    seeds = config.seeds
    faults = training_config.seed_faults("seeds", seeds)
    if len(set(seeds)) < len(seeds):
        faults.append(f"seeds: {seeds}, but each may be given once only.")
    if seeds and config.training.seed != TrainingConfig.seed:
        faults.append(f"training.seed: {config.training.seed} was given, but seeds={seeds} sets it for each run.")
    if seeds and config.accept_changes:
        faults.append("accept_changes: was given, but all runs of `seeds` must have the same options.")
    return faults
