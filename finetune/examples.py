"""Labelled examples, read from files of any format; every row is used or refused, and counted."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from bert.errors import UserError, refuse_if
from bert.registry import did_you_mean
from finetune.config import EXAMPLES, DataConfig, TaskConfig
from finetune.formats import FORMATS
from finetune.formats.kinds import Format, QuestionRow, Refused, Row, Sentence
from finetune.metrics import Span, spans_of
from finetune.reading import foreign_options, format_name, needed_columns, quoting_of, read_from, with_column_names
from finetune.schemes import SCHEMES, TAGGINGS

MOST_FAULTS = 10
"""Faults that are reported together."""


@dataclass(frozen=True)
class Labelled:
    """A text, or a pair of texts, with its label."""

    line: int
    text: str
    text_pair: str | None
    label: str | None

    @property
    def shown(self) -> str:
        """The text, or both, in a line."""
        return self.text if self.text_pair is None else f"{self.text} | {self.text_pair}"


@dataclass(frozen=True)
class Tagged:
    """A text whose units carry tags.

    Attributes:
        line: where it begins in its file, from 1.
        text: the units put together: characters as they are, words with a space between.
        units: where each lies in the text, start and end.
        tags: IOB2, one for each unit; None where the file has none.
        tags_in: the file that holds the tags, where that is another one.
    """

    line: int
    text: str
    units: list[tuple[int, int]]
    tags: list[str] | None
    tags_in: str | None = field(default=None, repr=False)  # a run's fingerprint is of what is learned

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
class Question:
    """A question about a text.

    Attributes:
        line: where it stands in its file, from 1.
        id: its name there.
        text: the question.
        text_pair: the text that may hold the answer.
        answers: where answers stand in it, start and end; none where it holds none; None where nobody has said.
    """

    line: int
    id: str
    text: str
    text_pair: str
    answers: tuple[tuple[int, int], ...] | None


Example = Labelled | Tagged | Question


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
    used: list[Example]
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
        skipping = "rows like these are left out with data.on_bad_row=skip."
        no_row = "no row up to there is good; data.format, data.text and data.label say how the file is read."
        raise UserError(*refused, f"{argument}: {skipping if used else no_row}")
    if not used:
        raise UserError(
            f"{argument}: {path}:1: no row in the file" + (f": all {rows} were refused." if rows else "."), *refused[:3]
        )
    return Examples(path, used, rows, refused)


def stream(
    path: Path, task: TaskConfig, data: DataConfig, argument: str, labelled: bool
) -> Iterator[Example | Refused]:
    """Read examples one at a time; without labels where `labelled` is off."""
    if not path.is_file():
        raise UserError(f"{argument}: {'a folder' if path.is_dir() else 'no such file'}: '{path}'.")
    name = format_name(path, task, data)
    format_ = FORMATS[name]
    if format_.holds not in read_from(task) and (labelled or format_.holds != "rows"):
        wanted = ", ".join(known for known, other in FORMATS.items() if other.holds in read_from(task))
        raise UserError(f"data.format: {name} holds {format_.holds}, but task.name={task.name} needs one of {wanted}.")
    refuse_if(foreign_options(data, name, "data." if argument.startswith("data.") else ""))
    needed, data = needed_columns(format_, data, labelled), with_column_names(data)
    for item in format_.read(path, needed, **quoting_of(format_, data)):
        if isinstance(item, Row):
            yield _from_row(item, task, data, labelled)
        elif isinstance(item, Sentence):
            yield _from_sentence(item, format_, task)
        elif isinstance(item, QuestionRow):
            yield _from_asked(item, labelled)
        else:
            yield item


def unlabelled(task: TaskConfig, line: int, text: str, text_pair: str | None = None) -> Example:
    """A text to be judged, or a pair, as the task takes it; `line` is its place, from 1.

    Raises:
        UserError: the task answers questions, and the second text, which may hold the answer, is missing.
    """
    kind = EXAMPLES[task.name]
    if kind == "tags":
        return Tagged(line, text, [], None)
    if kind == "questions":
        if text_pair is None:
            raise UserError(
                "text_pair: needed to answer a question: the text that may hold it, or its column in a table."
            )
        return Question(line, str(line), text, text_pair, None)
    return Labelled(line, text, text_pair, None)


def labels_of(examples: list[Example], task: TaskConfig) -> list[str]:
    """The label set of the training data, in a fixed order.

    Classes are sorted; of tags `O` comes first, then each type's; questions have `answer`, and `no answer` where the
    data has such; numbers have no classes.
    """
    kind = EXAMPLES[task.name]
    if kind == "labels":
        return sorted({example.label for example in examples})
    if kind == "tags":
        types = sorted({tag[2:] for example in examples for tag in example.tags if tag != "O"})
        return ["O", *(f"{prefix}-{type_}" for type_ in types for prefix in TAGGINGS[task.tagging].prefixes)]
    if kind == "questions":
        return ["answer", "no answer"] if any(example.answers == () for example in examples) else ["answer"]
    return []


def unseen_label(example: Example, labels: list[str] | None) -> Refused | None:
    """Why an example cannot be scored with these labels; None where it can."""
    if not labels or isinstance(example, Question):
        return None
    given = [example.label] if isinstance(example, Labelled) else example.tags
    for place, label in enumerate(given):
        if label not in labels:
            seen = ", ".join(one if len(one) <= 30 else f"{one[:30]}..." for one in labels[:8])
            seen += f" and {len(labels) - 8:,} more" if len(labels) > 8 else ""
            why = f"the label {label!r} is not in the training data ({seen}){did_you_mean(label, labels)}"
            return _fault(example, place, why) if isinstance(example, Tagged) else Refused(example.line, why)
    return None


def _text_of(example: Example) -> tuple[str, str | None]:
    return example.text, getattr(example, "text_pair", None)


def _from_row(row: Row, task: TaskConfig, data: DataConfig, labelled: bool) -> Labelled | Refused:
    texts = [row.fields[name].strip() for name in (data.text, data.text_pair) if name]
    for name, text in zip((data.text, data.text_pair), texts, strict=False):
        if not text:
            return Refused(row.line, f"the column {name!r} is empty")
    label = row.fields[data.label].strip() if labelled else None
    if label == "":
        return Refused(row.line, f"the column {data.label!r} is empty")
    if label is not None and EXAMPLES[task.name] == "numbers" and not _is_finite(label):
        return Refused(row.line, f"the column {data.label!r} holds {label!r}, which is no finite number")
    return Labelled(row.line, texts[0], texts[1] if len(texts) == 2 else None, label)


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _from_asked(asked: QuestionRow, labelled: bool) -> Question:
    """Answers without spaces at their ends."""
    places = []
    for start, said in asked.answers:
        start += len(said) - len(said.lstrip())
        places.append((start, start + len(said.strip())))
    return Question(asked.line, asked.id, asked.question, asked.context, tuple(places) if labelled else None)


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
        return _fault(sentence, *fault)
    return Tagged(sentence.line, text, units, to_iob2(sentence.tags), sentence.tags_in)


def _fault(sentence: Sentence | Tagged, place: int, why: str) -> Refused:
    """What is wrong with a unit's tag: units are a line each, or the tags are on one line of another file."""
    if sentence.tags_in is None:
        return Refused(sentence.line + place, why)
    return Refused(sentence.line, f"tag {place + 1} of {sentence.tags_in}:{sentence.line}: {why}")
