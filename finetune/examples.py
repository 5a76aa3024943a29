"""Labelled examples, read from files of any format; every row is used or refused, and counted."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bert.errors import UserError
from bert.registry import did_you_mean
from finetune.config import DataConfig, TaskConfig
from finetune.formats import FORMATS, Format, Refused, Row, Sentence
from finetune.metrics import Span, spans_of
from finetune.schemes import SCHEMES

MOST_FAULTS = 10
"""Faults that are reported together."""


@dataclass(frozen=True)
class Labelled:
    """A text, or a pair of texts, with its label."""

    line: int
    text: str
    text_pair: str | None
    label: str | None


@dataclass(frozen=True)
class Tagged:
    """A text whose units carry tags.

    Attributes:
        line: where it begins in its file, from 1.
        text: the units put together: characters as they are, words with a space between.
        units: where each lies in the text, start and end.
        tags: IOB2, one for each unit; None where the file has none.
    """

    line: int
    text: str
    units: list[tuple[int, int]]
    tags: list[str] | None

    @cached_property
    def marked(self) -> list[Span]:
        """The entities as the file has them, as ranges of characters."""
        return [(self.units[first][0], self.units[last - 1][1], kind) for first, last, kind in spans_of(self.tags)]

    @cached_property
    def entities(self) -> set[Span]:
        """The entities as ranges of characters, without spaces at their ends; one of spaces alone is none."""
        trimmed = ((start, self.text[start:end], kind) for start, end, kind in self.marked)
        trimmed = ((start + len(t) - len(t.lstrip()), t.strip(), kind) for start, t, kind in trimmed)
        return {(start, start + len(covered), kind) for start, covered, kind in trimmed if covered}


@dataclass(frozen=True)
class Examples:
    """What a file holds.

    Attributes:
        path: of the file.
        used: the examples.
        rows: how many rows or sentences the file has.
        refused: lines left out, and why.
    """

    path: Path
    used: list[Labelled | Tagged]
    rows: int
    refused: list[str]

    def in_words(self, argument: str) -> str:
        """Rows in = rows used + rows refused."""
        shown = "".join(f"\n  {fault}" for fault in self.refused[:MOST_FAULTS])
        counts = f"{self.rows:,} rows, {len(self.used):,} used, {len(self.refused):,} refused"
        if self.trimmed:
            counts += f"; {self.trimmed:,} entities begin or end on a space, which is left out of them"
        return f"{argument}: {self.path}: {counts}{shown}"

    @property
    def trimmed(self) -> int:
        """Entities that the file begins or ends on a space."""
        tagged = [example for example in self.used if isinstance(example, Tagged)]
        return sum(span not in example.entities for example in tagged for span in example.marked)

    def shared_with(self, other: "Examples") -> int:
        """How many of the other's examples have the text of one of these."""
        known = {_text_of(example) for example in self.used}
        return sum(_text_of(example) in known for example in other.used)


def read(path: Path, task: TaskConfig, data: DataConfig, argument: str, labels: list[str] | None = None) -> Examples:
    """Read a labelled file.

    Args:
        path: the file.
        task, data: how.
        argument: what names the path in errors.
        labels: those of the training data; another one is a fault. None where they are still to be found.

    Raises:
        UserError: the file cannot be read, or holds rows that are not what they should be (all faults, up to
            MOST_FAULTS, with file and line), or none that are.
    """
    used, refused, rows = [], [], 0
    for item in stream(path, task, data, argument, labelled=True):
        rows += 1
        fault = item if isinstance(item, Refused) else unseen_label(item, labels)
        if fault is None:
            used.append(item)
            continue
        refused.append(f"{path}:{fault.line}: {fault.why}.")
        if data.on_bad_row == "error" and len(refused) == MOST_FAULTS:
            break
    if refused and data.on_bad_row == "error":
        raise UserError(*refused, f"{argument}: rows like these are left out with data.on_bad_row=skip.")
    if not used:
        raise UserError(
            f"{argument}: no row in '{path}'" + (f": all {rows} were refused." if rows else "."), *refused[:3]
        )
    return Examples(path, used, rows, refused)


def stream(
    path: Path, task: TaskConfig, data: DataConfig, argument: str, labelled: bool
) -> Iterator[Labelled | Tagged | Refused]:
    """Read examples one at a time; without labels where `labelled` is off."""
    if not path.is_file():
        raise UserError(f"{argument}: {'a folder' if path.is_dir() else 'no such file'}: '{path}'.")
    name = _format_name(path, task, data)
    format_ = FORMATS[name]
    if (task.name == "ner") != (format_.holds != "rows") and labelled:
        wanted = "conll or klue" if task.name == "ner" else "tsv, csv, jsonl or json"
        raise UserError(f"data.format: {name} holds {format_.holds}, but task.name={task.name} needs {wanted}.")
    needed = _needed(task, data, labelled)
    for item in format_.read(path, needed):
        if isinstance(item, Row):
            yield _from_row(item, data, labelled)
        elif isinstance(item, Sentence):
            yield _from_sentence(item, format_, task)
        else:
            yield item


def unlabelled(task: TaskConfig, line: int, text: str, text_pair: str | None = None) -> Labelled | Tagged:
    """A text to be judged, or a pair, as the task takes it; `line` is its place, from 1."""
    return Tagged(line, text, [], None) if task.name == "ner" else Labelled(line, text, text_pair, None)


def labels_of(examples: list[Labelled | Tagged]) -> list[str]:
    """The label set of the training data, in a fixed order: sorted; for tags `O` first, then each type's B- and I-."""
    if isinstance(examples[0], Labelled):
        return sorted({example.label for example in examples})
    types = sorted({tag[2:] for example in examples for tag in example.tags if tag != "O"})
    return ["O", *(f"{prefix}-{type_}" for type_ in types for prefix in "BI")]


def unseen_label(example: Labelled | Tagged, labels: list[str] | None) -> Refused | None:
    """Why an example cannot be scored with these labels; None where it can."""
    if labels is None:
        return None
    given = [example.label] if isinstance(example, Labelled) else example.tags
    for place, label in enumerate(given):
        if label not in labels:
            seen = ", ".join(labels[:20]) + (", ..." if len(labels) > 20 else "")
            why = f"the label {label!r} is not in the training data ({seen}){did_you_mean(label, labels)}"
            return Refused(example.line + (place if isinstance(example, Tagged) else 0), why)
    return None


def _text_of(example: Labelled | Tagged) -> tuple[str, str | None]:
    return example.text, getattr(example, "text_pair", None)


def _format_name(path: Path, task: TaskConfig, data: DataConfig) -> str:
    if data.format != "auto":
        return data.format
    ending = path.suffix.lstrip(".").lower()
    if task.name == "ner" and ending not in ("json", "jsonl", "csv"):
        with path.open("rb") as file:
            return "klue" if file.read(3).removeprefix(b"\xef\xbb\xbf").startswith(b"##") else "conll"
    if ending not in FORMATS:
        raise UserError(f"data.format: '{path}' does not say by its ending what it holds; one of {', '.join(FORMATS)}.")
    return ending


def _needed(task: TaskConfig, data: DataConfig, labelled: bool) -> tuple[str, ...]:
    if task.name == "ner" and labelled:
        return ("tag",)
    columns = (data.text, *([data.text_pair] if data.text_pair else []))
    return (*columns, data.label) if labelled else columns


def _from_row(row: Row, data: DataConfig, labelled: bool) -> Labelled | Refused:
    texts = [row.fields[name].strip() for name in (data.text, data.text_pair) if name]
    for name, text in zip((data.text, data.text_pair), texts, strict=False):
        if not text:
            return Refused(row.line, f"the column {name!r} is empty")
    label = row.fields[data.label].strip() if labelled else None
    if label == "":
        return Refused(row.line, f"the column {data.label!r} is empty")
    return Labelled(row.line, texts[0], texts[1] if len(texts) == 2 else None, label)


def _from_sentence(sentence: Sentence, format_: Format, task: TaskConfig) -> Tagged | Refused:
    between = 1 if format_.holds == "words" else 0
    units, start = [], 0
    for unit in sentence.units:
        units.append((start, start + len(unit)))
        start += len(unit) + between
    text = (" " * between).join(sentence.units)
    if not text.strip():
        return Refused(sentence.line, "the sentence is empty")
    if sentence.tags is None:
        return Tagged(sentence.line, text, units, None)
    check, to_iob2 = SCHEMES[task.scheme]
    if fault := check(sentence.tags):
        return Refused(sentence.line + fault[0], fault[1])
    return Tagged(sentence.line, text, units, to_iob2(sentence.tags))
