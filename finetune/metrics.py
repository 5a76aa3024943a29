"""The scores: pure functions of whole splits.

A class table maps a class to Counts; every precision, recall and F1 comes from one. Where a denominator is 0 the score
is 0, except in KLUE's own definition.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

Span = tuple[int, int, str]
"""Where an entity starts and ends (exclusive), and its type."""


@dataclass(frozen=True)
class Counts:
    """One class's true positives, false positives and false negatives."""

    true_positive: int = 0
    false_positive: int = 0
    false_negative: int = 0

    @property
    def support(self) -> int:
        """How often the class occurs in the gold labels."""
        return self.true_positive + self.false_negative

    @property
    def precision(self) -> float:
        """Share of the predicted that is correct."""
        return _ratio(self.true_positive, self.true_positive + self.false_positive)

    @property
    def recall(self) -> float:
        """Share of the gold that was found."""
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
    """Counts for each of the labels, in their order, with one label per item."""
    right = Counter(g for g, p in zip(gold, predicted, strict=True) if g == p)
    in_gold, in_predicted = Counter(gold), Counter(predicted)
    return {
        label: Counts(right[label], in_predicted[label] - right[label], in_gold[label] - right[label])
        for label in labels
    }


def span_counts(gold: Sequence[set[Span]], predicted: Sequence[set[Span]], types: Iterable[str]) -> dict[str, Counts]:
    """Counts by type for each sentence's entities: correct only if start, end and type all agree (strict)."""
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
    """F1 of the classes' summed counts. Over all labels, with one per item, it equals accuracy."""
    return sum(table.values(), Counts()).f1


def macro_f1(table: dict[str, Counts]) -> float:
    """Mean of the classes' F1; a class that occurs nowhere counts as 0."""
    return sum(counts.f1 for counts in table.values()) / max(1, len(table))


def klue_macro_f1(table: dict[str, Counts]) -> float:
    """KLUE's character macro F1 (Park et al. 2021, section 3.3, and its code): over every label, including `O`, where
    one that is neither in the gold nor predicted counts as 1.0."""
    scores = [counts.f1 if counts != Counts() else 1.0 for counts in table.values()]
    return sum(scores) / max(1, len(scores))


def batch_averaged_f1(batches: Sequence[tuple[Sequence[str], Sequence[str]]]) -> tuple[float, float]:
    """Micro and macro F1 of each batch's gold and predicted tags, averaged over the batches.

    The formula of the Korean BERT this grew from. Micro over all tags, including `O`, is accuracy, and most tags are O;
    macro is over the tags that happen to be in a batch; and both change with the size and order of the batches.
    """
    scores = []
    for gold, predicted in batches:
        table = label_counts(gold, predicted, sorted({*gold, *predicted}))
        scores.append((micro_f1(table), macro_f1(table)))
    return tuple(sum(column) / max(1, len(scores)) for column in zip(*scores, strict=True))


def accuracy(gold: Sequence[str], predicted: Sequence[str]) -> float:
    """Share of items whose label is correct."""
    return _ratio(sum(g == p for g, p in zip(gold, predicted, strict=True)), len(gold))


def pearson(gold: Sequence[float], predicted: Sequence[float]) -> float:
    """Linear correlation; 0 where either side is constant."""
    if np.ptp(gold) == 0 or np.ptp(predicted) == 0:
        return 0.0
    a, b = np.asarray(gold, float) - np.mean(gold), np.asarray(predicted, float) - np.mean(predicted)
    return float(a @ b) / float(np.sqrt((a @ a) * (b @ b)))


def spearman(gold: Sequence[float], predicted: Sequence[float]) -> float:
    """Correlation of the ranks, with ties averaged; 0 where either side is constant, nan where a value is nan."""
    if np.isnan([*gold, *predicted]).any():
        return float("nan")
    return pearson(_ranks(gold), _ranks(predicted))


def mean_squared_error(gold: Sequence[float], predicted: Sequence[float]) -> float:
    """Mean squared error, in the square of their unit."""
    return float(np.mean((np.asarray(gold) - np.asarray(predicted)) ** 2))


def normalised_answer(text: str) -> str:
    """The text without case, punctuation, articles and double spaces (Rajpurkar et al. 2016, official script)."""
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def normalised_korean_answer(text: str) -> str:
    """The text without case, punctuation, title brackets and double spaces (Lim et al. 2019, official script)."""
    spaced = re.sub("['\"《》<>〈〉()‘’]", " ", text).lower()
    return " ".join("".join(character for character in spaced if character not in string.punctuation).split())


def exact_match(predicted: str, gold: Sequence[str], normalised: Callable[[str], str] = normalised_answer) -> float:
    """1 if the answer is among the gold ones, normalised; an empty answer is correct where there is none."""
    return float(normalised(predicted) in _golds(gold, normalised))


def answer_f1(predicted: str, gold: Sequence[str]) -> float:
    """The best overlap with a gold answer, by words (Rajpurkar et al. 2016)."""
    said = normalised_answer(predicted).split()
    return max(_overlap(said, answer.split()) for answer in _golds(gold, normalised_answer))


def korean_answer_f1(predicted: str, gold: Sequence[str]) -> float:
    """The best overlap with a gold answer, by characters (Lim et al. 2019, KorQuAD's official script)."""
    said = normalised_korean_answer(predicted).replace(" ", "")
    return max(_overlap(said, answer.replace(" ", "")) for answer in _golds(gold, normalised_korean_answer))


def best_threshold(margins: Sequence[float], answered: Sequence[float], silent: Sequence[float]) -> tuple[float, float]:
    """The best mean score of any threshold on the data itself, and that threshold (Rajpurkar et al. 2018, code).

    A threshold stands midway between two margins, so that it does the same when it is rounded. Of several that reach
    the best score it is the one nearest to 0.

    Args:
        margins: for each question, the score of no answer minus that of its best answer; infinite where there is none.
        answered, silent: what each question scores if it is answered, as where its margin is no higher than the
            threshold, and if it is not.
    """
    order = np.argsort(margins, kind="stable")
    margins = np.asarray(margins, float)[order]
    gains = np.asarray(answered, float)[order] - np.asarray(silent, float)[order]
    totals = np.concatenate([[0.0], np.cumsum(gains)]) + np.sum(silent)  # [n]: the first n answered
    thresholds = _thresholds_between(margins)
    reached = totals[np.searchsorted(margins, thresholds, side="right")]
    best = thresholds[np.isclose(reached, reached.max(), rtol=0, atol=1e-9)]  # sums in another order round otherwise
    return float(reached.max()) / len(order), float(best[np.abs(best).argmin()])


def spans_of(tags: Sequence[str]) -> set[Span]:
    """The entities in IOB2 tags, as unit ranges. A stray `I-` belongs to none (seqeval, strict)."""
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
    """Precision, recall, F1 and support of each class, as text; classes absent from the gold are marked."""
    width = max([5, *map(len, table)])
    lines = [f"  {'class':<{width}}  precision  recall      F1  support"]
    lines += [
        f"  {name:<{width}}  {c.precision:9.3f}  {c.recall:6.3f}  {c.f1:6.3f}  {c.support:7d}"
        + ("" if c.support else "  absent from the gold")
        for name, c in table.items()
    ]
    return "\n".join(lines)


def score_table(scores: dict[str, float]) -> str:
    """Each score, as text; a threshold with more decimals, since it is given to another run as it was printed."""
    width = max(map(len, scores))
    decimals = {name: 6 if name.endswith("threshold") else 4 for name in scores}
    return "\n".join(f"  {name:<{width}}  {value:.{decimals[name]}f}" for name, value in scores.items())


def _golds(gold: Sequence[str], normalised: Callable[[str], str]) -> list[str]:
    """The gold answers not empty after normalising; the empty answer if there are none (SQuAD 2.0's script)."""
    return [answer for answer in map(normalised, gold) if answer] or [""]


def _overlap(predicted: Sequence[str], gold: Sequence[str]) -> float:
    if not predicted or not gold:
        return float(predicted == gold)
    return 2 * sum((Counter(predicted) & Counter(gold)).values()) / (len(predicted) + len(gold))


def _thresholds_between(margins: np.ndarray) -> np.ndarray:
    """Thresholds that part these margins in every possible way: one below all, one between any two, one above all."""
    edges = np.unique(margins[np.isfinite(margins)])
    if not len(edges):
        return np.zeros(1)
    middles = np.minimum((edges[:-1] + edges[1:]) / 2, np.nextafter(edges[1:], -np.inf))  # of neighbouring floats too
    return np.array([min(edges[0] - 1, 0), *middles, max(edges[-1] + 1, 0)])


def _ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks from 1; ties share their mean rank."""
    _, inverse, counts = np.unique(np.asarray(values, float), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
