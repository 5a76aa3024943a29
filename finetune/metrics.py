"""What each score counts: pure functions of whole splits.

A class table maps a class to Counts; every precision, recall and F1 comes from one. Where a denominator is 0 the score
is 0 (but for KLUE's own definition, which says so).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Span = tuple[int, int, str]
"""Where an entity starts and ends (exclusive), and its type."""


@dataclass(frozen=True)
class Counts:
    """Right, wrongly predicted and missed, of one class."""

    true_positive: int = 0
    false_positive: int = 0
    false_negative: int = 0

    @property
    def support(self) -> int:
        """How often the class occurs in the gold."""
        return self.true_positive + self.false_negative

    @property
    def precision(self) -> float:
        """Right among the predicted."""
        return _ratio(self.true_positive, self.true_positive + self.false_positive)

    @property
    def recall(self) -> float:
        """Right among the gold."""
        return _ratio(self.true_positive, self.support)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return _ratio(2 * self.true_positive, 2 * self.true_positive + self.false_positive + self.false_negative)

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
        )


def label_counts(gold: Sequence[str], predicted: Sequence[str], labels: Iterable[str]) -> dict[str, Counts]:
    """One label per item: the counts of each of the labels, in their order."""
    right = Counter(g for g, p in zip(gold, predicted, strict=True) if g == p)
    in_gold, in_predicted = Counter(gold), Counter(predicted)
    return {
        label: Counts(right[label], in_predicted[label] - right[label], in_gold[label] - right[label])
        for label in labels
    }


def span_counts(gold: Sequence[set[Span]], predicted: Sequence[set[Span]], types: Iterable[str]) -> dict[str, Counts]:
    """Entities of each sentence: right only where start, end and type all agree (strict)."""
    table = dict.fromkeys(types, Counts())
    for of_gold, of_predicted in zip(gold, predicted, strict=True):
        for span in of_gold & of_predicted:
            table[span[2]] += Counts(true_positive=1)
        for span in of_predicted - of_gold:
            table[span[2]] += Counts(false_positive=1)
        for span in of_gold - of_predicted:
            table[span[2]] += Counts(false_negative=1)
    return table


def micro_f1(table: dict[str, Counts]) -> float:
    """F1 of all classes' counts together. Over every label, one per item, that is accuracy."""
    return sum(table.values(), Counts()).f1


def macro_f1(table: dict[str, Counts]) -> float:
    """Mean of the classes' F1; a class that occurs nowhere counts as 0."""
    return sum(counts.f1 for counts in table.values()) / max(1, len(table))


def klue_macro_f1(table: dict[str, Counts]) -> float:
    """KLUE's character macro F1 (Park et al. 2021, section 3.3, and its code): every label, `O` too, and a label
    that is neither in the gold nor predicted counts as 1.0."""
    scores = [counts.f1 if counts != Counts() else 1.0 for counts in table.values()]
    return sum(scores) / max(1, len(scores))


def accuracy(gold: Sequence[str], predicted: Sequence[str]) -> float:
    """Share of items whose label is right."""
    return _ratio(sum(g == p for g, p in zip(gold, predicted, strict=True)), len(gold))


def spans_of(tags: Sequence[str]) -> set[Span]:
    """Entities of IOB2 tags, by unit. A stray `I-` belongs to none (seqeval, strict)."""
    spans, start, kind = set(), 0, None
    for place, tag in enumerate([*tags, "O"]):
        prefix, _, type_ = tag.partition("-")
        if kind is not None and (prefix != "I" or type_ != kind):
            spans.add((start, place, kind))
            kind = None
        if prefix == "B":
            start, kind = place, type_
    return spans


def confusion(gold: Sequence[str], predicted: Sequence[str], labels: Sequence[str]) -> list[list[int]]:
    """How often each gold label (row) was predicted as each label (column)."""
    pairs = Counter(zip(gold, predicted, strict=True))
    return [[pairs[g, p] for p in labels] for g in labels]


def class_table(table: dict[str, Counts]) -> str:
    """Precision, recall, F1 and support of each class, as text."""
    width = max([5, *map(len, table)])
    lines = [f"  {'class':<{width}}  precision  recall      F1  support"]
    lines += [
        f"  {name:<{width}}  {c.precision:9.3f}  {c.recall:6.3f}  {c.f1:6.3f}  {c.support:7d}"
        for name, c in table.items()
    ]
    return "\n".join(lines)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
