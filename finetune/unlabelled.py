"""What prediction reads: unlabelled texts, from a file or as they arrive on standard input."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

from bert.errors import UserError, refuse_if
from bert.lines import CARRIAGE_RETURN, numbered_lines, text_of_line
from bert.progress import progress
from finetune import standard_streams
from finetune.config import DataConfig, PredictConfig
from finetune.example_kinds import Example
from finetune.example_kinds.kind import HowRead
from finetune.examples import MOST_FAULTS, passed_over_in_words, stream
from finetune.formats import FORMATS
from finetune.formats.kinds import PassedOver, Refused
from finetune.formats.tables import row_of_json
from finetune.reading import (
    as_in_training,
    foreign_options,
    format_name,
    needed_columns,
    taken_from_training,
    with_column_names,
)
from finetune.tasks import kind_of
from finetune.tasks.task import Task

_AT_ONCE = 512  # examples

_STREAMED = ("auto", "txt", "jsonl")
"""The formats that standard input may have: only lines can be read as they arrive."""


def check(config: PredictConfig) -> list[str]:
    """All faults in how the input is to be read, a line each."""
    faults = []
    if is_streamed(config) and config.format not in _STREAMED:
        faults.append(f"format: {config.format!r} was given, but standard input has one text per line (txt or jsonl).")
    if _holds_texts(config):
        belongs = f"was given, but it belongs to tables; '{config.input}' has a text per line"
        faults += [
            f"{name}: {getattr(config, name)!r} {belongs}."
            for name in ("text", "text_pair", "quoting")
            if getattr(config, name) != getattr(PredictConfig, name)
        ]
    return faults


def is_streamed(config: PredictConfig) -> bool:
    """Whether the texts come from standard input."""
    return config.input == standard_streams.NAME


class Unlabelled:
    """The texts of an input, in lists of several.

    A line that cannot be read ends it with an error, after the texts before it; or is left out, reported and counted,
    as `on_bad_row` says. A file is read through before its first texts are yielded, so that this error comes at once.

    Attributes:
        total: how many texts there are; None where they are yet to arrive.
        left_out, passed_over: lines left out so far, and those that are no data, by what they are.

    Raises:
        UserError: there is no such file, the model cannot read its kind, or a line of it cannot be read.
    """

    def __init__(self, config: PredictConfig, task: Task) -> None:
        self.config, self.task, self.left_out, self.passed_over = config, task.task, 0, Counter()
        self.path = Path(config.input)
        _refuse_unfit(config, task)
        if not is_streamed(config) and not self.path.is_file():
            raise UserError(f"input: no such file: '{self.path}'.")
        self.data = None if _holds_texts(config) else _reading(config, task)
        self.total = None if is_streamed(config) else self._counted()

    def __iter__(self) -> Iterator[list[Example]]:
        if not is_streamed(self.config):
            yield from _at_once(item for item in self._items() if not isinstance(item, Refused | PassedOver))
            return
        numbers = count(1)
        for lines in standard_streams.arriving_lines():
            some = zip(lines, numbers, strict=False)  # in this order, no number is taken for a line yet to come
            numbered = ((number, text_of_line(line, number, "stdin")) for line, number in some)
            yield from _at_once(self._usable(self._of_lines(numbered)))

    def in_words(self) -> str:
        """How many lines were left out or passed over, if any."""
        left_out = f"; {self.left_out:,} left out" if self.left_out else ""
        return left_out + passed_over_in_words(self.passed_over)

    def _counted(self) -> int:
        usable = self._usable(self._items())
        return sum(1 for _ in progress(usable, desc="reading", unit=" texts", leave=False))

    def _items(self) -> Iterator[Example | Refused | PassedOver]:
        if self.data is None:
            return self._of_lines(numbered_lines(self.path))
        return stream(self.path, self.task, self.data, "input", labelled=False)

    def _of_lines(self, lines: Iterable[tuple[int, str]]) -> Iterator[Example | Refused | PassedOver]:
        """A text per line, or a JSON object."""
        kind = kind_of(self.task)
        if self.data is None:
            return (_fault_of(number, text) or kind.unlabelled(number, text) for number, text in lines)
        jsonl = FORMATS["jsonl"]
        needed = needed_columns(jsonl, self.data, labelled=False)
        how = HowRead(self.task, with_column_names(jsonl, self.data), "rows", labelled=False)
        rows = (row_of_json(number, text, needed) for number, text in lines)
        return (row if isinstance(row, Refused | PassedOver) else kind.of(row, how) for row in rows)

    def _usable(self, items: Iterable[Example | Refused | PassedOver]) -> Iterator[Example]:
        name = "stdin" if is_streamed(self.config) else self.config.input
        for item in items:
            if isinstance(item, PassedOver):
                self.passed_over[item.what] += 1
                continue
            if not isinstance(item, Refused):
                yield item
                continue
            fault = f"{name}:{item.line}: {item.why}"
            if self.config.on_bad_row == "error":
                raise UserError(f"{fault}.")
            self.left_out += 1
            if self.left_out <= MOST_FAULTS:
                print(f"{fault}; left out", file=sys.stderr)


def _holds_texts(config: PredictConfig) -> bool:
    """Whether the input has a text per line."""
    if config.format == "auto":
        return is_streamed(config) or Path(config.input).suffix.lower() in (".txt", "")
    return config.format == "txt"


def _fault_of(number: int, text: str) -> Refused | None:
    """Why a line is not a text; None if it is."""
    if not text.strip():
        return Refused(number, "the line is empty; a text per line is needed")
    return Refused(number, CARRIAGE_RETURN) if "\r" in text else None


def _refuse_unfit(config: PredictConfig, task: Task) -> None:
    """Refuse plain lines where the model needs more than one text."""
    if not _holds_texts(config):
        return
    give = "--format jsonl, with an object per line" if is_streamed(config) else "a table"
    if (pair := task.read_as.get("text_pair")) is not None:
        raise UserError(
            f"input: '{config.checkpoint}' was trained on pairs of texts (data.text_pair={pair}); give {give}."
        )
    columns = kind_of(task.task).columns
    if len(columns) > 1:
        raise UserError(
            f"input: '{config.checkpoint}' needs more than one text at a time: give {give}, with the columns "
            f"{' and '.join(columns)} (or --text and --text_pair), or a file of the training data's format."
        )


def _reading(config: PredictConfig, task: Task) -> DataConfig:
    """How a table or tagged file is read; prints what was taken from training or detected."""
    path = Path(config.input)
    given = DataConfig(format=config.format, text=config.text, text_pair=config.text_pair, quoting=config.quoting)
    data = as_in_training(given, task.read_as, task.task, path, "")
    if said := taken_from_training(given, data):
        print(f"input: read as in training: {said}", file=sys.stderr)
    kind, name = kind_of(task.task), format_name(path, task.task, data, "")
    # In training a file of texts would lack tags; here its lines would be taken for words.
    if config.format == "auto" and format_name(path, task.task, given, "") == "conll":
        _refuse_texts(path, name)
    refuse_if(foreign_options(data, name, ""))
    one_text = len(kind.columns) == 1
    if FORMATS[name].holds == "rows" and not one_text:
        data = replace(data, text=data.text or kind.columns[0], text_pair=data.text_pair or kind.columns[1])
    if "rows" not in kind.holds:
        print(f"input: {config.input}: read as {name}", file=sys.stderr)
    if one_text and not kind.pairs and data.text_pair is not None:
        raise UserError(f"text_pair: {data.text_pair!r} was given, but task.name={task.task.name} takes one text.")
    return data


def _refuse_texts(path: Path, name: str) -> None:
    """Refuse a file of texts, or a table of them, that would be read as a word or a character per line.

    A table is told by its first line, whose last column is no tag.
    """
    unit = {"conll": "a word per line", "klue": "a character per line"}[name]
    if path.suffix.lstrip(".").lower() not in FORMATS:
        wanted = f"--format {name} ({unit}) or --format txt (a text per line)"
        raise UserError(f"format: '{path}' does not say by its extension what it holds; give {wanted}.")
    _, first = next(((number, text) for number, text in numbered_lines(path) if text.strip()), (0, ""))
    *others, last = first.split("\t")
    if others and not (last == "O" or last[1:2] == "-"):
        raise UserError(
            f"format: '{path}' would be read as {name}, {unit}, but its first line ends with {last!r}, which is no "
            f"tag; give --format tsv --text COLUMN or --format {name}."
        )


def _at_once(texts: Iterator[Example]) -> Iterator[list[Example]]:
    """Lists of up to _AT_ONCE; texts before an unreadable one are yielded before its error is raised."""
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
