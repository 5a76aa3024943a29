"""From the lines of a corpus file to the sentences of its documents.

A format is one function from a line to its sentences, and one entry in FORMATS.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from bert.errors import UserError
from bert.registry import did_you_mean

END_OF_DOCUMENT = "[EOD]"
"""A line of a text corpus that, like a blank one, ends a document."""


@dataclass(frozen=True)
class CorpusFormat:
    """What a corpus file holds."""

    format: Literal["text", "jsonl"] = "text"
    """text: one sentence per line, a blank line or [EOD] between documents; jsonl: one object = one document per line."""

    text: str = "text"
    """The field of a JSON line that holds its text, in which newlines separate paragraphs."""

    split_sentences: bool = False
    """Split each line (of text) or paragraph (of jsonl) into sentences; otherwise each is one."""


def text_line(line: str, corpus_format: CorpusFormat) -> list[str] | None:
    """The sentences of a line of text; None where it separates documents."""
    stripped = line.strip()
    if not stripped or stripped == END_OF_DOCUMENT:
        return None
    return split_sentences(stripped) if corpus_format.split_sentences else [stripped]


def json_line(line: str, corpus_format: CorpusFormat) -> list[str] | None:
    """The sentences of the document in a line of JSON, [] where its text is blank; None for a blank line.

    Raises:
        UserError: the line is not one JSON object with a string in the field; the message lacks the file and line.
    """
    if not line.strip():
        return None
    text = _json_text(line, corpus_format.text)
    if corpus_format.split_sentences:
        return split_sentences(text)
    return [stripped for paragraph in text.split("\n") if (stripped := paragraph.strip())]


def _json_text(line: str, field: str) -> str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"not a JSON object ({error}); plain text is read with data.format=text.") from None
    if not isinstance(row, dict):
        raise UserError(f"a JSON {type(row).__name__}, where an object with the field {field!r} is needed.")
    if field not in row:
        raise UserError(f"no field {field!r}; it has {', '.join(row) or 'none'}{did_you_mean(field, row)}.")
    text = row[field]
    if not isinstance(text, str):
        raise UserError(f"the field {field!r} holds a {type(text).__name__}, not a string: {str(text)[:40]!r}.")
    if not text.isascii() and (half := re.search("[\ud800-\udfff]", text)):
        raise UserError(f"the field {field!r} holds half a character: {half[0]!r} (a lone surrogate).")
    return text


class LineFormat(NamedTuple):
    """How documents lie in lines."""

    sentences: Callable[[str, CorpusFormat], list[str] | None]
    """From a line to its sentences; None where there is no document in it."""

    document_per_line: bool
    """True: a line is a document; False: a document is a run of lines between those that give None."""


FORMATS = {"text": LineFormat(text_line, False), "jsonl": LineFormat(json_line, True)}


# Splitting into sentences.

_MARKS = ".!?…。！？"
_CLOSING = "\"'”’)\\]}»」』】〉》）］"
_STOP = re.compile(f"(?<![{_MARKS}])[{_MARKS}]++[{_CLOSING}]*+")  # possessive: linear in a long run of dots
_WIDE_MARKS = "。！？"  # they end a sentence without a space after them, as Chinese and Japanese have none
_OPENING = "\"'“‘([{«「『"
_LONGEST_ABBREVIATION = 24  # characters of the text before a full stop that are looked at

_INITIALS = re.compile(r"(?:[A-Z]\.)*[A-Z]")  # J. Smith, U.S. Navy
_ABBREVIATIONS = frozenset(
    "e.g E.g i.e I.e cf Cf viz vs Dr Mr Mrs Ms Messrs Prof St Mt Gen Col Capt Lt Sgt Maj Rev Hon Gov Sen Rep Ph.D".split()
)
_BEFORE_A_NUMBER = frozenset(
    "No no Nos nos p pp P Fig fig Figs figs Eq eq Eqs eqs Sec sec Ch ch Chap chap Vol vol Art art Ver ver v Tab tab "
    "Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec".split()
)
_INSIDE_A_SENTENCE = frozenset("etc al a.m p.m A.M P.M Inc Ltd Co Corp Jr Sr Bros approx est ed eds resp ibid".split())


def split_sentences(text: str) -> list[str]:
    """Split English or Korean (or Chinese, Japanese) text into stripped sentences; nothing but white space is lost.

    A sentence ends at a newline, or after . ! ? … and closing quotes or brackets where white space follows (after
    。 ！ ？ also where none does), but not after abbreviations (e.g., Dr., No. 5), initials, an enumerator (2.) or
    inside a spaced number (2017. 8. 25).
    """
    return [sentence for paragraph in text.split("\n") for sentence in _split_paragraph(paragraph.strip())]


def _split_paragraph(paragraph: str) -> list[str]:
    sentences, begin = [], 0
    for stop in _STOP.finditer(paragraph):
        if _ends_sentence(paragraph, begin, stop):
            sentences.append(paragraph[begin : stop.end()].strip())
            begin = stop.end()
    rest = paragraph[begin:].strip()
    return [*sentences, rest] if rest else sentences


def _ends_sentence(paragraph: str, begin: int, stop: re.Match) -> bool:
    """Whether the sentence that starts at begin ends with this stop."""
    marks, end = stop[0], stop.end()
    if marks[0] in _WIDE_MARKS:
        return True
    if not paragraph[end : end + 1].isspace():
        return False
    following = paragraph[end : end + 8].lstrip()[:1]
    if marks != ".":
        ends_weakly = marks[-1] not in ".!?" or "..." in marks  # "What?" he said; well... perhaps
        return not (ends_weakly and following.islower())
    before = paragraph[max(begin, stop.start() - _LONGEST_ABBREVIATION) : stop.start()].split()
    word = before[-1].lstrip(_OPENING) if before else ""
    if word in _ABBREVIATIONS or _INITIALS.fullmatch(word):
        return False
    if word in _INSIDE_A_SENTENCE:
        return following.isupper()
    if word in _BEFORE_A_NUMBER or word.isdigit():
        opens_sentence = word.isdigit() and paragraph[begin : stop.start()].strip(_OPENING + " ") == word
        return not (following.isdigit() or opens_sentence)
    return True
