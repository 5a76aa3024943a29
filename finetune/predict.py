"""Judging and using a fine-tuned model: files in, files out, in constant memory."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
from tqdm import tqdm

from bert.errors import UserError
from bert.training.config import TrainingConfig
from bert.training.device import choose_device
from finetune.config import DataConfig, TaskConfig
from finetune.data import in_order
from finetune.examples import Labelled, Tagged, read, stream
from finetune.formats import FORMATS, Refused
from finetune.launch import evaluator, load
from finetune.tasks.task import Task

_AT_ONCE = 512  # examples


@dataclass(frozen=True)
class EvaluateConfig:
    """Judge a fine-tuned model on a labelled file."""

    data: DataConfig
    """As in training; data.eval is the file."""

    checkpoint: str = "runs/finetune"
    """A folder that fine-tuning left."""

    batch_size: int = 64
    """Sequences at once."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes the GPU where there is one."""


@dataclass(frozen=True)
class PredictConfig:
    """Write what a fine-tuned model says of each text."""

    input: str
    """Texts: one per line in a .txt file; else a table or tagged file like those of training (labels are not read)."""

    output: str
    """A JSONL file: labels with probabilities, or entities as ranges of characters; a line for each text, in order."""

    checkpoint: str = "runs/finetune"
    """A folder that fine-tuning left."""

    format: Literal["auto", "txt", *FORMATS] = "auto"
    """What the input holds; auto goes by its ending."""

    text: str = "text"
    """Tables: the column with the text."""

    text_pair: str | None = None
    """Tables: the column with the second text."""

    batch_size: int = 64
    """Sequences at once."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes the GPU where there is one."""


def evaluate_file(config: EvaluateConfig) -> dict[str, float]:
    """Print a model's classes and scores on data.eval."""
    if config.data.eval is None:
        raise UserError("data.eval: the file to judge the model by is needed.")
    training = TrainingConfig(device=config.device)
    device = choose_device(training)
    task, task_config = load(Path(config.checkpoint))
    examples = read(Path(config.data.eval), task_config, config.data, "data.eval", task.labels)
    print(examples.in_words("data.eval"))
    found = evaluator(task.to(device), examples, config.batch_size, device, training)()
    print(task.report()[0] + "\n")
    print("\n".join(f"  {name.removeprefix('valid/'):<20}  {value:.4f}" for name, value in found.items()))
    return found


def predict_file(config: PredictConfig) -> None:
    """Write predictions, a line for each text; a row that cannot be read is an error with file and line."""
    device = choose_device(TrainingConfig(device=config.device))
    task, task_config = load(Path(config.checkpoint))
    task.to(device)
    target = Path(config.output)
    target.parent.mkdir(parents=True, exist_ok=True)
    examples, total = _texts(config, task_config), 0
    with target.open("w", encoding="utf-8") as file, tqdm(unit=" texts", disable=None) as progress:
        while some := list(islice(examples, _AT_ONCE)):
            for prediction in predict(task, some, config.batch_size, device):
                file.write(json.dumps(prediction, ensure_ascii=False) + "\n")
            total += len(some)
            progress.update(len(some))
    print(f"{total:,} predictions in {target}", file=sys.stderr)


@torch.no_grad()
def predict(task: Task, examples: list[Labelled | Tagged], batch_size: int, device: torch.device) -> list[dict]:
    """What the model says of each example."""
    rows = []
    for batch in in_order(task.features(examples), lambda some: task.pack(some, examples), batch_size):
        rows += task.predict(batch.to(device))
    return task.predictions(examples, rows)


def _texts(config: PredictConfig, task: TaskConfig) -> Iterator[Labelled | Tagged]:
    path = Path(config.input)
    if not path.is_file():
        raise UserError(f"input: no such file: '{path}'.")
    if config.format == "txt" or (config.format == "auto" and path.suffix in (".txt", "")):
        yield from _lines(path, task)
        return
    data = DataConfig(format=config.format, text=config.text, text_pair=config.text_pair)
    for item in stream(path, task, data, "input", labelled=False):
        if isinstance(item, Refused):
            raise UserError(f"{path}:{item.line}: {item.why}.")
        if isinstance(item, Labelled) and task.name == "ner":
            item = Tagged(item.line, item.text, [], None)
        yield item


def _lines(path: Path, task: TaskConfig) -> Iterator[Labelled | Tagged]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            text = line.rstrip("\r\n")
            if not text.strip():
                raise UserError(f"{path}:{number}: the line is empty; a text per line is needed.")
            yield Tagged(number, text, [], None) if task.name == "ner" else Labelled(number, text, None, None)
