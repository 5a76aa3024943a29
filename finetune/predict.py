"""The verbs evaluate and predict: files in, files out, in constant memory."""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Literal

import torch
from tqdm import tqdm

from bert import whole_file
from bert.errors import UserError, refuse_if
from bert.training.config import TrainingConfig
from bert.training.device import choose_device
from finetune import standard_streams
from finetune.config import DataConfig, TaskConfig
from finetune.example_kinds import Example, kind_of
from finetune.examples import MOST_FAULTS, read, stream
from finetune.formats import FORMATS
from finetune.formats.kinds import Refused
from finetune.formats.lines import CARRIAGE_RETURN, numbered_lines, text_of_line
from finetune.judge import evaluator, predict, write_findings
from finetune.model import load
from finetune.reading import READING, as_in_training, format_name
from finetune.tasks.task import Task

_AT_ONCE = 512  # examples


@dataclass(frozen=True)
class EvaluateConfig:
    """Judge a fine-tuned model on a labelled file."""

    data: DataConfig
    """data.eval is the file. How it is read is by default as in training."""

    checkpoint: str = "runs/finetune"
    """A folder that fine-tuning left."""

    output: str | None = None
    """A folder for metrics.json, classes.json, worst_errors.json and a picture; by default scores are only printed."""

    batch_size: int = 64
    """Sequences at once."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes the GPU where there is one."""

    precision: Literal["auto", "fp32", "bf16"] | None = None
    """Of products and hidden states. By default what training was told; auto: bf16 on a GPU, fp32 on a CPU."""


@dataclass(frozen=True)
class PredictConfig:
    """Write what a fine-tuned model says of each text."""

    input: str
    """Texts: one per line in a .txt file; else a table or tagged file like those of training (labels are not read).
    `-` is standard input, a text per line; each is answered as it comes."""

    output: str | None = None
    """A JSONL file, a line for each text, in order: labels with probabilities, numbers, entities as ranges of
    characters, or answers. `-` is standard output, and the default where the input is standard input."""

    checkpoint: str = "runs/finetune"
    """A folder that fine-tuning left."""

    format: Literal["auto", "txt", *FORMATS] = "auto"
    """What the input holds; auto goes by its ending."""

    text: str | None = None
    """Tables: the column with the text. conll: the word's, by number. By default as in training. question_answering:
    the question's column, by default question."""

    text_pair: str | None = None
    """Tables: the column with the second text. By default as in training. question_answering: the column with the text
    that may hold the answer, by default context."""

    quoting: Literal["auto", "on", "off"] = "auto"
    """tsv and csv: whether quotation marks enclose fields. auto: as in training, or on for csv and off for tsv."""

    on_bad_row: Literal["error", "skip"] = "error"
    """error: an empty line, or a row that is not what it should be, ends it. skip: it is left out and counted. What is
    not UTF-8 is an error in any case."""

    batch_size: int = 64
    """Sequences at once."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes the GPU where there is one."""

    precision: Literal["auto", "fp32", "bf16"] | None = None
    """Of products and hidden states. By default what training was told; auto: bf16 on a GPU, fp32 on a CPU."""


def evaluate_file(config: EvaluateConfig) -> dict[str, float]:
    """Print a model's classes and scores on data.eval."""
    if config.data.eval is None:
        raise UserError("data.eval: the file to judge the model by is needed.")
    refuse_if(
        [
            f"data.{name}: {getattr(config.data, name)!r} was given, but it belongs to training."
            for name in ("train", "max_length", "overlap", "test")
            if getattr(config.data, name) != getattr(DataConfig(), name)
        ]
        + _size_faults(config)
    )
    task, device = _opened(config)
    data = as_in_training(config.data, task.read_as, task.task, Path(config.data.eval), "data.")
    if said := _taken_from_training(config.data, data):
        print(f"data.eval: read as in training: {said}")
    examples = read(Path(config.data.eval), task.task, data, "data.eval", task.labels)
    print(examples.in_words("data.eval"))
    found = evaluator(task, examples, config.batch_size, device)()
    scores = {name.removeprefix("valid/"): value for name, value in found.items()}
    width = max(map(len, scores))
    print("\n" + "\n".join(f"  {name:<{width}}  {value:.4f}" for name, value in scores.items()))
    if config.output is not None:
        folder = Path(config.output)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        write_findings(task, folder)
    return found


def predict_file(config: PredictConfig) -> None:
    """Write predictions, a line for each text; what cannot be read is an error with file and line, or left out."""
    refuse_if(_faults(config))
    with redirect_stdout(sys.stderr):  # predictions alone may go to standard output
        task, device = _opened(config)
    _refuse_unfit(config, task)
    streamed = config.input == standard_streams.NAME
    usable = _Usable("stdin" if streamed else config.input, config.on_bad_row)
    texts, total = (_arriving(task.task, usable), None) if streamed else _of_file(config, task, usable)
    lines = (
        json.dumps(prediction, ensure_ascii=False)
        for some in texts
        for prediction in predict(task, some, config.batch_size, device)
    )
    if config.output in (None, standard_streams.NAME):
        said = f"{standard_streams.write_lines(lines):,} predictions"
    else:
        said = f"{_write_file(Path(config.output), lines, total):,} predictions in {config.output}"
    print(f"{said}{usable.in_words()}", file=sys.stderr)


def _opened(config: EvaluateConfig | PredictConfig) -> tuple[Task, torch.device]:
    """The model, on its device."""
    task = load(config.checkpoint)
    task.precision = config.precision or task.precision
    device = choose_device(TrainingConfig(device=config.device, precision=task.precision))
    return task.to(device), device


def _size_faults(config: EvaluateConfig | PredictConfig) -> list[str]:
    return [] if config.batch_size >= 1 else [f"batch_size: {config.batch_size}, but it must be at least 1."]


def _faults(config: PredictConfig) -> list[str]:
    faults, streamed = _size_faults(config), config.input == standard_streams.NAME
    if config.output is None and not streamed:
        faults.append("output: a JSONL file for the predictions is needed, or - for standard output.")
    if config.output is not None and not streamed and Path(config.output).resolve() == Path(config.input).resolve():
        faults.append(f"output: '{config.output}' is the input.")
    if streamed and config.format not in ("auto", "txt"):
        faults.append(f"format: {config.format!r} was given, but standard input has a text per line (txt).")
    if _holds_lines(config):
        belongs = f"was given, but it belongs to tables; '{config.input}' has a text per line"
        faults += [
            f"{name}: {getattr(config, name)!r} {belongs}."
            for name in ("text", "text_pair", "quoting")
            if getattr(config, name) != getattr(PredictConfig, name)
        ]
    return faults


def _write_file(target: Path, lines: Iterator[str], total: int | None) -> int:
    """Write lines, so many if that is known, to a file that is there only when all of them are; says how many."""
    written = 0
    with whole_file.replacing(target) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        for line in tqdm(lines, total=total, unit=" texts", disable=None):
            file.write(f"{line}\n")
            written += 1
    return written


def _holds_lines(config: PredictConfig) -> bool:
    """Whether the input has a text per line."""
    by_name = config.input == standard_streams.NAME or Path(config.input).suffix in (".txt", "")
    return config.format == "txt" or (config.format == "auto" and by_name)


def _refuse_unfit(config: PredictConfig, task: Task) -> None:
    """Lines, where the model needs more than one text."""
    pair = task.read_as.get("text_pair")
    if _holds_lines(config) and pair is not None:
        raise UserError(
            f"input: '{config.checkpoint}' was trained on pairs of texts (data.text_pair={pair}); give a table."
        )
    columns = kind_of(task.task).columns
    if _holds_lines(config) and len(columns) > 1:
        raise UserError(
            f"input: '{config.checkpoint}' needs more than one text at a time: give a table with the columns "
            f"{' and '.join(columns)} (or --text and --text_pair), or a file of the training data's format."
        )


def _arriving(task: TaskConfig, usable: "_Usable") -> Iterator[list[Example]]:
    """The texts of standard input, some at a time."""
    numbers = count(1)
    for lines in standard_streams.arriving_lines():
        numbered = ((number, text_of_line(line, number, "stdin")) for line, number in zip(lines, numbers, strict=False))
        yield from _at_once(usable(_of_lines(numbered, task)))


def _of_file(config: PredictConfig, task: Task, usable: "_Usable") -> tuple[Iterator[list[Example]], int]:
    """A file's texts, some at a time, and how many there are: all are read once before the first is answered, so that
    one that cannot be read is said at once."""
    path = Path(config.input)
    if not path.is_file():
        raise UserError(f"input: no such file: '{path}'.")
    data = None if _holds_lines(config) else _reading(path, config, task)

    def items() -> Iterator[Example | Refused]:
        if data is None:
            return _of_lines(numbered_lines(path), task.task)
        return stream(path, task.task, data, "input", labelled=False)

    many = sum(1 for _ in tqdm(usable(items()), desc="reading", unit=" texts", leave=False, disable=None))
    return _at_once(item for item in items() if not isinstance(item, Refused)), many


def _of_lines(lines: Iterable[tuple[int, str]], task: TaskConfig) -> Iterator[Example | Refused]:
    for number, text in lines:
        if not text.strip():
            yield Refused(number, "the line is empty; a text per line is needed")
        elif "\r" in text:
            yield Refused(number, CARRIAGE_RETURN)
        else:
            yield kind_of(task).unlabelled(number, text)


class _Usable:
    """Lets through what can be read; what cannot ends it, or is left out, told and counted, as on_bad_row says."""

    def __init__(self, name: str, on_bad_row: str) -> None:
        self.name, self.on_bad_row, self.left_out = name, on_bad_row, 0

    def __call__(self, items: Iterable[Example | Refused]) -> Iterator[Example]:
        for item in items:
            if not isinstance(item, Refused):
                yield item
                continue
            fault = f"{self.name}:{item.line}: {item.why}"
            if self.on_bad_row == "error":
                raise UserError(f"{fault}.")
            self.left_out += 1
            if self.left_out <= MOST_FAULTS:
                print(f"{fault}; left out", file=sys.stderr)

    def in_words(self) -> str:
        """How many were left out, if any."""
        return f"; {self.left_out:,} left out" if self.left_out else ""


def _reading(path: Path, config: PredictConfig, task: Task) -> DataConfig:
    """How a table or tagged file is read; said where it was not given."""
    given = DataConfig(format=config.format, text=config.text, text_pair=config.text_pair, quoting=config.quoting)
    data = as_in_training(given, task.read_as, task.task, path, "")
    if said := _taken_from_training(given, data):
        print(f"input: read as in training: {said}", file=sys.stderr)
    kind, name = kind_of(task.task), format_name(path, task.task, data, "")
    # In training a file of texts would lack its tags; here its lines would pass for words.
    if config.format == "auto" and name == "conll" and path.suffix.lstrip(".").lower() not in FORMATS:
        wanted = "--format conll (a word per line) or --format txt (a text per line)"
        raise UserError(f"format: '{path}' does not say by its ending what it holds; {wanted} does.")
    one_text = len(kind.columns) == 1
    if FORMATS[name].holds == "rows" and not one_text:
        data = replace(data, text=data.text or kind.columns[0], text_pair=data.text_pair or kind.columns[1])
    if "rows" not in kind.holds:
        print(f"input: {path}: read as {name}", file=sys.stderr)
    if one_text and not kind.pairs and data.text_pair is not None:
        raise UserError(f"text_pair: {data.text_pair!r} was given, but task.name={task.task.name} takes one text.")
    return data


def _at_once(texts: Iterator[Example]) -> Iterator[list[Example]]:
    """Lists of up to _AT_ONCE; those that arrive before one that cannot be read come before its error."""
    some: list[Example] = []
    try:
        for text in texts:
            some.append(text)
            if len(some) == _AT_ONCE:
                yield some
                some = []
    except UserError:
        yield some
        raise
    yield some


def _taken_from_training(given: DataConfig, resolved: DataConfig) -> str:
    taken = {name: getattr(resolved, name) for name in READING if getattr(given, name) != getattr(resolved, name)}
    return ", ".join(f"{name}={value}" for name, value in taken.items() if name != "label" or given.eval is not None)
