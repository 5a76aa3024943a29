"""The scores of tagged texts, each over a whole split: pure functions of the examples and of what was found in them."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from finetune import metrics
from finetune.example_kinds import Tagged
from finetune.features import character_tags
from finetune.metrics import Counts, Span
from finetune.units import Unit


@dataclass(frozen=True)
class Found:
    """The prediction for a text.

    Attributes:
        units: those that carry tags.
        tags: in the model's scheme.
        raw: in IOB2, stray ones unchanged.
        entities: as character ranges.
        log_probability: of all tags.
    """

    units: list[Unit]
    tags: list[str]
    raw: list[str]
    entities: set[Span]
    log_probability: float


def character_scores(examples: list[Tagged], found: list[Found], types: list[str]) -> tuple[float, list[list[int]]]:
    """The macro F1 of all characters of all texts, including spaces, and the confusion of their types."""
    gold = _joined(character_tags(len(e.text), e.entities) for e in examples)
    predicted = _joined(character_tags(len(e.text), of.entities) for e, of in zip(examples, found, strict=True))
    table = metrics.label_counts(gold, predicted, _labels(types))
    confusion = metrics.confusion(_types_of(gold), _types_of(predicted), ["O", *types])
    return metrics.macro_f1(_occurring(table)), confusion


def klue_scores(examples: list[Tagged], found: list[Found], types: list[str]) -> dict[str, float]:
    """KLUE's own (Park et al. 2021, section 3.3): characters without spaces, tags as predicted.

    Its code also counts two special tokens of each sentence, whose gold is O; here they are not.
    """
    gold = [_klue_tags(e.text, e.units, e.tags) for e in examples]
    ranges = [[(start, end) for _, start, end in of.units] for of in found]
    predicted = [_klue_tags(e.text, r, of.raw) for e, r, of in zip(examples, ranges, found, strict=True)]
    entities = metrics.span_counts(list(map(metrics.spans_of, gold)), list(map(metrics.spans_of, predicted)), types)
    characters = metrics.label_counts(_joined(gold), _joined(predicted), _labels(types))
    without_o = {label: counts for label, counts in characters.items() if label != "O"}
    return {
        "klue_entity_macro_f1": metrics.macro_f1(_occurring(entities)),
        "klue_char_macro_f1": metrics.klue_macro_f1(characters),
        "klue_char_macro_f1_without_o": metrics.klue_macro_f1(without_o),
    }


def unit_scores(gold: list[list[str]], found: list[Found], labels: list[str]) -> dict[str, float]:
    """Those of single tags, from each text's gold ones; F1 without `O`."""
    expected, predicted = _joined(gold), _joined(of.tags for of in found)
    table = _occurring(metrics.label_counts(expected, predicted, labels))
    return {
        "token_micro_f1": metrics.micro_f1(table),
        "token_macro_f1": metrics.macro_f1(table),
        "token_accuracy": metrics.accuracy(expected, predicted),
    }


def _klue_tags(text: str, units: list[tuple[int, int]], tags: list[str]) -> list[str]:
    """A tag for each non-space character: the unit's on its first character, and its I- on the rest."""
    found = ["O"] * len(text)
    for (start, end), tag in zip(units, tags, strict=True):
        inside = tag if tag == "O" else f"I-{tag[2:]}"
        found[start:end] = [tag] + [inside] * (end - start - 1)
    return [tag for tag, character in zip(found, text, strict=True) if not character.isspace()]


def _occurring(table: dict[str, Counts]) -> dict[str, Counts]:
    """The table without `O`, and without labels that neither occur nor were predicted: not every type has an I-."""
    return {label: counts for label, counts in table.items() if label != "O" and counts != Counts()}


def _labels(types: list[str]) -> list[str]:
    """The IOB2 tags that a character may have."""
    return ["O", *(f"{prefix}-{kind}" for kind in types for prefix in "BI")]


def _types_of(tags: list[str]) -> list[str]:
    return [tag[2:] or "O" for tag in tags]


def _joined(texts: Iterable[list[str]]) -> list[str]:
    """The tags of all texts in one list."""
    return list(chain.from_iterable(texts))
