"""How much of a text a vocabulary lacks, in characters: a single [UNK] may stand for a long word."""

from collections.abc import Iterable, Sequence

MUCH_UNKNOWN = 0.05
"""Share of a text's characters that become [UNK] above which a run warns."""


def unknown_characters(text: str, ids: Iterable[int], ranges: Iterable[Sequence[int]], unk_id: int) -> tuple[int, int]:
    """Count a text's characters that become [UNK], and all of them, both without spaces.

    Args:
        text: the text.
        ids: its tokens.
        ranges: the characters that each stands for, start and end.
        unk_id: the id of [UNK].
    """
    lost = (text[start:end] for number, (start, end) in zip(ids, ranges, strict=True) if number == unk_id)
    return sum(map(_characters, lost)), _characters(text)


def _characters(text: str) -> int:
    return sum(map(len, text.split()))
