"""What a labelled file holds: rows with fields, or sentences of tagged units. One line of FORMATS each.

Readers stream and give Row, Sentence or Refused, in the file's order; `line` is where each begins, from 1. A line ends
in LF or CRLF, and nowhere else.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
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
    """Characters (with their spaces) or words, and a tag for each; no tags where the file has none.

    `tags_in` names the file that holds the tags, where that is another one: all of a sentence's are on one line of it.
    """

    line: int
    units: list[str]
    tags: list[str] | None
    tags_in: str | None = None


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
        read: from a path and the columns that are needed, to what the file holds. Sentences: the column of the word,
            then that of its tag where tags are read.
        holds: rows, words, characters or questions.
        options: which of DataConfig's text, text_pair, label and quoting say how it is read.
        quoting: whether quotation marks enclose fields, unless data.quoting says; given to `read`. None where the
            format knows no such choice.
    """

    read: Callable[..., Iterator[Row | Sentence | Asked | Refused]]
    holds: Literal["rows", "words", "characters", "questions"]
    options: tuple[str, ...] = ()
    quoting: bool | None = None


LAST = "last"
"""The tag's column in sentences, unless its number is given."""

_LONGEST_FIELD = 2**31 - 1  # characters; the library's own limit, 131,072, is shorter than a long document


def read_tsv(path: Path, needed: tuple[str, ...], quoting: bool = False) -> Iterator[Row | Refused]:
    """Columns apart by one tab; quotation marks are text unless `quoting`."""
    return _table(path, needed, "\t", quoting)


def read_csv(path: Path, needed: tuple[str, ...], quoting: bool = True) -> Iterator[Row | Refused]:
    """Columns apart by commas, quoted where they hold one (RFC 4180)."""
    return _table(path, needed, ",", quoting)


def read_jsonl(path: Path, needed: tuple[str, ...]) -> Iterator[Row | Refused]:
    """One JSON object per line."""
    for line, text in numbered_lines(path):
        if text.strip():
            try:
                yield _object(line, json.loads(text, object_pairs_hook=_noting_repeats), needed)
            except (ValueError, RecursionError) as error:
                yield Refused(line, f"not a JSON object: {error}")


def read_json(path: Path, needed: tuple[str, ...]) -> Iterator[Row | Refused]:
    """One JSON array of objects, as KLUE has it."""
    text = "\n".join(text for _, text in numbered_lines(path))
    decoder, place, line = json.JSONDecoder(object_pairs_hook=_noting_repeats), _skip(text, 0), 1
    if text[place : place + 1] != "[":
        raise UserError(f"{path}:1: not a JSON array of objects; one object per line is data.format=jsonl.")
    at = 0
    place = _skip(text, place + 1)
    while text[place : place + 1] != "]":
        line += text.count("\n", at, place)
        at = place
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}:{line}: not JSON: {error}.") from error
        yield _object(line, value, needed)
        place = _skip(text, place)
        if text[place : place + 1] == ",":
            place = _skip(text, place + 1)
        elif text[place : place + 1] != "]":
            raise UserError(f"{path}:{line}: the array is not closed: no ',' or ']' after this object.")
    if (after := _skip(text, place + 1)) < len(text):
        line += text.count("\n", at, after)
        raise UserError(f"{path}:{line}: the array is closed, but the file goes on; it must be all there is.")


def read_conll(path: Path, needed: tuple[str, ...]) -> Iterator[Sentence | Refused]:
    """A word per line with its tag, a blank line after a sentence (CoNLL-2003).

    Columns are apart by tabs, or else by spaces. Where the tag's is the last, every line must have as many as the first
    one: in a shorter one the last is something else.
    """
    first: tuple[int, int] | None = None

    def unit_of(line: int, text: str) -> tuple[str, str] | Refused:
        nonlocal first
        columns = text.split("\t") if "\t" in text else _words(text)
        first = first or (line, len(columns))
        found = _word_and_tag(line, columns, needed)
        if needed[1:] in ((LAST,), ()) and len(columns) != first[1] and not isinstance(found, Refused):
            return Refused(line, f"{len(columns)} columns, but line {first[0]} has {first[1]}")
        return found

    return _tagged(path, ("-DOCSTART-",), len(needed) > 1, lambda text: not text.strip(), unit_of)


def _word_and_tag(line: int, columns: list[str], needed: tuple[str, ...]) -> tuple[str, str] | Refused:
    if needed[1:] == (LAST,) and len(columns) < 2:
        return Refused(line, f"{columns[0]!r} has no tag; each line is a unit, a tab and its tag")
    found = []
    for number in needed:
        if number != LAST and int(number) > len(columns):
            return Refused(line, f"no column {number}; the line has {len(columns)}")
        found.append(columns[-1 if number == LAST else int(number) - 1])
    if not found[0].strip():
        return Refused(line, "a tag without a word; characters with spaces are read with data.format=klue")
    return found[0], found[-1]


def read_klue(path: Path, needed: tuple[str, ...]) -> Iterator[Sentence | Refused]:
    """A character per line, spaces too, a tab and its tag; lines that begin with ## are comments."""
    tagged = len(needed) > 1

    def is_blank(text: str) -> bool:
        return not text or (tagged and not text.strip() and "\t" not in text)  # without tags it is a space

    def unit_of(line: int, text: str) -> tuple[str, str] | Refused:
        character, tab, tag = text.rpartition("\t")  # a tab may be the character too
        if tagged and not tab:
            return Refused(line, f"{text!r} has no tag; each line is a unit, a tab and its tag")
        if len(character or tag) != 1:
            return Refused(line, f"{character or tag!r} is no single character; words are read with data.format=conll")
        if tagged and not character:
            return Refused(line, "a tag without a character")
        return character or tag, tag

    return _tagged(path, ("##",), tagged, is_blank, unit_of)


def read_nemo(path: Path, needed: tuple[str, ...]) -> Iterator[Sentence | Refused]:
    """A sentence per line, words apart by spaces; their tags likewise, in another file beside it (NVIDIA NeMo's
    text_train.txt and labels_train.txt).

    Raises:
        UserError: there is no such other file, or it has more lines or fewer.
    """
    if len(needed) == 1:
        yield from (Sentence(line, _words(text), None) for line, text in numbered_lines(path) if _words(text))
        return
    beside = labels_beside(path)
    if not beside.is_file() or beside == path:
        wanted = f"'{beside}', and there is none" if beside != path else "a file whose name has `labels` for its `text`"
        raise UserError(f"{path}:1: its tags are needed beside it, in {wanted}.")
    for of_text, of_tags in zip_longest(numbered_lines(path), numbered_lines(beside)):
        if of_text is None or of_tags is None:
            longer, shorter, line = (path, beside, of_text) if of_tags is None else (beside, path, of_tags)
            raise UserError(f"{longer}:{line[0]}: '{shorter}' has no such line; it ends before.")
        line, words, tags = of_text[0], _words(of_text[1]), _words(of_tags[1])
        if "\r" in of_text[1] + of_tags[1]:
            yield Refused(line, f"{CARRIAGE_RETURN} (here or in {beside}:{line})")
        elif len(words) != len(tags):
            yield Refused(line, f"{len(words)} words, but {beside}:{line} has {len(tags)} tags")
        elif words:
            yield Sentence(line, words, tags, str(beside))


def labels_beside(path: Path) -> Path:
    """The file with the tags of NeMo's file of texts: `labels` for the `text` in its name."""
    return path.with_name(path.name.replace("text", "labels", 1))


_COLUMNS = ("text", "text_pair", "label")


def read_squad(path: Path, needed: tuple[str, ...]) -> Iterator[Asked | Refused]:
    """Articles, paragraphs, questions, as SQuAD 1.1 and 2.0 and KorQuAD 1 have them (Rajpurkar et al. 2018)."""
    text = "\n".join(text for _, text in numbered_lines(path))
    try:
        articles = json.loads(text)["data"]
        paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
        asked = [(paragraph["context"], question) for paragraph in paragraphs for question in paragraph["qas"]]
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON: {error.msg} at column {error.colno}.") from error
    except (KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}:1: not SQuAD's form (data, paragraphs, context, qas): {error!r}.") from error
    if not asked:
        raise UserError(f"{path}:1: no question in it.")
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
    "tsv": Format(read_tsv, "rows", (*_COLUMNS, "quoting"), quoting=False),
    "csv": Format(read_csv, "rows", (*_COLUMNS, "quoting"), quoting=True),
    "jsonl": Format(read_jsonl, "rows", _COLUMNS),
    "json": Format(read_json, "rows", _COLUMNS),
    "conll": Format(read_conll, "words", ("text", "label")),
    "klue": Format(read_klue, "characters"),
    "nemo": Format(read_nemo, "words"),
    "squad": Format(read_squad, "questions"),
}


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """A text file's lines with their numbers, from 1, without line ends; strict UTF-8, a BOM left out."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            yield number, text_of_line(raw, number, str(path))


def text_of_line(raw: bytes, number: int, name: str) -> str:
    """A line's text without its end.

    Args:
        raw: its bytes.
        number: from 1; the first may begin with a BOM, which is left out.
        name: of what it is from, for errors.

    Raises:
        UserError: it is not UTF-8, or holds a zero byte, as UTF-16 does and text does not.
    """
    try:
        text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        byte = raw[error.start]
        raise UserError(
            f"{name}:{number}: byte {byte:#04x} at column {error.start + 1} is not UTF-8; CP949 becomes it by "
            f"`iconv -f CP949 -t UTF-8`, UTF-16 likewise."
        ) from None
    if "\0" in text:
        column = raw.index(b"\0") + 1
        raise UserError(f"{name}:{number}: byte 0x00 at column {column} is no text; is the file in UTF-16?")
    return text.removesuffix("\n").removesuffix("\r")


def _table(path: Path, needed: tuple[str, ...], separator: str, quoting: bool) -> Iterator[Row | Refused]:
    by_number = all(name.isdecimal() for name in needed)
    names, header = None, 0
    for line, columns in (_quoted if quoting else _unquoted)(path, separator):
        if columns in ([""], []) and (names is None or len(names) > 1):
            continue
        if names is None:
            names, header = [str(number) for number in range(1, len(columns) + 1)] if by_number else columns, line
            _refuse_unknown(f"{path}:{line}", names, needed)
            if not by_number:
                continue
        if not quoting and "\r" in separator.join(columns):
            yield Refused(line, CARRIAGE_RETURN)
        elif len(columns) == len(names):
            yield Row(line, dict(zip(names, columns, strict=True)))
        else:
            yield Refused(line, f"{len(columns)} columns, but line {header} has {len(names)} ({', '.join(names)})")


def _unquoted(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    return ((line, text.split(separator)) for line, text in numbered_lines(path))


def _quoted(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader((f"{text}\n" for _, text in numbered_lines(path)), delimiter=separator, strict=True)
    begin = 1
    try:
        for columns in reader:
            yield begin, columns or [""]
            begin = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{path}:{begin}: not CSV: {error} (is a quotation mark open? data.quoting=off takes them as text)."
        ) from error


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


_REPEATED = object()
"""Stands for the values of a field that a JSON object has more than once."""


def _noting_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        found[name] = _REPEATED if name in found else value
    return found


def _object(line: int, value: object, needed: tuple[str, ...]) -> Row | Refused:
    if not isinstance(value, dict):
        return Refused(line, f"a JSON {type(value).__name__}, where an object is needed")
    for name in needed:
        if name not in value:
            return Refused(line, f"no field {name!r}; it has {', '.join(value)}{did_you_mean(name, value)}")
        if value[name] is _REPEATED:
            return Refused(line, f"the field {name!r} is there more than once")
        if isinstance(value[name], dict | list) or value[name] is None:
            return Refused(line, f"the field {name!r} holds a {type(value[name]).__name__}, not text or a number")
        if isinstance(value[name], str) and (half := _half_of_a_pair(value[name])):
            return Refused(line, f"the field {name!r} holds {half}, half of a surrogate pair, which is no character")
    return Row(line, {name: value[name] if isinstance(value[name], str) else str(value[name]) for name in needed})


def _half_of_a_pair(text: str) -> str | None:
    """JSON can spell what no text in UTF-8 holds."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"\\u{ord(text[error.start]):04x}"
    return None


CARRIAGE_RETURN = "a carriage return inside the line; lines end in LF or CRLF"


def _tagged(
    path: Path,
    comments: tuple[str, ...],
    tagged: bool,
    is_blank: Callable[[str], bool],
    unit_of: Callable[[int, str], tuple[str, str] | Refused],
) -> Iterator[Sentence | Refused]:
    """Sentences of a unit per line; of one with faults the first is given."""
    begin, units, tags, fault = 0, [], [], None
    for line, text in _ended(numbered_lines(path)):
        if text.startswith(comments) and not begin:
            continue
        if is_blank(text):
            if fault:
                yield fault
            elif units:
                yield Sentence(begin, units, tags if tagged else None)
            begin, units, tags, fault = 0, [], [], None
            continue
        begin = begin or line
        found = Refused(line, CARRIAGE_RETURN) if "\r" in text else unit_of(line, text)
        if isinstance(found, Refused):
            fault = fault or found
        else:
            units.append(found[0])
            tags.append(found[1])


def _ended(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    yield from lines
    yield 0, ""


def _words(text: str) -> list[str]:
    return [word for word in text.split(" ") if word]  # split() alone would cut at no-break spaces and the like too


def _skip(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n":
        place += 1
    return place
