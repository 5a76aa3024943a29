"""What readers give, in the file's order; `line` is where each begins, from 1."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Row:
    """Fields by name; in a file without a header line, by number from 1."""

    line: int
    fields: dict[str, str]


@dataclass(frozen=True)
class Sentence:
    """Characters (with their spaces) or words, and a tag for each; no tags where the file has none.

    `tags_in` names the file that holds the tags, where that is another one: all of a sentence's are on one line of it.
    """

    line: int
    units: list[str]
    tags: list[str] | None
    tags_in: str | None = None


@dataclass(frozen=True)
class QuestionRow:
    """A question about a text, and where its answers stand in it: the first character, and what stands there.

    `answers` is empty where the text holds none.
    """

    line: int
    id: str
    question: str
    context: str
    answers: list[tuple[int, str]]


@dataclass(frozen=True)
class Refused:
    """A line that is not what it should be, and why."""

    line: int
    why: str


@dataclass(frozen=True)
class Format:
    """How a file is read.

    Attributes:
        read: from a path and the columns that are needed, to what the file holds. Sentences: the column of the word,
            then that of its tag where tags are read.
        holds: rows, words, characters or questions.
        options: which of DataConfig's text, text_pair, label and quoting say how it is read.
        quoting: whether quotation marks enclose fields, unless data.quoting says; given to `read`. None where the
            format knows no such choice.
    """

    read: Callable[..., Iterator[Row | Sentence | QuestionRow | Refused]]
    holds: Literal["rows", "words", "characters", "questions"]
    options: tuple[str, ...] = ()
    quoting: bool | None = None


LAST = "last"
"""The tag's column in sentences, unless its number is given."""
