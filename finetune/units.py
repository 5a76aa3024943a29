"""What carries a tag: pieces, characters or words. A unit is one function, and one line of UNITS.

    token_ids, units = UNITS[name](text, tokenizer)

Each unit is (the index of the token that stands for it, its start in the text, its end).
"""

import re
import unicodedata

from bert.tokenizer import Tokenizer

Unit = tuple[int, int, int]


def pieces(text: str, tokenizer: Tokenizer) -> tuple[list[int], list[Unit]]:
    """The tokenizer's pieces, each represented by its own token.

    Several pieces may stand for one character (bytes, jamo), or a piece for a space: each character belongs to the
    first of its pieces, and a piece left with none carries no tag.
    """
    encoding = tokenizer.encode_text(text)
    units, until = [], 0
    for place, (start, end) in enumerate(encoding.offsets):
        inside = text[max(start, until) : end]
        start, end = end - len(inside.lstrip()), end - len(inside) + len(inside.rstrip())
        if start < end:
            units.append((place, start, end))
            until = end
    nexts = [start for _, start, _ in units] + [len(text)]
    return encoding.ids, [(p, start, _whole(text, end, n)) for (p, start, end), n in zip(units, nexts[1:], strict=True)]


def characters(text: str, tokenizer: Tokenizer) -> tuple[list[int], list[Unit]]:
    """Each non-space character as a token of its own: plain where it begins a word, with ## where it continues one.

    BERT's normaliser puts spaces around Chinese characters: each is a word. A character written as several (Hangul as
    jamo, a letter and its accent) is one where the normaliser composes it.
    """
    ids, units = [], []
    normalizer = tokenizer.backend.normalizer
    for _, (word, end) in tokenizer.backend.pre_tokenizer.pre_tokenize_str(text):
        goes_on, start = False, word
        while start < end:
            until = _whole(text, start + 1, end)
            character = normalizer.normalize_str(text[start:until]) if normalizer else text[start:until]
            if len(character.strip()) != 1:
                until = start + 1
                character = normalizer.normalize_str(text[start]) if normalizer else text[start]
            if not character.strip():  # one that the vocabulary never sees, such as a space of no width
                start = until
                continue
            is_word = character != character.strip()
            units.append((len(ids), start, until))
            ids.append(_character_id(character.strip(), goes_on and not is_word, tokenizer))
            goes_on, start = not is_word, until
    return ids, units


def words(text: str, tokenizer: Tokenizer) -> tuple[list[int], list[Unit]]:
    """Words separated by spaces, each represented by its first piece (Devlin et al. 2019, section 5.3)."""
    encoding = tokenizer.encode_text(text)
    offsets, units, place = encoding.offsets, [], 0
    for word in re.finditer(r"\S+", text):
        while place < len(offsets) and offsets[place][1] <= word.start():  # a piece may include the space before it
            place += 1
        if place < len(offsets) and offsets[place][0] < word.end():
            units.append((place, word.start(), word.end()))
    return encoding.ids, units


UNITS = {"wordpiece": pieces, "character": characters, "word": words}


def _whole(text: str, end: int, until: int) -> int:
    """The end, extended over what the library's offsets leave out: marks that it composes (NFC) or strips."""
    while end < until and (unicodedata.category(text[end]) == "Mn" or "\u1160" <= text[end] <= "\u11ff"):
        end += 1  # an accent, a vowel of Thai or Devanagari, or one of Hangul written as jamo, or its last consonant
    return end


def _character_id(character: str, goes_on: bool, tokenizer: Tokenizer) -> int:
    found = tokenizer.backend.token_to_id(f"##{character}") if goes_on else None
    found = tokenizer.backend.token_to_id(character) if found is None else found
    return tokenizer.unk_id if found is None else found
