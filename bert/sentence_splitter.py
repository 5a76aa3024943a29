"""Splitting running text into sentences by rule: English, Korean, Chinese and Japanese."""

import re
from itertools import pairwise

_MARKS = ".!?…。！？"
_WIDE_MARKS = "。！？"  # Chinese and Japanese, which put no space after them
_CLOSING = "\"'”’)\\]}»」』】〉》）］"
_OPENING = "\"'“‘([{«「『"
_STOP = re.compile(f"(?<![{_MARKS}])[{_MARKS}]++[{_CLOSING}]*+")  # possessive: linear in a long run of dots

_WORD = re.compile(r"\w")

_LONGEST_ABBREVIATION = 24  # characters before a full stop that are examined
_INITIALS = re.compile(r"(?:[A-Z]\.)*[A-Z]")  # J. Smith, U.S. Navy
_ABBREVIATIONS = re.compile(
    r"[eE]\.?g|[iI]\.?e|a\.k\.a|[cC]f|viz|vs|Dr|Mr|Mrs|Ms|Messrs|Prof|Ph\.D|St|Mt|Gen|Col|Capt|Lt|Sgt|Maj|Rev|Hon|Gov|Sen|Rep"
)
_BEFORE_NUMBERS = re.compile(
    r"[nN]os?|pp?|[fF]igs?|[eE]qs?|[sS]ec|[cC]h|[cC]hap|[vV]ol|[aA]rt|[vV]er|[tT]ab|\d+"
    r"|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec"
)
_DATE = re.compile(r"\d{4}\. ?\d{1,2}\. ?\d{1,2}$")  # 2017. 8. 25. is how Korean writes one
_ENUMERATOR = re.compile(r"\d+|[a-z]|[가나다라마바사]")
_INSIDE_SENTENCES = re.compile(r"etc|al|[ap]\.m|[AP]\.M|Inc|Ltd|Co|Corp|[JS]r|Bros|approx|est|eds?|resp|ibid")


def split_sentences(text: str) -> list[str]:
    """Split text into stripped sentences; nothing but white space is lost.

    A sentence ends at a newline, and after . ! ? … and any closing quotes or brackets where white space
    follows (after 。 ！ ？ also where none does). It does not end after abbreviations (e.g., Dr., No. 5),
    initials and enumerators (2.), nor inside a spaced date (2017. 8. 25.).
    """
    return [sentence for paragraph in text.split("\n") for sentence in _split_paragraph(paragraph.strip())]


def _split_paragraph(paragraph: str) -> list[str]:
    cuts, seen, has_words = [0], 0, False
    for stop in _STOP.finditer(paragraph):
        has_words = has_words or _WORD.search(paragraph, seen, stop.start()) is not None
        seen = stop.end()
        if has_words and _ends_sentence(paragraph, cuts[-1], stop):
            cuts.append(stop.end())
            has_words = False
    if len(cuts) > 1 and not _WORD.search(paragraph, cuts[-1]):
        cuts.pop()  # marks alone are not a sentence
    pieces = [paragraph[begin:end].strip() for begin, end in pairwise([*cuts, len(paragraph)])]
    return [piece for piece in pieces if piece]


def _ends_sentence(paragraph: str, begin: int, stop: re.Match) -> bool:
    """Whether the sentence that starts at `begin` ends with this stop."""
    marks, end = stop[0], stop.end()
    if marks[0] in _WIDE_MARKS:
        return True
    if not paragraph[end : end + 1].isspace():
        return False
    following = paragraph[end : end + 8].lstrip()[:1]
    if marks != ".":
        may_go_on = marks[-1] not in ".!?" or marks.startswith("..")  # "What?" he said; well... perhaps
        return not (may_go_on and following.islower())
    before = paragraph[max(begin, stop.start() - _LONGEST_ABBREVIATION) : stop.start()]
    return _full_stop_ends_sentence(before, following, starts=len(before) == stop.start() - begin)


def _full_stop_ends_sentence(before: str, following: str, starts: bool) -> bool:
    """Whether a full stop ends a sentence.

    Args:
        before: the end of the sentence up to the full stop; all of it where `starts` is true.
        following: the next character that is not white space, or "".
    """
    words = before.split()
    word = words[-1].lstrip(_OPENING) if words else ""
    if _ABBREVIATIONS.fullmatch(word) or _INITIALS.fullmatch(word) or _DATE.search(before):
        return False
    if _INSIDE_SENTENCES.fullmatch(word):
        return following.isupper()
    if _BEFORE_NUMBERS.fullmatch(word) and following.isdigit():
        return False
    return not (starts and len(words) == 1 and _ENUMERATOR.fullmatch(word))
