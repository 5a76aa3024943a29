"""A question about a text."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bert.counting import count_of
from bert.errors import UserError
from bert.lines import lone_surrogate
from finetune.example_kinds.kind import ExampleKind, HowRead, texts_of
from finetune.formats.kinds import NAMES, QuestionRow, Refused, Row
from finetune.formats.squad_rows import holds_squad_rows

if TYPE_CHECKING:
    from finetune.config import DataConfig, TaskConfig

NO_ANSWER = "no answer"
"""The label of a question without one."""


@dataclass(frozen=True)
class Question:
    """A question about a text.

    Attributes:
        line: its line in the file, from 1.
        id: its id in the file or, where it has none, a number: its line in a table, its place among a file's questions.
        text: the question.
        text_pair: the text that may hold the answer.
        answers: the answers' ranges in that text, start and end; empty where it holds none; None where unlabelled.
    """

    line: int
    id: str
    text: str
    text_pair: str
    answers: tuple[tuple[int, int], ...] | None


class WithAnswers(ExampleKind[Question]):
    """Answers as ranges in the text, or none."""

    holds = ("questions",)
    columns = ("question", "context")
    windows = True

    def of(self, item: Row | QuestionRow, how: HowRead) -> Question | Refused:
        """A question with its answers, stripped of surrounding spaces; or a row's two texts without any."""
        if isinstance(item, Row):
            return self._of_row(item, how)
        places = []
        for start, said in item.answers:
            start += len(said) - len(said.lstrip())
            places.append((start, start + len(said.strip())))
        return Question(item.line, item.id, item.question, item.context, tuple(places) if how.labelled else None)

    def _of_row(self, row: Row, how: HowRead) -> Question | Refused:
        texts = texts_of(row, how.data)
        if isinstance(texts, Refused):
            return texts
        name = next((row.fields[key] for key in NAMES if row.fields.get(key, "").strip()), str(row.line))
        if half := lone_surrogate(name):
            return Refused(row.line, f"id of a question: it holds {half}")
        return replace(self.unlabelled(row.line, *texts), id=name)

    def unlabelled(self, line: int, text: str, text_pair: str | None = None) -> Question:
        """A question without answers; its line number is its id."""
        if text_pair is None:
            raise UserError(
                "text_pair: needed to answer a question: the text that may hold the answer, or its column in a table."
            )
        return Question(line, str(line), text.strip(), text_pair, None)

    def labels(self, examples: list[Question], task: "TaskConfig") -> list[str]:
        """`answer`, and `no answer` where some questions have none."""
        return ["answer", NO_ANSWER] if any(example.answers == () for example in examples) else ["answer"]

    def out_of_reach(self, examples: list[Question], labels: list[str]) -> str | None:
        """Questions without an answer, where the training data has none."""
        silent = sum(not example.answers for example in examples)
        if NO_ANSWER in labels or not silent:
            return None
        of_all = f"{silent:,} of its {count_of(len(examples), 'question')} {'has' if silent == 1 else 'have'} no answer"
        return f"{of_all}, but every question of the training data has one: the model can never say that there is none"

    def format_of(self, path: Path, data: "DataConfig") -> str | None:
        """.json is SQuAD's format; or rows of it, as .jsonl may hold, unless columns are named, which tables have."""
        ending = path.suffix.lower()
        if ending not in (".json", ".jsonl"):
            return None
        if not holds_squad_rows(path):
            return "squad" if ending == ".json" else None
        return "squad_rows" if data.text is None and data.text_pair is None else None
