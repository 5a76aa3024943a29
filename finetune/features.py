"""From texts to the sequences a model reads.

Letters: N sequences, K units that carry a tag.
"""

from dataclasses import dataclass

import numpy as np
import torch

from bert.packed import PackedBatch, starts_of
from bert.tokenizer import Tokenizer
from finetune.examples import Labelled, Tagged
from finetune.metrics import spans_of


@dataclass(frozen=True)
class Feature:
    """One sequence, with special tokens.

    Attributes:
        example: number of the example it is from.
        token_ids, segment_ids: equally long.
        cut: tokens left out because the text is too long.
        units: where each unit that carries a tag lies in the text, start and end; the K-th is the K-th token after
            [CLS]. Empty for classification.
    """

    example: int
    token_ids: list[int]
    segment_ids: list[int]
    cut: int = 0
    units: tuple[tuple[int, int], ...] = ()


def of_labelled(examples: list[Labelled], tokenizer: Tokenizer, max_length: int, first: int = 0) -> list[Feature]:
    """[CLS] A [SEP], or [CLS] A [SEP] B [SEP], the longer one cut first."""
    texts = _ids([example.text for example in examples], tokenizer)
    pairs = _ids([example.text_pair or "" for example in examples], tokenizer)
    features = []
    for number, (example, a, b) in enumerate(zip(examples, texts, pairs, strict=True), first):
        two = example.text_pair is not None
        budget = max_length - (3 if two else 2)
        cut = max(0, len(a) + len(b) - budget)
        kept_a = min(len(a), max(budget - len(b), budget - budget // 2))
        a, b = a[:kept_a], b[: budget - kept_a]
        ids = [tokenizer.cls_id, *a, tokenizer.sep_id, *([*b, tokenizer.sep_id] if two else [])]
        features.append(Feature(number, ids, [0] * (len(a) + 2) + [1] * (len(ids) - len(a) - 2), cut))
    return features


def of_tagged(
    examples: list[Tagged], tokenizer: Tokenizer, max_length: int, unit: str, first: int = 0
) -> list[Feature]:
    """[CLS] units [SEP]; a long text goes on in a further sequence, so nothing is cut."""
    most, features = max_length - 2, []
    for number, example in enumerate(examples, first):
        ids, units = (_pieces if unit == "wordpiece" else _characters)(example.text, tokenizer)
        for start in range(0, len(ids), most):
            part = [tokenizer.cls_id, *ids[start : start + most], tokenizer.sep_id]
            features.append(Feature(number, part, [0] * len(part), 0, tuple(units[start : start + most])))
    return features


def pack(features: list[Feature], max_length: int) -> PackedBatch:
    """Sequences end to end; targets: `example` (N,), and for units `tag_index` (K,) and `cu_units` (N + 1,)."""
    lengths = torch.tensor([len(feature.token_ids) for feature in features])
    starts = starts_of(lengths)
    targets = {"example": torch.tensor([feature.example for feature in features])}
    if any(feature.units for feature in features):
        counts = torch.tensor([len(feature.units) for feature in features])
        places = [torch.arange(n) + start + 1 for n, start in zip(counts.tolist(), starts.tolist(), strict=False)]
        targets |= {"tag_index": torch.cat(places), "cu_units": starts_of(counts)}
    return PackedBatch(
        token_ids=torch.tensor([i for feature in features for i in feature.token_ids]),
        segment_ids=torch.tensor([s for feature in features for s in feature.segment_ids]),
        position_ids=torch.cat([torch.arange(n) for n in lengths.tolist()]),
        cu_seqlens=starts,
        max_seqlen=max_length,
        targets=targets,
    )


def tags_of_units(example: Tagged, units: list[tuple[int, int]]) -> list[str]:
    """The tag of each unit the model reads: that of its first character, `B-` where an entity begins there.

    The tags in the file are per character or word; a piece that straddles an entity's end takes its beginning's tag.
    """
    by_character = character_tags(example)
    return [by_character[start] for start, _ in units]


def character_tags(example: Tagged) -> list[str]:
    """IOB2 of every character of the text, spaces inside an entity too."""
    tags = ["O"] * len(example.text)
    for start, end, kind in spans_in_text(example):
        tags[start:end] = [f"B-{kind}", *[f"I-{kind}"] * (end - start - 1)]
    return tags


def spans_in_text(example: Tagged) -> set[tuple[int, int, str]]:
    """The entities as ranges of characters, without spaces at their ends."""
    spans = set()
    for first, last, kind in spans_of(example.tags):
        start, end = example.units[first][0], example.units[last - 1][1]
        covered = example.text[start:end]
        if covered.strip():
            start += len(covered) - len(covered.lstrip())
            spans.add((start, start + len(covered.strip()), kind))
    return spans


def _ids(texts: list[str], tokenizer: Tokenizer) -> list[list[int]]:
    encoded = tokenizer.encode_lines(texts)
    return [part.tolist() for part in np.split(encoded.ids, np.cumsum(encoded.lengths)[:-1])]


def _pieces(text: str, tokenizer: Tokenizer) -> tuple[list[int], list[tuple[int, int]]]:
    tokenizer.backend.encode_special_tokens = True
    encoding = tokenizer.backend.encode(text, add_special_tokens=False)
    return encoding.ids, encoding.offsets


def _characters(text: str, tokenizer: Tokenizer) -> tuple[list[int], list[tuple[int, int]]]:
    """Each character that is no space as a piece: as it begins a word, or with ## as it goes on."""
    words, ids, units, end = tokenizer.backend.pre_tokenizer.pre_tokenize_str(text), [], [], 0
    for _, (start, end) in words:
        for place in range(start, end):
            ids.append(_character_id(text[place], place > start, tokenizer))
            units.append((place, place + 1))
    return ids, units


def _character_id(character: str, goes_on: bool, tokenizer: Tokenizer) -> int:
    normalizer = tokenizer.backend.normalizer
    character = normalizer.normalize_str(character) if normalizer else character
    found = tokenizer.backend.token_to_id(f"##{character}") if goes_on else None
    found = tokenizer.backend.token_to_id(character) if found is None else found
    return tokenizer.unk_id if found is None else found
