"""Sentences as JSON lists, of units and of their tags: one object per line, as Hugging Face datasets writes them."""

import json
from collections.abc import Iterator
from pathlib import Path

from bert.counting import count_of
from bert.lines import lone_surrogate, numbered_lines
from finetune.formats.kinds import PassedOver, Refused, Sentence
from finetune.formats.tables import json_object

UNITS, TAGS = "tokens", "ner_tags"
"""The fields' names in most such datasets."""


def read_word_lists(path: Path, needed: tuple[str, ...]) -> Iterator[Sentence | Refused | PassedOver]:
    """Lists of words."""
    return (_sentence(line, text, needed, _why_no_word) for line, text in numbered_lines(path))


def read_character_lists(path: Path, needed: tuple[str, ...]) -> Iterator[Sentence | Refused | PassedOver]:
    """Lists of characters, spaces included (KLUE on the Hugging Face hub)."""
    return (_sentence(line, text, needed, _why_no_character) for line, text in numbered_lines(path))


def format_by_lists(path: Path, field: str | None) -> str | None:
    """Which of the two a file of JSON lines holds, characters where a space is among the units; None where it has none.

    Args:
        path: the file.
        field: the one that is asked for; where a row lacks it, and where none is, UNITS.
    """
    found = None
    for _, text in numbered_lines(path):
        units = None if text.lstrip().startswith("[") else _units(text, field)  # an array over several lines
        if units is None:
            return found
        if " " in units:
            return "character_lists"
        found = "word_lists" if units else found
    return found


def _units(text: str, field: str | None) -> list | None:
    """The list of units in a row, [] in a line that is none; None where the row has no such list."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return []
    units = row.get(field, row.get(UNITS)) if isinstance(row, dict) else None
    return units if isinstance(units, list) else None


def _sentence(line: int, text: str, needed: tuple[str, ...], why_no_unit) -> Sentence | Refused | PassedOver:
    if not text.strip():
        return PassedOver(line)
    found = json_object(line, text, needed)
    if isinstance(found, Refused):
        return found
    for name in needed:
        if why := _why_no_list(name, found[name], is_tag=name != needed[0]):
            return Refused(line, why)
    units, *tags = (found[name] for name in needed)
    if why := next((why for unit in units if (why := why_no_unit(unit))), None):
        return Refused(line, why)
    if tags and len(tags[0]) != len(units):
        counts = f"{count_of(len(units), 'entry', 'entries')} in {needed[0]!r}, but {len(tags[0]):,} in {needed[1]!r}"
        return Refused(line, counts)
    return Sentence(line, units, tags[0] if tags else None, repr(needed[-1]))


def _why_no_list(name: str, value: object, is_tag: bool) -> str | None:
    """What is wrong with a field that should hold a list of texts."""
    if not isinstance(value, list):
        return f"the field {name!r} holds {json.dumps(value, ensure_ascii=False)[:40]}, where a list is needed"
    for one in value:
        if isinstance(one, int) and is_tag:
            needed = "where the name of a tag is needed, such as B-PER: that which the dataset's features give it"
            return f"the field {name!r} holds the number {one}, {needed}"
        if not isinstance(one, str):
            return f"the field {name!r} holds {json.dumps(one, ensure_ascii=False)[:40]}, where a text is needed"
        if half := lone_surrogate(one):
            return f"the field {name!r} holds {half}"
    return None


def _why_no_word(unit: str) -> str | None:
    return None if unit.strip() else f"a word is {unit!r}; in the format character_lists units are characters"


def _why_no_character(unit: str) -> str | None:
    return None if len(unit) == 1 else f"{unit!r} is not a single character; the format word_lists has words"
