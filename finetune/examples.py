"""Labelled examples, read from files of any format; every row is used or refused, and counted."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bert.counting import count_of
from bert.errors import UserError, refuse_if
from finetune.config import DataConfig, TaskConfig
from finetune.example_kinds import Example, Question, Tagged
from finetune.example_kinds.kind import HowRead
from finetune.formats import FORMATS
from finetune.formats.kinds import PassedOver, Refused
from finetune.reading import foreign_options, format_name, needed_columns, quoting_of, with_column_names
from finetune.tasks import kind_of

MOST_FAULTS = 10
"""Maximum faults reported together."""


@dataclass(frozen=True)
class Examples:
    """The examples of a file.

    Attributes:
        path: of the file.
        used: the examples.
        rows: how many rows or sentences the file has.
        refused: lines left out, and why.
        passed_over: lines beside these that are no data, by what they are.
        unseen: how many rows were left out for a label that the training data lacks.
    """

    path: Path
    used: list[Example]
    rows: int
    refused: list[str]
    passed_over: Counter[str] = field(default_factory=Counter)
    unseen: int = 0

    def in_words(self, argument: str) -> str:
        """Rows in = rows used + rows refused."""
        shown = "".join(f"\n  {fault}" for fault in self.refused[:MOST_FAULTS])
        counts = f"{count_of(self.rows, 'row')}, {len(self.used):,} used, {len(self.refused):,} refused"
        counts += passed_over_in_words(self.passed_over)
        if self.trimmed:
            begin = "entity begins or ends" if self.trimmed == 1 else "entities begin or end"
            counts += f"; {self.trimmed:,} {begin} with a space, which is trimmed"
        if self.repaired:
            were = "tag that continues nothing was" if self.repaired == 1 else "tags that continue nothing were"
            counts += f"; {self.repaired:,} I- {were} made B-"
        if self.with_shared_id:
            share = f"{self.with_shared_id:,} questions share an id with another"
            counts += f"; {share}; SQuAD's official script counts each id once"
        return f"{argument}: {self.path}: {counts}{shown}{self._unseen_in_words(argument)}"

    def _unseen_in_words(self, argument: str) -> str:
        """A warning that scores are not over all rows; nothing where they are."""
        if not self.unseen:
            return ""
        rows = "1 row has a label" if self.unseen == 1 else f"{self.unseen:,} rows have labels"
        return (
            f"\n{argument}: WARNING: {rows} that the training data lacks; scores are over the others, and so too high"
        )

    @property
    def called(self) -> str:
        """What one of the examples is, in messages."""
        return "question" if isinstance(self.used[0], Question) else "text"

    @property
    def trimmed(self) -> int:
        """How many entities begin or end on a space in the file."""
        tagged = [example for example in self.used if isinstance(example, Tagged)]
        return sum(span not in example.entities for example in tagged for span in example.marked)

    @property
    def repaired(self) -> int:
        """How many tags were changed, since they violated the file's scheme."""
        return sum(example.repaired for example in self.used if isinstance(example, Tagged))

    @property
    def with_shared_id(self) -> int:
        """How many questions have an id that another has too."""
        times = Counter(example.id for example in self.used if isinstance(example, Question))
        return sum(count for count in times.values() if count > 1)

    def shared_with(self, other: "Examples") -> int:
        """How many of the other's examples have the same text as one of these."""
        known = {_text_of(example) for example in self.used}
        return sum(_text_of(example) in known for example in other.used)


def read(path: Path, task: TaskConfig, data: DataConfig, argument: str, labels: list[str] | None = None) -> Examples:
    """Read a labelled file.

    Args:
        path: the file.
        task, data: how it is read.
        argument: the option that names the path, for errors.
        labels: those of the training data; any other is a fault. None where they are yet to be collected.

    Raises:
        UserError: the file cannot be read, or has malformed rows (all faults, up to MOST_FAULTS, with file and line),
            or no usable one.
    """
    used, refused, rows, unseen, passed_over, kind = [], [], 0, 0, Counter(), kind_of(task)
    for item in stream(path, task, data, argument, labelled=True):
        if isinstance(item, PassedOver):
            passed_over[item.what] += 1
            continue
        rows += 1
        fault = item if isinstance(item, Refused) else None
        if fault is None and labels is not None:
            fault = kind.unseen(item, labels)
            unseen += fault is not None
        if fault is None:
            used.append(item)
            continue
        refused.append(f"{path}:{fault.line}: {fault.why}.")
        if data.on_bad_row == "error" and len(refused) == MOST_FAULTS:
            break
    if refused and data.on_bad_row == "error":
        skipping = "data.on_bad_row=skip leaves out rows like these."
        no_row = "no row up to there can be used; data.format, data.text and data.label say how the file is read."
        raise UserError(*refused, f"{argument}: {skipping if used else no_row}")
    if not used:
        raise UserError(
            f"{argument}: {path}:1: no row in the file" + (f": all {rows} were refused." if rows else "."), *refused[:3]
        )
    return Examples(path, used, rows, refused, passed_over, unseen)


def stream(
    path: Path, task: TaskConfig, data: DataConfig, argument: str, labelled: bool
) -> Iterator[Example | Refused | PassedOver]:
    """Read examples one at a time; without labels if not `labelled`."""
    if not path.is_file():
        raise UserError(f"{argument}: {'a folder' if path.is_dir() else 'no such file'}: '{path}'.")
    prefix, kind = "data." if argument.startswith("data.") else "", kind_of(task)
    name = format_name(path, task, data, prefix)
    format_ = FORMATS[name]
    if format_.holds not in kind.holds and (labelled or format_.holds != "rows"):
        wanted = ", ".join(known for known, other in FORMATS.items() if other.holds in kind.holds)
        needs = f"but task.name={task.name} needs one of {wanted}"
        raise UserError(f"{prefix}format: {name} holds {format_.holds}, {needs}.")
    refuse_if(foreign_options(data, name, prefix))
    needed, data = needed_columns(format_, data, labelled), with_column_names(format_, data)
    how = HowRead(task, data, format_.holds, labelled)
    for item in format_.read(path, needed, **quoting_of(format_, data)):
        yield item if isinstance(item, Refused | PassedOver) else kind.of(item, how)


def passed_over_in_words(passed_over: Counter[str]) -> str:
    """How many lines are no data, to follow other counts; nothing where there are none."""
    counts = [count_of(number, what) for what, number in sorted(passed_over.items())]
    return f"; {' and '.join(counts)} passed over" if counts else ""


def _text_of(example: Example) -> tuple[str, str | None]:
    return example.text, getattr(example, "text_pair", None)
