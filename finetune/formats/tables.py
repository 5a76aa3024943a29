"""Rows with fields: TSV, CSV, JSON, JSONL."""

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path

from bert.counting import count_of
from bert.errors import UserError
from bert.lines import CARRIAGE_RETURN, lone_surrogate, numbered_lines
from bert.registry import did_you_mean
from finetune.formats.kinds import NAMES, PassedOver, Refused, Row

_LONGEST_FIELD = 2**31 - 1  # characters; the library's own limit, 131,072, is shorter than a long document


def read_tsv(path: Path, needed: tuple[str, ...], quoting: bool = False) -> Iterator[Row | Refused | PassedOver]:
    """Columns separated by single tabs; quotation marks are text unless `quoting`."""
    return _table(path, needed, "\t", quoting)


def read_csv(path: Path, needed: tuple[str, ...], quoting: bool = True) -> Iterator[Row | Refused | PassedOver]:
    """Columns separated by commas, quoted where they contain one (RFC 4180)."""
    return _table(path, needed, ",", quoting)


def read_jsonl(path: Path, needed: tuple[str, ...]) -> Iterator[Row | Refused | PassedOver]:
    """One JSON object per line."""
    return (row_of_json(line, text, needed) for line, text in numbered_lines(path))


def row_of_json(line: int, text: str, needed: tuple[str, ...]) -> Row | Refused | PassedOver:
    """The row on one line of JSONL; `line` is its number, from 1."""
    if not text.strip():
        return PassedOver(line)
    found = json_object(line, text, needed)
    return found if isinstance(found, Refused) else _row(line, found, needed)


def json_object(line: int, text: str, needed: tuple[str, ...]) -> dict[str, object] | Refused:
    """The object on one line of JSONL, with the fields that are needed, each once, or why there is none."""
    try:
        return object_with(line, _DECODER.decode(text), needed)
    except (ValueError, RecursionError) as error:
        return Refused(line, f"not a JSON object: {error}")


def object_with(line: int, value: object, needed: tuple[str, ...]) -> dict[str, object] | Refused:
    """A JSON value, if it is an object with the fields that are needed, each once; or why it is not."""
    if not isinstance(value, dict):
        return Refused(line, f"a JSON {type(value).__name__}, where an object is needed")
    for name in needed:
        if name not in value:
            return Refused(line, f"no field {name!r}; it has {', '.join(value)}{did_you_mean(name, value)}")
        if value[name] is _REPEATED:
            return Refused(line, f"the field {name!r} occurs more than once")
    return value


def read_json(path: Path, needed: tuple[str, ...]) -> Iterator[Row | Refused]:
    """One JSON array of objects, as in KLUE."""
    for number, (line, value) in enumerate(array_of(path), 1):
        item = object_with(line, value, needed)
        item = item if isinstance(item, Refused) else _row(line, item, needed)
        # All of them may be on one line.
        yield Refused(line, f"object {number}: {item.why}") if isinstance(item, Refused) else item


def array_of(path: Path) -> Iterator[tuple[int, object]]:
    """The values of a file that is one JSON array, each with the line it begins on, from 1.

    Raises:
        UserError: the file is something else, or ends too early.
    """
    text = "\n".join(text for _, text in numbered_lines(path))
    place, line = _skip(text, 0), 1
    if text[place : place + 1] != "[":
        raise UserError(f"{path}:1: not a JSON array of objects; one object per line is the format jsonl.")
    at = 0
    place = _skip(text, place + 1)
    while text[place : place + 1] != "]":
        line += text.count("\n", at, place)
        at = place
        try:
            value, place = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}:{line}: not JSON: {error}.") from error
        yield line, value
        place = _skip(text, place)
        if text[place : place + 1] == ",":
            place = _skip(text, place + 1)
        elif text[place : place + 1] != "]":
            raise UserError(f"{path}:{line}: the array is not closed: no ',' or ']' after this object.")
    if (after := _skip(text, place + 1)) < len(text):
        line += text.count("\n", at, after)
        raise UserError(f"{path}:{line}: the array is closed, but the file goes on; it must hold nothing else.")


def _table(path: Path, needed: tuple[str, ...], separator: str, quoting: bool) -> Iterator[Row | Refused | PassedOver]:
    by_number = all(name.isdecimal() for name in needed)
    names, header = None, 0
    for line, columns in (_quoted if quoting else _unquoted)(path, separator):
        if columns in ([""], []) and (names is None or len(names) > 1):
            yield PassedOver(line)
            continue
        if names is None:
            names, header = [str(number) for number in range(1, len(columns) + 1)] if by_number else columns, line
            _refuse_unknown(f"{path}:{line}", names, needed)
            if not by_number:
                continue
        if not quoting and "\r" in separator.join(columns):
            yield Refused(line, CARRIAGE_RETURN)
        elif not by_number and [columns[0].removeprefix("\ufeff"), *columns[1:]] == names:
            yield Refused(line, f"the header of line {header} again, as where files were joined")
        elif len(columns) == len(names):
            yield Row(line, dict(zip(names, columns, strict=True)))
        else:
            split = any(column[:1] == '"' and column[-1:] != '"' for column in columns) and not quoting
            hint = "; one begins with a quotation mark: data.quoting=on reads a quoted field as one" if split else ""
            has = f"line {header} has {len(names)} ({', '.join(names)})"
            yield Refused(line, f"{count_of(len(columns), 'column')}, but {has}{hint}")


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
            f"{path}:{begin}: not CSV: {error} (is a quotation mark left open? with quoting off they are text)."
        ) from error


def _refuse_unknown(where: str, names: list[str], needed: tuple[str, ...]) -> None:
    twice = [name for name in needed if names.count(name) > 1]
    if twice:
        raise UserError(*(f"{where}: the column {name!r} occurs {names.count(name)} times." for name in twice))
    unknown = [name for name in needed if name not in names]
    if unknown:
        if any("\r" in name for name in names):
            raise UserError(f"{where}: {CARRIAGE_RETURN}.")
        hint = _QUOTED if any(name[:1] == name[-1:] == '"' for name in names) else _NUMBERED
        if found := next((mark for mark in _SEPARATORS if {*needed} <= {*mark.join(names).split(mark)}), None):
            hint = f"Its columns seem to be separated by {_SEPARATORS[found]}"
        there = ", ".join(map(repr, names))
        close = {name: "" if found else did_you_mean(name, names) for name in unknown}
        raise UserError(*(f"{where}: no column {name!r}; it has {there}{close[name]}. {hint}" for name in unknown))


_JSON_NAMES = {dict: "an object", list: "an array", type(None): "null"}

_SEPARATORS = {
    "\t": "tabs: that is the format tsv.",
    ",": "commas: that is the format csv.",
    ";": "semicolons: save it with commas (csv) or tabs (tsv).",
}
"""What separates columns where the format's own separator does not, and what to do."""

_NUMBERED = "Without a header line, columns go by number from 1."
_QUOTED = "data.quoting=on reads names without their quotation marks."

_REPEATED = object()
"""Stands for the value of a field that occurs more than once in a JSON object."""


def _noting_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        found[name] = _REPEATED if name in found else value
    return found


class Number(float):
    """A number with a point or an exponent, which remembers how it is written."""

    def __new__(cls, text: str) -> "Number":
        number = super().__new__(cls, text)
        number.text = text
        return number


_DECODER = json.JSONDecoder(object_pairs_hook=_noting_repeats, parse_float=Number)


def _row(line: int, value: dict[str, object], needed: tuple[str, ...]) -> Row | Refused:
    for name in needed:
        if isinstance(value[name], dict | list) or value[name] is None:
            return Refused(line, f"the field {name!r} holds {_JSON_NAMES[type(value[name])]}, not text or a number")
        if isinstance(value[name], float) and not math.isfinite(value[name]):
            return Refused(line, f"the field {name!r} holds {value[name]}, which stands for a missing value")
        if isinstance(value[name], str) and (half := lone_surrogate(value[name])):
            return Refused(line, f"the field {name!r} holds {half}")
    names = (name for name in NAMES if type(value.get(name)) in (str, int))
    return Row(line, {name: _written(value[name]) for name in (*needed, *names)})


def _written(value: object) -> str:
    """A value of a field as it is written: true, not True, and 1.10, not 1.1."""
    if isinstance(value, bool):
        return json.dumps(value)
    return value.text if isinstance(value, Number) else str(value)


def _skip(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n":
        place += 1
    return place
