"""A text whose units, characters or words, carry tags."""

import operator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.example_kinds.kind import ExampleKind, HowRead, texts_of, why_unseen
from finetune.formats.kinds import Refused, Row, Sentence
from finetune.formats.lists import format_by_lists
from finetune.formats.tagged import labels_beside
from finetune.metrics import Span, spans_of
from finetune.schemes import SCHEMES, TAGGINGS

if TYPE_CHECKING:
    from finetune.config import DataConfig, TaskConfig


@dataclass(frozen=True)
class Tagged:
    """A text whose units carry tags.

    Attributes:
        line: where it begins in its file, from 1.
        text: the units joined: characters as they are, words by a space.
        units: each one's range in the text, start and end.
        tags: IOB2, one for each unit; None where the file has none.
        tags_in: where the tags are, if all of a sentence are on one line: a field's name, or a file and a line.
        repaired: how many tags were changed, since they violated the file's scheme.
    """

    line: int
    text: str
    units: list[tuple[int, int]]
    tags: list[str] | None
    tags_in: str | None = field(default=None, repr=False)  # a run's fingerprint covers only what is learned
    repaired: int = field(default=0, repr=False)

    @cached_property
    def marked(self) -> list[Span]:
        """The entities as the file marks them, as character ranges."""
        return [(self.units[first][0], self.units[last - 1][1], kind) for first, last, kind in spans_of(self.tags)]

    @cached_property
    def entities(self) -> set[Span]:
        """The entities as character ranges, stripped of surrounding spaces; those of spaces only are dropped."""
        trimmed = ((start, self.text[start:end], kind) for start, end, kind in self.marked)
        trimmed = ((start + len(t) - len(t.lstrip()), t.strip(), kind) for start, t, kind in trimmed)
        return {(start, start + len(covered), kind) for start, covered, kind in trimmed if covered}

    @cached_property
    def in_order(self) -> list[Span]:
        """The same, sorted."""
        return sorted(self.entities)


class WithTags(ExampleKind[Tagged]):
    """A tag for each unit."""

    holds = ("words", "characters")
    windows = True

    def of(self, item: Row | Sentence, how: HowRead) -> Tagged | Refused:
        """A sentence's units and tags, or a row's text without any."""
        if isinstance(item, Sentence):
            return _of_sentence(item, " " if how.holds == "words" else "", how.task)
        texts = texts_of(item, how.data)
        return texts if isinstance(texts, Refused) else self.unlabelled(item.line, *texts)

    def unlabelled(self, line: int, text: str, text_pair: str | None = None) -> Tagged:
        """A text without tags."""
        return Tagged(line, text, [], None)

    def labels(self, examples: list[Tagged], task: "TaskConfig") -> list[str]:
        """`O`, then each type's tags."""
        types = sorted({tag[2:] for example in examples for tag in example.tags if tag != "O"})
        return ["O", *(f"{prefix}-{type_}" for type_ in types for prefix in TAGGINGS[task.tagging].prefixes)]

    def only_label(self, examples: list[Tagged], labels: list[str]) -> str | None:
        """`O`, where there is no entity."""
        return labels[0] if len(labels) == 1 else None

    def unseen(self, example: Tagged, labels: list[str]) -> Refused | None:
        """A tag that the training data lacks."""
        for place, tag in enumerate(example.tags):
            if tag not in labels:
                return _fault(example, place, why_unseen(tag, labels))
        return None

    def format_of(self, path: Path, data: "DataConfig") -> str | None:
        """By the beginning of the name or of the file, unless the extension is a table's; JSON may hold lists."""
        if path.suffix.lower() in (".json", ".jsonl"):
            return format_by_lists(path, data.text)
        if path.suffix.lower() == ".csv":
            return None
        if path.name.startswith("text") and labels_beside(path).is_file():
            return "nemo"
        with path.open("rb") as file:
            return "klue" if file.read(5).removeprefix(b"\xef\xbb\xbf").startswith(b"##") else "conll"


def _of_sentence(sentence: Sentence, between: str, task: "TaskConfig") -> Tagged | Refused:
    units, start = [], 0
    for unit in sentence.units:
        units.append((start, start + len(unit)))
        start += len(unit) + len(between)
    text = between.join(sentence.units)
    if not text.strip():
        return Refused(sentence.line, "the sentence is empty")
    if sentence.tags is None:
        return Tagged(sentence.line, text, units, None)
    check, to_iob2 = SCHEMES[task.scheme]
    if fault := check(sentence.tags):
        return _fault(sentence, *fault)
    tags = to_iob2(sentence.tags)
    repaired = sum(map(operator.ne, tags, sentence.tags)) if task.scheme == "iob2_repaired" else 0
    return Tagged(sentence.line, text, units, tags, sentence.tags_in, repaired)


def _fault(sentence: Sentence | Tagged, place: int, why: str) -> Refused:
    """A fault of one unit's tag: units are one a line, or all tags are on one line."""
    if sentence.tags_in is None:
        return Refused(sentence.line + place, why)
    return Refused(sentence.line, f"tag {place + 1} of {sentence.tags_in}: {why}")
