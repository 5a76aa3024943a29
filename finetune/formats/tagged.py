"""Sentences of tagged units: CoNLL, KLUE, NVIDIA NeMo."""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest
from pathlib import Path

from bert.counting import count_of
from bert.errors import UserError
from bert.lines import CARRIAGE_RETURN, numbered_lines
from finetune.formats.kinds import LAST, PassedOver, Refused, Sentence


def read_conll(path: Path, needed: tuple[str, ...]) -> Iterator[Sentence | Refused | PassedOver]:
    """A word per line with its tag, a blank line after a sentence (CoNLL-2003); comments as in CoNLL-U and MultiCoNER.

    Columns are separated by tabs, else by spaces. If the tag's is the last, every line must have as many as the first:
    in a shorter one the last column is something else.
    """
    first: tuple[int, int] | None = None

    def unit_of(line: int, text: str) -> tuple[str, str] | Refused:
        nonlocal first
        columns = _columns(text)
        first = first or (line, len(columns))
        found = _word_and_tag(line, columns, needed)
        if needed[1:] in ((LAST,), ()) and len(columns) != first[1] and not isinstance(found, Refused):
            return Refused(line, f"{count_of(len(columns), 'column')}, but line {first[0]} has {first[1]}")
        return found

    def is_comment(text: str) -> bool:
        return text.startswith("-DOCSTART-") or _is_comment(text, needed[1:])

    return _tagged(path, is_comment, len(needed) > 1, lambda text: not text.strip(), unit_of)


def _columns(text: str) -> list[str]:
    return text.split("\t") if "\t" in text else _words(text)


def _is_comment(text: str, tag: tuple[str, ...]) -> bool:
    """Whether a line before a sentence is a comment, not the word # with its tag in the column `tag` names, if any."""
    if re.match(r"# (id\b|[\w ]+=|newdoc|newpar)", text):
        return True
    columns = _columns(text)
    if not text.startswith(("# ", "#\t")) or not tag or (columns[0] == "#" and len(columns) == 2):
        return False
    carrying = columns[-1:] if tag[0] == LAST else columns[int(tag[0]) - 1 : int(tag[0])]
    return not any(re.fullmatch(r"O|[A-Z]-\S+", one.strip()) for one in carrying)


def _word_and_tag(line: int, columns: list[str], needed: tuple[str, ...]) -> tuple[str, str] | Refused:
    if needed[1:] == (LAST,) and len(columns) < 2:
        return Refused(line, f"{columns[0]!r} has no tag; each line is a unit, a tab and its tag")
    found = []
    for number in needed:
        if number != LAST and int(number) > len(columns):
            return Refused(line, f"no column {number}; the line has {len(columns)}")
        found.append(columns[-1 if number == LAST else int(number) - 1])
    if not found[0].strip():
        return Refused(line, "a tag without a word; in the format klue units are characters, spaces included")
    return found[0], found[-1].strip()


def read_klue(path: Path, needed: tuple[str, ...]) -> Iterator[Sentence | Refused | PassedOver]:
    """A character per line, including spaces, a tab and its tag; lines that begin with ## are comments."""
    tagged = len(needed) > 1
    tags_there = tagged or _carries_tags(path)

    def is_blank(text: str) -> bool:
        return not text or (tags_there and not text.strip() and "\t" not in text)  # without tags it is a space

    def unit_of(line: int, text: str) -> tuple[str, str] | Refused:
        character, tab, tag = text.rpartition("\t")  # the character may itself be a tab
        if tagged and not tab:
            return Refused(line, f"{text!r} has no tag; each line is a unit, a tab and its tag")
        if len(character or tag) != 1:
            return Refused(line, f"{character or tag!r} is not a single character; the format conll has words")
        if tagged and not character:
            return Refused(line, "a tag without a character")
        return character or tag, tag.strip() if character else tag

    return _tagged(path, lambda text: text.startswith("##"), tagged, is_blank, unit_of)


def _carries_tags(path: Path) -> bool:
    """Whether the first character of a KLUE file has a tag, read or not."""
    lines = (text for _, text in numbered_lines(path) if text.strip() and not text.startswith("##"))
    return "\t" in next(lines, "")


def read_nemo(path: Path, needed: tuple[str, ...]) -> Iterator[Sentence | Refused | PassedOver]:
    """A sentence per line, words separated by spaces; their tags likewise, in another file beside it (NVIDIA NeMo's
    text_train.txt and labels_train.txt).

    Raises:
        UserError: there is no such other file, or it has more lines or fewer.
    """
    if len(needed) == 1:
        for line, text in numbered_lines(path):
            words = _words(text)
            yield Sentence(line, words, None) if words else Refused(line, "the line is empty")
        return
    beside = labels_beside(path)
    if not beside.is_file() or beside == path:
        wanted = (
            f"'{beside}', which does not exist" if beside != path else "a file with `labels` for `text` in its name"
        )
        raise UserError(f"{path}:1: its tags are needed beside it, in {wanted}.")
    for of_text, of_tags in zip_longest(numbered_lines(path), numbered_lines(beside)):
        if of_text is None or of_tags is None:
            longer, shorter, line = (path, beside, of_text) if of_tags is None else (beside, path, of_tags)
            raise UserError(f"{longer}:{line[0]}: '{shorter}' has no such line; it ends before.")
        line, words, tags = of_text[0], _words(of_text[1]), _words(of_tags[1])
        if "\r" in of_text[1] + of_tags[1]:
            yield Refused(line, f"{CARRIAGE_RETURN} (here or in {beside}:{line})")
        elif len(words) != len(tags):
            yield Refused(line, f"{count_of(len(words), 'word')}, but {beside}:{line} has {count_of(len(tags), 'tag')}")
        else:
            yield Sentence(line, words, tags, f"{beside}:{line}") if words else PassedOver(line)


def labels_beside(path: Path) -> Path:
    """The tags file of a NeMo text file: `labels` in place of `text` in its name."""
    return path.with_name(path.name.replace("text", "labels", 1))


def _tagged(
    path: Path,
    is_comment: Callable[[str], bool],
    tagged: bool,
    is_blank: Callable[[str], bool],
    unit_of: Callable[[int, str], tuple[str, str] | Refused],
) -> Iterator[Sentence | Refused | PassedOver]:
    """Sentences with a unit per line; for one with faults, its first fault."""
    begin, units, tags, fault = 0, [], [], None
    for line, text in _ended(numbered_lines(path)):
        if not begin and is_comment(text):
            yield PassedOver(line, "comment")
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
    return [word for word in text.split(" ") if word]  # split() would also split at no-break spaces and the like
