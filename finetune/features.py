"""From texts to a model's input sequences.

Letters: N sequences, K units that carry a tag.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from operator import itemgetter

import numpy as np
import torch

from bert.packed import PackedBatch, starts_of
from bert.tokenizer import Tokenizer
from finetune.example_kinds import Labelled, Question, Tagged
from finetune.metrics import Span
from finetune.units import UNITS, Unit

_AT_ONCE = 1024  # texts


PAIRS_RULE = 2
"""Incremented when other tokens of a pair that is too long are kept; runs are not resumed across that."""


@dataclass(frozen=True)
class Feature:
    """One sequence, with special tokens.

    Attributes:
        example: index of the example it is from.
        token_ids, segment_ids: of equal length.
        cut: tokens truncated because the text is too long.
        units: those that carry a tag: the token that stands for each, and its range in the text. Empty for
            classification.
        repeated: tokens shared with the window before, including special ones and a question.
        begins, ends: whether the units include its text's first, and its last; neither in a middle window.
    """

    example: int
    token_ids: list[int]
    segment_ids: list[int]
    cut: int = 0
    units: tuple[Unit, ...] = ()
    repeated: int = 0
    begins: bool = True
    ends: bool = True

    @property
    def is_empty(self) -> bool:
        """Whether there are only special tokens: [CLS] [SEP], or [CLS] [SEP] [SEP] of a pair."""
        return len(self.token_ids) <= 2 + self.segment_ids[-1]


def of_labelled(examples: list[Labelled], tokenizer: Tokenizer, max_length: int) -> list[Feature]:
    """[CLS] A [SEP], or [CLS] A [SEP] B [SEP], the longer one truncated first, as in transformers."""
    texts = token_ids([example.text for example in examples], tokenizer)
    pairs = token_ids([example.text_pair or "" for example in examples], tokenizer)
    features = []
    for number, (example, a, b) in enumerate(zip(examples, texts, pairs, strict=True)):
        two = example.text_pair is not None
        budget = max_length - (3 if two else 2)
        cut = max(0, len(a) + len(b) - budget)
        least_a = budget - budget // 2 if len(a) > len(b) else budget // 2  # an odd token is the longer text's
        kept_a = min(len(a), max(budget - len(b), least_a))
        a, b = a[:kept_a], b[: budget - kept_a]
        ids = [tokenizer.cls_id, *a, tokenizer.sep_id, *([*b, tokenizer.sep_id] if two else [])]
        features.append(Feature(number, ids, [0] * (len(a) + 2) + [1] * (len(ids) - len(a) - 2), cut))
    return features


def of_tagged(
    examples: list[Tagged], tokenizer: Tokenizer, max_length: int, unit: str, overlap: int | None = None
) -> list[Feature]:
    """[CLS] text [SEP]; a long text is read in windows, and each unit carries its tag in only one of them."""
    features = []
    for number, example in enumerate(examples):
        ids, units = UNITS[unit](example.text, tokenizer)
        for window in windows(len(ids), max_length - 2, overlap):
            inside = tuple((1 + p - window.start, *where) for p, *where in _within(window.central, units))
            if inside:  # the middle of a word longer than a window carries no tag
                part = [tokenizer.cls_id, *ids[window.start : window.end], tokenizer.sep_id]
                edges = (window.central.start == 0, window.central.stop == len(ids))
                features.append(Feature(number, part, [0] * len(part), 0, inside, 2 + window.shared, *edges))
    return features


def of_questions(
    examples: list[Question], tokenizer: Tokenizer, max_length: int, overlap: int | None = None
) -> list[Feature]:
    """[CLS] question [SEP] text [SEP]; a long text is read in windows, each after the whole question.

    The units are the text's pieces. A question is truncated if it leaves the text less than half of the sequence.
    """
    features, questions = [], token_ids([example.text for example in examples], tokenizer)
    for number, (example, question) in enumerate(zip(examples, questions, strict=True)):
        cut = max(0, len(question) - (max_length // 2 - 2))
        question = [tokenizer.cls_id, *question[: len(question) - cut], tokenizer.sep_id]
        ids, units = UNITS["wordpiece"](example.text_pair, tokenizer)
        room = max_length - len(question) - 1
        for window in windows(len(ids), room, overlap):
            text = [*ids[window.start : window.end], tokenizer.sep_id]
            shift = len(question) - window.start
            within = _within(range(window.start, window.end), units)
            inside = tuple((shift + p, *where) for p, *where in within)
            segments = [0] * len(question) + [1] * len(text)
            repeated = len(question) + 1 + window.shared
            features.append(Feature(number, question + text, segments, cut, inside, repeated))
    return features


def _within(places: range, units: list[Unit]) -> list[Unit]:
    """The units whose tokens are in a stretch."""
    first, end = (bisect_left(units, place, key=itemgetter(0)) for place in (places.start, places.stop))
    return units[first:end]


@dataclass(frozen=True)
class Window:
    """A stretch of a text's tokens.

    Attributes:
        start, end: the tokens it covers.
        central: the tokens that lie further from its edges than from those of any other window.
        shared: how many of its tokens the window before also covers.
    """

    start: int
    end: int
    central: range
    shared: int = 0


def windows(length: int, room: int, overlap: int | None = None) -> list[Window]:
    """Windows over a text; the last one ends where it ends.

    Args:
        length: tokens of the text.
        room: tokens that a window holds.
        overlap: tokens that two neighbours share: at most half of the room, which is the default.
    """
    if length <= room:
        return [Window(0, length, range(length))]
    step = room - min(room // 2, room if overlap is None else overlap)
    starts = [*range(0, length - room, step), length - room]
    # Neighbours are split at the middle of what they share; if that is a token, it goes to the earlier one.
    borders = [0, *((a + b + room + 1) // 2 for a, b in pairwise(starts)), length]
    shared = [0, *(a + room - b for a, b in pairwise(starts))]
    return [
        Window(start, start + room, range(*own), again)
        for start, own, again in zip(starts, pairwise(borders), shared, strict=True)
    ]


def pack(features: list[Feature]) -> PackedBatch:
    """The sequences concatenated; targets: `example` (N,), and for units `tag_index` (K,) and `cu_units` (N + 1,)."""
    targets = {"example": torch.tensor([feature.example for feature in features])}
    if any(feature.units for feature in features):
        counts = torch.tensor([len(feature.units) for feature in features])
        begins = zip(features, accumulate((len(f.token_ids) for f in features), initial=0), strict=False)
        places = [begin + place for feature, begin in begins for place, _, _ in feature.units]
        targets |= {"tag_index": torch.tensor(places), "cu_units": starts_of(counts)}
    token_ids, segment_ids = zip(*((feature.token_ids, feature.segment_ids) for feature in features), strict=True)
    return PackedBatch.from_sequences(token_ids, segment_ids, **targets)


def tags_of_units(entities: list[Span], units: Iterable[Unit]) -> list[str]:
    """The tag of each unit: that of its first character.

    Args:
        entities: those of the text, sorted.
        units: a piece or word that straddles an entity boundary takes the tag at its start.
    """
    return [tag_at(start, entities) for _, start, _ in units]


def tag_at(place: int, entities: list[Span]) -> str:
    """The IOB2 tag of one character; a window does not need those of a whole book."""
    before = bisect_right(entities, place, key=itemgetter(0))
    start, end, kind = entities[before - 1] if before else (0, 0, "")
    return "O" if place >= end else f"{'B' if place == start else 'I'}-{kind}"


def character_tags(length: int, entities: set[Span]) -> list[str]:
    """The IOB2 tag of every character of a text, including spaces inside an entity."""
    tags = ["O"] * length
    for start, end, kind in entities:
        tags[start:end] = [f"B-{kind}", *[f"I-{kind}"] * (end - start - 1)]
    return tags


def token_ids(texts: list[str], tokenizer: Tokenizer) -> list[list[int]]:
    """The ids of each text, without special tokens."""
    ids = []  # in chunks: the library's own objects take kilobytes each
    for start in range(0, len(texts), _AT_ONCE):
        encoded = tokenizer.encode_lines(texts[start : start + _AT_ONCE])
        ids += [part.tolist() for part in np.split(encoded.ids, np.cumsum(encoded.lengths)[:-1])]
    return ids
