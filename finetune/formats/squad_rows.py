"""Questions about texts, one a row, as Hugging Face datasets writes SQuAD."""

import re
from collections.abc import Iterator
from pathlib import Path

from bert.lines import numbered_lines
from finetune.formats.kinds import PassedOver, QuestionRow, Refused
from finetune.formats.squad import question_of
from finetune.formats.tables import array_of, json_object, object_with

_TEXTS, _STARTS = "text", "answer_start"


def read_squad_rows(path: Path, needed: tuple[str, ...]) -> Iterator[QuestionRow | Refused | PassedOver]:
    """An object per line, or one array of objects: question, context, and its answers' texts and places as two lists.

    Both are empty where there is no answer, or `is_impossible` is true.
    """
    fields = ("question", "context", *needed)
    if _begins(path).startswith("["):
        for number, (line, value) in enumerate(array_of(path), 1):
            found = _question(line, number, object_with(line, value, fields), "answers" in needed)
            # All of them may be on one line.
            yield Refused(line, f"object {number}: {found.why}") if isinstance(found, Refused) else found
        return
    for line, text in numbered_lines(path):
        if not text.strip():
            yield PassedOver(line)
        else:
            yield _question(line, line, json_object(line, text, fields), "answers" in needed)


def holds_squad_rows(path: Path) -> bool:
    """Whether a JSON file is an array, or JSON lines of which one has answers as lists."""
    return _begins(path).startswith("[") or any(
        re.search(r'"answers"\s*:\s*\{', text) for _, text in numbered_lines(path)
    )


def _begins(path: Path) -> str:
    """The first line that is not blank."""
    return next((text.lstrip() for _, text in numbered_lines(path) if text.strip()), "")


def _question(line: int, number: int, row: dict[str, object] | Refused, labelled: bool) -> QuestionRow | Refused:
    if isinstance(row, Refused):
        return row
    if not labelled:
        return question_of(line, number, row["context"], row, labelled)
    answers = row["answers"]
    lists = [answers.get(name) for name in (_TEXTS, _STARTS)] if isinstance(answers, dict) else []
    if not lists or not all(isinstance(one, list) for one in lists) or len(lists[0]) != len(lists[1]):
        return Refused(line, f"the field 'answers' needs two lists, equally long: {_TEXTS!r} and {_STARTS!r}")
    none = row.get("is_impossible")
    # KLUE's rows list plausible answers there.
    listed = [] if none is True else [{_TEXTS: text, _STARTS: start} for text, start in zip(*lists, strict=True)]
    row = row | {"answers": listed, "is_impossible": not listed if none is None else none}
    return question_of(line, number, row["context"], row, labelled)
