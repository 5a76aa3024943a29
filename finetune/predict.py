"""The verbs evaluate and predict: files in, files out; texts to predict on are read a few at a time."""

import json
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

import torch

from bert import whole_file
from bert.counting import count_of
from bert.errors import UserError, refuse_if
from bert.progress import progress
from bert.training import identity
from bert.training.config import TrainingConfig
from bert.training.device import choose_device
from finetune import standard_streams, unlabelled
from finetune.config import DataConfig, EvaluateConfig, PredictConfig
from finetune.examples import read
from finetune.judge import evaluator, predict, write_findings
from finetune.metrics import score_table
from finetune.model import load
from finetune.reading import as_in_training, taken_from_training
from finetune.tasks import kind_of
from finetune.tasks.task import Task
from finetune.unlabelled import Unlabelled

OF_TRAINING = ("data.train", "data.max_length", "data.overlap", "data.test")
"""Data options that evaluating a finished model does not use."""


def evaluate_file(config: EvaluateConfig) -> dict[str, float]:
    """Print a model's class table and scores on data.eval."""
    if config.data.eval is None:
        raise UserError("data.eval: the file to evaluate the model on is needed.")
    refuse_if(
        [
            f"{name}: {value!r} was given, but it belongs to training."
            for name in OF_TRAINING
            if (value := attrgetter(name)(config)) != attrgetter(name)(EvaluateConfig(DataConfig()))
        ]
        + _size_faults(config)
    )
    if config.output is not None and (Path(config.output) / identity.OPTIONS).is_file():
        raise UserError(f"output: '{config.output}' holds a run, which has results of its own. Use another folder.")
    task, device = _opened(config)
    if config.scheme is not None and "scheme" not in task.options:
        raise UserError(
            f"scheme: {config.scheme!r} was given, but it belongs to ner; the model's task is {task.task.name}."
        )
    data = as_in_training(config.data, task.read_as, task.task, Path(config.data.eval), "data.")
    if said := taken_from_training(config.data, data):
        print(f"data.eval: read as in training: {said}")
    how = task.task if config.scheme is None else replace(task.task, scheme=config.scheme)
    examples = read(Path(config.data.eval), how, data, "data.eval", task.labels)
    print(examples.in_words("data.eval"))
    if unreachable := kind_of(task.task).out_of_reach(examples.used, task.labels):
        print(f"data.eval: WARNING: {unreachable}")
    found, findings = evaluator(task, examples, config.batch_size, device)()
    scores = {name.removeprefix("valid/"): value for name, value in found.items()}
    print(f"\n{score_table(scores)}")
    if config.output is not None:
        folder = Path(config.output)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / identity.RESULT).write_text(identity.metrics_as_text(found), encoding="utf-8")
        write_findings(task, findings, folder)
    return found


def predict_file(config: PredictConfig) -> None:
    """Write predictions, a line for each text; an unreadable one is an error with file and line, or left out."""
    refuse_if(_size_faults(config) + unlabelled.check(config) + _output_faults(config))
    with redirect_stdout(sys.stderr):  # only predictions may go to standard output
        task, device = _opened(config)
    texts = Unlabelled(config, task)
    lines = (
        json.dumps({"line": text.line} | prediction, ensure_ascii=False)
        for some in texts
        for text, prediction in zip(some, predict(task, some, config.batch_size, device), strict=True)
    )
    if config.output in (None, standard_streams.NAME):
        said = f"{count_of(standard_streams.write_lines(lines), 'prediction')}"
    else:
        written = _write_file(Path(config.output), lines, texts.total)
        said = f"{count_of(written, 'prediction')} in {config.output}"
    print(f"{said}{texts.in_words()}", file=sys.stderr)


def _opened(config: EvaluateConfig | PredictConfig) -> tuple[Task, torch.device]:
    """The model, on its device."""
    task = load(config.checkpoint)
    task.precision = config.precision or task.precision
    if config.no_answer_threshold is not None:
        _refuse_idle_threshold(config, task)
        task.task = replace(task.task, no_answer_threshold=config.no_answer_threshold)
    device = choose_device(TrainingConfig(device=config.device, precision=task.precision))
    return task.to(device), device


def _refuse_idle_threshold(config: EvaluateConfig | PredictConfig, task: Task) -> None:
    """Refuse no_answer_threshold where it would change nothing."""
    given = f"no_answer_threshold: {config.no_answer_threshold} was given"
    if "no_answer_threshold" not in task.options:
        belongs = f"it belongs to question_answering; the model's task is {task.task.name}"
        raise UserError(f"{given}, but {belongs}.")
    if not task.may_be_silent:
        trained = f"'{config.checkpoint}' was trained on questions that all have an answer"
        raise UserError(f"{given}, but {trained}, so it always gives one.")


def _size_faults(config: EvaluateConfig | PredictConfig) -> list[str]:
    return [] if config.batch_size >= 1 else [f"batch_size: {config.batch_size}, but it must be at least 1."]


def _output_faults(config: PredictConfig) -> list[str]:
    if unlabelled.is_streamed(config):
        return []
    if config.output is None:
        return ["output: a JSONL file for the predictions is needed, or - for standard output."]
    if Path(config.output).resolve() == Path(config.input).resolve():
        return [f"output: '{config.output}' is the input."]
    return []


def _write_file(target: Path, lines: Iterator[str], total: int | None) -> int:
    """Write lines to a file that appears only when complete; returns how many. `total` is for the progress bar."""
    written = 0
    with whole_file.replacing(target) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        for line in progress(lines, total=total, unit=" texts"):
            file.write(f"{line}\n")
            written += 1
    return written
