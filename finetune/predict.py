"""The verbs evaluate and predict: files in, files out, in constant memory."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from bert.errors import UserError, refuse_if
from bert.training.config import TrainingConfig
from bert.training.device import choose_device
from finetune.config import DataConfig, TaskConfig
from finetune.examples import Labelled, Tagged, read, stream, unlabelled
from finetune.formats import FORMATS, Refused, numbered_lines
from finetune.judge import evaluator, predict, write_classes
from finetune.model import load

_AT_ONCE = 512  # examples


@dataclass(frozen=True)
class EvaluateConfig:
    """Judge a fine-tuned model on a labelled file."""

    data: DataConfig
    """As in training; data.eval is the file."""

    checkpoint: str = "runs/finetune"
    """A folder that fine-tuning left."""

    output: str | None = None
    """A folder for metrics.json, classes.json and the confusion matrix; by default they are only printed."""

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
    refuse_if(
        [
            f"data.{name}: {getattr(config.data, name)!r} was given, but it belongs to training."
            for name in ("train", "max_length")
            if getattr(config.data, name) != getattr(DataConfig, name)
        ]
    )
    training = TrainingConfig(device=config.device)
    device = choose_device(training)
    task = load(config.checkpoint)
    examples = read(Path(config.data.eval), task.task, config.data, "data.eval", task.labels)
    print(examples.in_words("data.eval"))
    found = evaluator(task.to(device), examples, config.batch_size, device, training)()
    print("\n" + "\n".join(f"  {name.removeprefix('valid/'):<20}  {value:.4f}" for name, value in found.items()))
    if config.output is not None:
        folder = Path(config.output)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        write_classes(task, folder)
    return found


def predict_file(config: PredictConfig) -> None:
    """Write predictions, a line for each text; a row that cannot be read is an error with file and line."""
    device = choose_device(TrainingConfig(device=config.device))
    task = load(config.checkpoint).to(device)
    target, total = Path(config.output), 0
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.unfinished")
    texts = _texts(config, task.task)
    with unfinished.open("w", encoding="utf-8") as file, tqdm(unit=" texts", disable=None) as progress:
        while some := list(islice(texts, _AT_ONCE)):
            for prediction in predict(task, some, config.batch_size, device):
                file.write(json.dumps(prediction, ensure_ascii=False) + "\n")
            total += len(some)
            progress.update(len(some))
    unfinished.replace(target)
    print(f"{total:,} predictions in {target}", file=sys.stderr)


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
        yield unlabelled(task, item.line, item.text, item.text_pair) if isinstance(item, Labelled) else item


def _lines(path: Path, task: TaskConfig) -> Iterator[Labelled | Tagged]:
    for number, text in numbered_lines(path):
        if not text.strip():
            raise UserError(f"{path}:{number}: the line is empty; a text per line is needed.")
        yield unlabelled(task, number, text)
