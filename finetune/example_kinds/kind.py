"""What every kind of example defines."""

import unicodedata
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from bert.registry import did_you_mean
from finetune.formats.kinds import QuestionRow, Refused, Row, Sentence

if TYPE_CHECKING:
    from finetune.config import DataConfig, TaskConfig  # which reads the table of tasks

Example = TypeVar("Example")


@dataclass(frozen=True)
class HowRead:
    """How a file is read.

    Attributes:
        task, data: the options; data's columns have been given names.
        holds: what the file's format holds (Format.holds).
        labelled: whether labels are read too.
    """

    task: "TaskConfig"
    data: "DataConfig"
    holds: str
    labelled: bool


class ExampleKind(ABC, Generic[Example]):
    """How examples of one kind are made from what formats give, and what their labels are.

    Attributes:
        holds: what the format of a labelled file may hold; unlabelled texts may come in rows too.
        columns: a table's columns with the texts of one example, by name; all are needed. A prediction, and a request
            to a server, has the texts under these names too.
        pairs: whether a second text may be given, as `text_pair`.
        windows: whether a text that is too long is read in windows instead of being truncated.
    """

    holds: tuple[str, ...]
    columns: tuple[str, ...] = ("text",)
    pairs = False
    windows = False

    @abstractmethod
    def of(self, item: Row | Sentence | QuestionRow, how: HowRead) -> Example | Refused:
        """The example made from a row of a table, a sentence or a question, or why there is none."""

    @abstractmethod
    def unlabelled(self, line: int, text: str, text_pair: str | None = None) -> Example:
        """A text to predict on, or a pair; `line` is its number, from 1.

        Raises:
            UserError: a second text is needed and missing.
        """

    @abstractmethod
    def labels(self, examples: list[Example], task: "TaskConfig") -> list[str]:
        """The label set of the training data, in a fixed order; empty where there are no classes."""

    def only_label(self, examples: list[Example], labels: list[str]) -> str | None:
        """The label that all examples share, so that nothing can be learned; None where there are several."""
        return None

    def unseen(self, example: Example, labels: list[str]) -> Refused | None:
        """Why an example cannot be scored with the labels of the training data; None where it can."""
        return None

    def out_of_reach(self, examples: list[Example], labels: list[str]) -> str | None:
        """Which examples no model with these labels can get right, although it is scored on them; None where none."""
        return None

    def format_of(self, path: Path, data: "DataConfig") -> str | None:
        """The format of a file of this kind, where its extension does not tell, or is misleading; else None."""
        return None


def texts_of(row: Row, data: "DataConfig") -> list[str] | Refused:
    """The text of a table's row, unchanged, and the second one if its column is named."""
    names = [name for name in (data.text, data.text_pair) if name]
    texts = [row.fields[name] for name in names]
    for name, text in zip(names, texts, strict=True):
        if not text.strip():
            return Refused(row.line, f"the column {name!r} is empty")
    return texts


def why_unseen(label: str, labels: list[str]) -> str:
    """Says that a label is not in the training data, and which are."""
    seen = ", ".join(one if len(one) <= 30 else f"{one[:30]}..." for one in labels[:8])
    seen += f" and {len(labels) - 8:,} more" if len(labels) > 8 else ""
    twin = next((f"; it looks like {one!a}, but is {label!a}" for one in labels if looks(one) == looks(label)), None)
    return f"the label {label!r} is not in the training data ({seen}){twin or did_you_mean(label, labels)}"


def looks(label: str) -> str:
    """What a label looks like: the same for all ways of composing its characters, and without invisible ones."""
    return "".join(c for c in unicodedata.normalize("NFKC", label) if unicodedata.category(c) != "Cf")
