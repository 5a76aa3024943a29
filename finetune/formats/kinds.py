"""What readers yield, in the file's order; `line` is where each begins, from 1."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

NAMES = ("id", "guid")
"""The fields that may name a row or a question: in most data, and in KLUE's."""


@dataclass(frozen=True)
class Row:
    """Fields by name or, in a file without a header line, by number from 1: at least those needed, and any of NAMES."""

    line: int
    fields: dict[str, str]


@dataclass(frozen=True)
class Sentence:
    """Characters (including spaces) or words, and a tag for each; no tags where the file has none.

    `tags_in` says where the tags are if all of a sentence are on one line: a field's name, or a file and a line.
    """

    line: int
    units: list[str]
    tags: list[str] | None
    tags_in: str | None = None


@dataclass(frozen=True)
class QuestionRow:
    """A question about a text, and its answers there: the first character's offset, and the answer's text.

    `answers` is empty where the text holds none.
    """

    line: int
    id: str
    question: str
    context: str
    answers: list[tuple[int, str]]


@dataclass(frozen=True)
class Refused:
    """A malformed line, and what is wrong with it."""

    line: int
    why: str


@dataclass(frozen=True)
class PassedOver:
    """A line that is no data, but is counted: a blank one where each line is a row or a sentence, or a comment."""

    line: int
    what: Literal["blank line", "comment"] = "blank line"


@dataclass(frozen=True)
class Format:
    """How a file is read.

    Attributes:
        read: takes a path and the columns needed, and yields what the file holds. For sentences: the word's column,
            then the tag's if tags are read.
        holds: rows, words, characters or questions.
        options: which of DataConfig's text, text_pair, label and quoting apply.
        columns: what text and label stand for where they are not given.
        quoting: the default for data.quoting (whether quotation marks enclose fields), passed to `read`. None where
            the format has no such choice.
    """

    read: Callable[..., Iterator[Row | Sentence | QuestionRow | Refused | PassedOver]]
    holds: Literal["rows", "words", "characters", "questions"]
    options: tuple[str, ...] = ()
    columns: tuple[str, str] = ("text", "label")
    quoting: bool | None = None


FIRST, LAST = "1", "last"
"""The columns of words and of their tags where columns have no names, only numbers."""
