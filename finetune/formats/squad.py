"""Questions about texts, in SQuAD's JSON, which KorQuAD also uses."""

import json
from collections.abc import Iterator
from pathlib import Path

from bert.counting import count_of
from bert.errors import UserError
from bert.lines import lone_surrogate, numbered_lines
from finetune.formats.kinds import NAMES, QuestionRow, Refused


def read_squad(path: Path, needed: tuple[str, ...]) -> Iterator[QuestionRow | Refused]:
    """Articles, paragraphs, questions, as in SQuAD 1.1 and 2.0 and KorQuAD 1 (Rajpurkar et al. 2018)."""
    text = "\n".join(text for _, text in numbered_lines(path))
    try:
        articles = json.loads(text)["data"]
        paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
        asked = [(paragraph["context"], question) for paragraph in paragraphs for question in paragraph["qas"]]
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON: {error.msg} at column {error.colno}.") from error
    except (KeyError, TypeError, RecursionError) as error:
        form = "an object with data, a list of articles with paragraphs, each with a context and qas"
        raise UserError(f"{path}:1: not SQuAD's form: {form}. A question per row is the format squad_rows.") from error
    if not asked:
        raise UserError(f"{path}:1: no question in it.")
    at, line = 0, 1
    for number, (context, question) in enumerate(asked, 1):
        place = _place_of(question, text, at)
        if place >= 0:
            line, at = line + text.count("\n", at, place), place
        yield question_of(line, number, context, question, "answers" in needed)


def _place_of(question: object, text: str, at: int) -> int:
    """Where a question stands in the file, by its name or else its text; -1 where neither is found."""
    if not isinstance(question, dict):
        return -1
    known = [question[key] for key in (*NAMES, "question") if isinstance(question.get(key), str)]
    written = (json.dumps(value, ensure_ascii=escaped) for value in known for escaped in (False, True))
    return next((place for one in written if (place := text.find(one, at)) >= 0), -1)


def question_of(line: int, number: int, context: object, question: object, labelled: bool) -> QuestionRow | Refused:
    """The question made from JSON, or why there is none.

    Args:
        line: where it begins, from 1.
        number: its name if it has none of its own.
        context: the text that it is about.
        question: an object with `question` and, if `labelled`, `answers`: a list of objects with `text` and
            `answer_start`, empty only with `is_impossible`.
        labelled: whether answers are read too.
    """
    if not isinstance(context, str) or not context.strip():
        return Refused(line, "a context that is not text")
    if not isinstance(question, dict) or not isinstance(question.get("question"), str):
        return Refused(line, "a question without its text")
    name = next((str(question[key]) for key in NAMES if isinstance(question.get(key), str | int)), str(number))
    asked = question["question"].strip()
    if not asked:
        return Refused(line, f"question {name}: empty")
    for what, told in (("id", name), ("question", asked), ("context", context)):
        if half := lone_surrogate(told):
            return Refused(line, f"{what} of a question: it holds {half}")
    if not labelled:
        return QuestionRow(line, name, asked, context, [])
    answers = question.get("answers")
    if not isinstance(answers, list):
        return Refused(line, f"question {name}: no list of answers")
    if question.get("is_impossible") is True and answers:
        meant = "plausible ones belong in plausible_answers"
        return Refused(line, f"question {name}: {count_of(len(answers), 'answer')}, but is_impossible is True; {meant}")
    if question.get("is_impossible") is True:
        return QuestionRow(line, name, asked, context, [])
    found = []
    for answer in answers:
        start, said = (answer.get("answer_start"), answer.get("text")) if isinstance(answer, dict) else (None, None)
        if isinstance(start, bool) or not isinstance(start, int) or not isinstance(said, str) or not said.strip():
            return Refused(line, f"question {name}: an answer needs a text and answer_start, a whole number")
        if start < 0 or context[start : start + len(said)] != said:
            there = context[max(0, start) : max(0, start) + len(said)]
            return Refused(line, f"question {name}: the answer {said!r} is not at {start}: {there!r} is")
        found.append((start, said))
    if not found and question.get("is_impossible") is None:
        return Refused(line, f"question {name}: no answer, and nothing says that there is none (is_impossible)")
    if not found:
        return Refused(line, f"question {name}: no answer, but is_impossible is {question['is_impossible']!r}")
    return QuestionRow(line, name, asked, context, found)
