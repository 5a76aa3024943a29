"""What a labelled file holds: rows with fields, or sentences of tagged units. One line of FORMATS each.

Readers stream and give Row, Sentence or Refused, in the file's order; `line` is where each begins, from 1.
"""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bert.errors import UserError
from bert.registry import did_you_mean


@dataclass(frozen=True)
class Row:
    """Fields by name; in a file without a header line, by number from 1."""

    line: int
    fields: dict[str, str]


@dataclass(frozen=True)
class Sentence:
    """Characters (with their spaces) or words, and a tag for each; no tags where the file has none."""

    line: int
    units: list[str]
    tags: list[str] | None


@dataclass(frozen=True)
class Asked:
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
        read: from a path and the names of the fields that are needed, to what the file holds.
        holds: rows, words, characters or questions.
    """

    read: Callable[[Path, tuple[str, ...]], Iterator[Row | Sentence | Asked | Refused]]
    holds: Literal["rows", "words", "characters", "questions"]


def read_tsv(path: Path, needed: tuple[str, ...]) -> Iterator[Row | Refused]:
    """Columns apart by one tab; quotation marks are text."""
    return _table(path, needed, lambda lines: ((line, text.split("\t")) for line, text in lines))


def read_csv(path: Path, needed: tuple[str, ...]) -> Iterator[Row | Refused]:
    """Columns apart by commas, quoted where they hold one (RFC 4180)."""

    def split(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
        reader = csv.reader((f"{text}\n" for _, text in lines), strict=True)
        begin = 1
        try:
            for columns in reader:
                yield begin, columns
                begin = reader.line_num + 1
        except csv.Error as error:
            raise UserError(f"{path}:{begin}: not CSV: {error} (is a quotation mark open?).") from error

    return _table(path, needed, split)


def read_jsonl(path: Path, needed: tuple[str, ...]) -> Iterator[Row | Refused]:
    """One JSON object per line."""
    for line, text in numbered_lines(path):
        if text.strip():
            try:
                yield _object(line, json.loads(text), needed)
            except ValueError as error:
                yield Refused(line, f"not a JSON object: {error}")


def read_json(path: Path, needed: tuple[str, ...]) -> Iterator[Row | Refused]:
    """One JSON array of objects, as KLUE has it."""
    text = "\n".join(text for _, text in numbered_lines(path))
    decoder, place, line = json.JSONDecoder(), _skip(text, 0), 1
    if text[place : place + 1] != "[":
        raise UserError(f"{path}:1: not a JSON array of objects; one object per line is data.format=jsonl.")
    at = 0
    place = _skip(text, place + 1)
    while text[place : place + 1] != "]":
        line += text.count("\n", at, place)
        at = place
        try:
            value, place = decoder.raw_decode(text, place)
        except ValueError as error:
            raise UserError(f"{path}:{line}: not JSON: {error}.") from error
        yield _object(line, value, needed)
        place = _skip(text, place)
        if text[place : place + 1] == ",":
            place = _skip(text, place + 1)
        elif text[place : place + 1] != "]":
            raise UserError(f"{path}:{line}: the array is not closed: no ',' or ']' after this object.")


def read_conll(path: Path, needed: tuple[str, ...]) -> Iterator[Sentence | Refused]:
    """A word per line, its tag in the last column, a blank line after a sentence (CoNLL-2003)."""
    return _tagged(path, comments=("-DOCSTART-",), tagged="tag" in needed)


def read_klue(path: Path, needed: tuple[str, ...]) -> Iterator[Sentence | Refused]:
    """A character per line, spaces too, a tab and its tag; lines that begin with ## are comments."""
    return _tagged(path, comments=("##",), tagged="tag" in needed, characters=True)


def read_squad(path: Path, needed: tuple[str, ...]) -> Iterator[Asked | Refused]:
    """Articles, paragraphs, questions, as SQuAD 1.1 and 2.0 and KorQuAD 1 have them (Rajpurkar et al. 2018)."""
    text = "\n".join(text for _, text in numbered_lines(path))
    try:
        articles = json.loads(text)["data"]
        paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
        asked = [(paragraph["context"], question) for paragraph in paragraphs for question in paragraph["qas"]]
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON: {error.msg} at column {error.colno}.") from error
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}:1: not SQuAD's form (data, paragraphs, context, qas): {error!r}.") from error
    at, line = 0, 1
    for context, question in asked:
        name = question.get("id") if isinstance(question, dict) else None
        place = text.find(json.dumps(name, ensure_ascii=False), at) if isinstance(name, str) else -1
        if place >= 0:
            line, at = line + text.count("\n", at, place), place
        yield _asked(line, context, question, "answers" in needed)


def _asked(line: int, context: object, question: object, labelled: bool) -> Asked | Refused:
    if not isinstance(context, str) or not context.strip():
        return Refused(line, "a context that is no text")
    if not isinstance(question, dict) or not isinstance(question.get("question"), str):
        return Refused(line, "a question without its text")
    name, asked = str(question.get("id", line)), question["question"].strip()
    if not asked:
        return Refused(line, f"question {name}: empty")
    if not labelled:
        return Asked(line, name, asked, context, [])
    answers = question.get("answers")
    if not isinstance(answers, list):
        return Refused(line, f"question {name}: no list of answers")
    if question.get("is_impossible") is True:
        return Asked(line, name, asked, context, [])
    found = []
    for answer in answers:
        start, said = (answer.get("answer_start"), answer.get("text")) if isinstance(answer, dict) else (None, None)
        if isinstance(start, bool) or not isinstance(start, int) or not isinstance(said, str) or not said.strip():
            return Refused(line, f"question {name}: an answer needs a text and answer_start, a whole number")
        if start < 0 or context[start : start + len(said)] != said:
            there = context[max(0, start) : max(0, start) + len(said)]
            return Refused(line, f"question {name}: the answer {said!r} does not stand at {start}: {there!r} does")
        found.append((start, said))
    if not found and question.get("is_impossible") is None:
        return Refused(line, f"question {name}: no answer, and nothing says that there is none (is_impossible)")
    if not found:
        return Refused(line, f"question {name}: no answer, but is_impossible is {question['is_impossible']!r}")
    return Asked(line, name, asked, context, found)


FORMATS = {
    "tsv": Format(read_tsv, "rows"),
    "csv": Format(read_csv, "rows"),
    "jsonl": Format(read_jsonl, "rows"),
    "json": Format(read_json, "rows"),
    "conll": Format(read_conll, "words"),
    "klue": Format(read_klue, "characters"),
    "squad": Format(read_squad, "questions"),
}


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """A text file's lines with their numbers, from 1, without line ends; strict UTF-8, a BOM left out."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                byte = raw[error.start]
                raise UserError(
                    f"{path}:{number}: byte {byte:#04x} at column {error.start + 1} is not UTF-8."
                ) from None
            yield number, text.removesuffix("\n").removesuffix("\r")


def _table(path: Path, needed: tuple[str, ...], split) -> Iterator[Row | Refused]:
    by_number = all(name.isdecimal() for name in needed)
    names: list[str] | None = None
    for line, columns in split(numbered_lines(path)):
        if columns in ([""], []):
            continue
        if names is None:
            names = [str(number) for number in range(1, len(columns) + 1)] if by_number else columns
            _refuse_unknown(f"{path}:{line}", names, needed)
            if not by_number:
                continue
        if len(columns) == len(names):
            yield Row(line, dict(zip(names, columns, strict=True)))
        else:
            yield Refused(line, f"{len(columns)} columns, but line 1 has {len(names)} ({', '.join(names)})")


def _refuse_unknown(where: str, names: list[str], needed: tuple[str, ...]) -> None:
    twice = [name for name in needed if names.count(name) > 1]
    if twice:
        raise UserError(*(f"{where}: the column {name!r} is there {names.count(name)} times." for name in twice))
    unknown = [name for name in needed if name not in names]
    if unknown:
        raise UserError(
            *(
                f"{where}: no column {name!r}; it has {', '.join(map(repr, names))}{did_you_mean(name, names)}. "
                f"Without a header line, columns go by number from 1."
                for name in unknown
            )
        )


def _object(line: int, value: object, needed: tuple[str, ...]) -> Row | Refused:
    if not isinstance(value, dict):
        return Refused(line, f"a JSON {type(value).__name__}, where an object is needed")
    for name in needed:
        if name not in value:
            return Refused(line, f"no field {name!r}; it has {', '.join(value)}{did_you_mean(name, value)}")
        if isinstance(value[name], dict | list) or value[name] is None:
            return Refused(line, f"the field {name!r} holds a {type(value[name]).__name__}, not text or a number")
    return Row(line, {name: value[name] if isinstance(value[name], str) else str(value[name]) for name in needed})


def _tagged(
    path: Path, comments: tuple[str, ...], tagged: bool, characters: bool = False
) -> Iterator[Sentence | Refused]:
    begin, units, tags, fault = 0, [], [], None
    for line, text in _ended(numbered_lines(path)):
        if text.startswith(comments) and not units:
            continue
        if text == "" or (not characters and not text.strip()):
            if fault:
                yield fault
            elif units:
                yield Sentence(begin, units, tags if tagged else None)
            begin, units, tags, fault = 0, [], [], None
            continue
        columns = text.split("\t") if characters or "\t" in text else text.split()
        begin = begin or line
        fault = fault or _unit_fault(line, columns, tagged, characters)
        units.append(columns[0])
        tags.append(columns[-1])


def _unit_fault(line: int, columns: list[str], tagged: bool, characters: bool) -> Refused | None:
    if tagged and len(columns) < 2:
        return Refused(line, f"{columns[0]!r} has no tag; each line is a unit, a tab and its tag")
    if characters and len(columns[0]) != 1:
        return Refused(line, f"{columns[0]!r} is no single character; words are read with data.format=conll")
    if not characters and not columns[0].strip():
        return Refused(line, "a tag without a word; characters with spaces are read with data.format=klue")
    return None


def _ended(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    yield from lines
    yield 0, ""


def _skip(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n":
        place += 1
    return place
