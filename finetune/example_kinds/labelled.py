"""A text or a pair of texts with one label, or with a number."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetune.example_kinds.kind import ExampleKind, HowRead, texts_of, why_unseen
from finetune.formats.kinds import Refused, Row

if TYPE_CHECKING:
    from finetune.config import TaskConfig


@dataclass(frozen=True)
class Labelled:
    """A text, or a pair of texts, with its label."""

    line: int
    text: str
    text_pair: str | None
    label: str | None

    @property
    def shown(self) -> str:
        """The text, or both, on one line."""
        return self.text if self.text_pair is None else f"{self.text} | {self.text_pair}"


class WithLabel(ExampleKind[Labelled]):
    """One of several classes."""

    holds = ("rows",)
    pairs = True

    def of(self, item: Row, how: HowRead) -> Labelled | Refused:
        """A row's text or texts, and its label."""
        return _of_row(item, how)

    def unlabelled(self, line: int, text: str, text_pair: str | None = None) -> Labelled:
        """Without a label."""
        return _unlabelled(line, text, text_pair)

    def labels(self, examples: list[Labelled], task: "TaskConfig") -> list[str]:
        """The classes, sorted; by number if all are whole ones, so that a class's id in 0, 1, ... is its name."""
        found = {example.label for example in examples}
        whole = all(label.isascii() and label.isdecimal() and label == str(int(label)) for label in found)
        return sorted(found, key=int if whole else None)

    def only_label(self, examples: list[Labelled], labels: list[str]) -> str | None:
        """The one class."""
        return labels[0] if len(labels) == 1 else None

    def unseen(self, example: Labelled, labels: list[str]) -> Refused | None:
        """A class that the training data lacks."""
        return None if example.label in labels else Refused(example.line, why_unseen(example.label, labels))


class WithNumber(ExampleKind[Labelled]):
    """A number, kept as written; there are no classes, so every number can be scored."""

    holds = ("rows",)
    pairs = True

    def of(self, item: Row, how: HowRead) -> Labelled | Refused:
        """A row's text or texts, and its number."""
        example = _of_row(item, how)
        if isinstance(example, Refused) or not how.labelled or _is_finite(example.label):
            return example
        return Refused(item.line, f"the column {how.data.label!r} holds {example.label!r}, not a finite number")

    def unlabelled(self, line: int, text: str, text_pair: str | None = None) -> Labelled:
        """Without a number."""
        return _unlabelled(line, text, text_pair)

    def labels(self, examples: list[Labelled], task: "TaskConfig") -> list[str]:
        """None."""
        return []

    def only_label(self, examples: list[Labelled], labels: list[str]) -> str | None:
        """The one number."""
        return examples[0].label if len({example.label for example in examples}) == 1 else None


def _of_row(row: Row, how: HowRead) -> Labelled | Refused:
    texts = texts_of(row, how.data)
    if isinstance(texts, Refused):
        return texts
    label = row.fields[how.data.label].strip() if how.labelled else None
    if label == "":
        return Refused(row.line, f"the column {how.data.label!r} is empty")
    texts = [text.strip() for text in texts]  # no offsets into them are ever reported
    return Labelled(row.line, texts[0], texts[1] if len(texts) == 2 else None, label)


def _unlabelled(line: int, text: str, text_pair: str | None) -> Labelled:
    """Stripped, as in training."""
    return Labelled(line, text.strip(), None if text_pair is None else text_pair.strip(), None)


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and "_" not in text  # Python reads 1_5 as 15
    except ValueError:
        return False
