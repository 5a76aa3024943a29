"""A summary of the training data, in a few lines printed before training: pure functions of examples and features."""

import contextlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np

from bert.counting import count_of
from bert.tokenizer import Tokenizer
from bert.unknown import MUCH_UNKNOWN, unknown_characters
from finetune.example_kinds import Example, Labelled, Question, Tagged
from finetune.example_kinds.kind import looks
from finetune.examples import Examples
from finetune.features import Feature
from finetune.units import UNITS

MOST_LABELS = 8
"""Labels listed with their share."""

_OF_BOTH = " of questions with their contexts"

_LONG_ENOUGH = 384
"""Tokens for a question and its context: what BERT's authors gave them (Devlin et al. 2019, code)."""

_RARE = 2
"""Numbers that occur at most so many times on average are probably measurements, not classes."""


def in_words(
    examples: Examples,
    features: list[Feature],
    max_length: int,
    tokenizer: Tokenizer,
    labels: list[str],
    unit: str = "wordpiece",
    most: int = 0,
) -> list[str]:
    """Labels, lengths, what data.max_length costs and what the vocabulary lacks, a line each.

    Args:
        examples: of the training file.
        features: of all these examples.
        max_length: maximum tokens in a sequence.
        tokenizer: the one that made the features.
        labels: the classes to learn; empty where labels are numbers.
        unit: what carries a tag, one of UNITS: single characters are looked up as such.
        most: how many tokens the model can read, for advice on questions.
    """
    used, kind = examples.used, type(examples.used[0])
    said = [
        (classes_in_words if labels else numbers_in_words)(used) if kind is Labelled else None,
        one_number_in_words(labels),
        measurements_in_words(labels, len(used)),
        alike_in_words(labels),
        repeated_in_words(used, numbers=not labels) if kind is Labelled else None,
        header_in_words(used) if kind is Labelled and examples.path.suffix in (".tsv", ".csv") else None,
        entities_in_words(used) if kind is Tagged else None,
        questions_in_words(used) if kind is Question else None,
        f"lengths{_OF_BOTH * (kind is Question)}: {lengths_in_words(lengths_of(len(used), features))}",
        left_out_in_words(examples, features, max_length),
        asked_windows_in_words(features, max_length, most) if kind is Question else None,
        windows_in_words(features, max_length) if kind is not Question else None,
        no_token_in_words(len(used), features),
        unknown_in_words(used, features, tokenizer, unit),
        line_ends_in_words(used) if kind is Labelled else None,
        quoted_in_words(used) if kind is Labelled and examples.path.suffix == ".tsv" else None,
    ]
    return [f"data.train: {line}" for line in said if line]


def classes_in_words(examples: list[Labelled]) -> str:
    """Each label's share, the most frequent first."""
    return f"labels: {_shares([example.label for example in examples])}"


def one_number_in_words(labels: list[str]) -> str | None:
    """Classes that are the same number, written differently; None where there are none."""
    by_number: dict[float, list[str]] = {}
    for label in labels:
        with contextlib.suppress(ValueError):
            by_number.setdefault(float(label), []).append(label)
    same = [" and ".join(map(repr, alike)) for alike in by_number.values() if len(alike) > 1]
    return f"WARNING: different classes, but the same number: {'; '.join(same)}" if same else None


def measurements_in_words(labels: list[str], rows: int) -> str | None:
    """A hint that the labels are measured numbers, nearly each of them another; None where they are not."""
    if not labels or rows > _RARE * len(labels) or numbers_of(labels) is None:
        return None
    counts = f"{count_of(len(labels), 'class', 'classes')} in {count_of(rows, 'row')}"
    return f"WARNING: {counts}, all of them numbers: is this task.name=regression?"


def alike_in_words(labels: list[str]) -> str | None:
    """Classes that look the same but for case, or are composed of other characters; None where there are none."""
    by_looks: dict[str, list[str]] = {}
    for label in labels:
        by_looks.setdefault(looks(label).casefold(), []).append(label)
    same = [" and ".join(map(ascii, alike)) for alike in by_looks.values() if len(alike) > 1]
    return f"WARNING: different classes, but they look alike: {'; '.join(same)}" if same else None


def numbers_in_words(examples: list[Labelled]) -> str:
    """Range, mean and standard deviation of the numbers."""
    numbers = [float(example.label) for example in examples]
    mean, deviation = float(np.mean(numbers)), float(np.std(numbers))
    return f"labels: numbers from {min(numbers):g} to {max(numbers):g}, mean {mean:.3f}, deviation {deviation:.3f}"


def repeated_in_words(examples: list[Labelled], numbers: bool = False) -> str | None:
    """How many texts, or pairs, occur more than once, and how many of them with different labels; None where none does.

    Args:
        examples: of the file.
        numbers: whether labels are numbers, so that 1 and 1.0 are the same.
    """
    times: Counter[tuple[str, str | None]] = Counter()
    labels: dict[tuple[str, str | None], set[str | float]] = defaultdict(set)
    for example in examples:
        text = example.text, example.text_pair
        times[text] += 1
        labels[text].add(float(example.label) if numbers else example.label)
    repeated = [text for text, count in times.items() if count > 1]
    if not repeated:
        return None
    nouns = ("text", "texts") if repeated[0][1] is None else ("pair of texts", "pairs of texts")
    occur = f"{count_of(len(repeated), *nouns)} {'occurs' if len(repeated) == 1 else 'occur'} more than once"
    differ = sum(len(labels[text]) > 1 for text in repeated)
    of_them = f"{differ:,} of them " if differ < len(repeated) else ""
    return f"{occur}, {of_them}with different labels" if differ else f"{occur}, always with the same label"


def header_in_words(examples: list[Labelled]) -> str | None:
    """A warning of a label that only line 1 has, as when a header is read as a row; or None.

    Line 1 is a row only where the columns were numbered.
    """
    first, *others = examples
    numbers = numbers_of([example.label for example in others])
    if first.line != 1 or not others or numbers or any(example.label == first.label for example in others):
        return None
    named = f"name the columns instead of numbering them, such as data.label={first.label}"
    return f"WARNING: line 1 is read as a row, and no other has its label {first.label!r}: if it is a header, {named}"


def numbers_of(labels: list[str]) -> list[float] | None:
    """The labels as numbers, if all are finite and some are not plain integers, which count as names; else None."""
    try:
        numbers = [float(label) for label in labels]
    except ValueError:
        return None
    whole = all(label.lstrip("+-").isdecimal() for label in labels)
    return None if whole or not all(map(math.isfinite, numbers)) else numbers


def entities_in_words(examples: list[Tagged]) -> str:
    """How many entities there are of each type, and how many sentences have none."""
    types = [kind for example in examples for _, _, kind in example.entities]
    none = sum(not example.entities for example in examples)
    without = f"{none:,} of {count_of(len(examples), 'sentence')} {'has' if none == 1 else 'have'} none"
    return f"entities: {len(types):,}: {_shares(types)}; {without}"


def questions_in_words(examples: list[Question]) -> str:
    """How many questions there are, about how many contexts, and how many have no answer."""
    silent, about = sum(not example.answers for example in examples), len({example.text_pair for example in examples})
    share = f"{silent:,} ({silent / len(examples):.1%})"
    return f"questions: {len(examples):,} about {count_of(about, 'context')}; {share} have no answer"


def lengths_of(count: int, features: list[Feature]) -> list[int]:
    """The length of each example as one sequence, in tokens, special ones included; 0 where it has no sequence.

    Args:
        count: number of examples.
        features: their features.
    """
    lengths = [0] * count
    for feature in features:
        goes_on = lengths[feature.example] > 0
        new = len(feature.token_ids) - (feature.repeated if goes_on else 0)
        lengths[feature.example] += new + (0 if goes_on else feature.cut)
    return lengths


def percentile(values: Iterable[int], share: int) -> int:
    """The smallest value that at least `share` percent of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(1, math.ceil(share * len(ordered) / 100)) - 1]


def lengths_in_words(lengths: list[int]) -> str:
    """Percentiles of the lengths in tokens, and the maximum."""
    half, most, nearly_all = (percentile(lengths, share) for share in (50, 90, 99))
    return f"median {half:,} tokens; 90% have at most {most:,}, 99% {nearly_all:,}, the longest {max(lengths):,}"


def left_out_in_words(examples: Examples, features: list[Feature], max_length: int) -> str | None:
    """How much of the texts, or of the questions, is truncated; None where nothing is."""
    cut = cut_questions_in_words if isinstance(examples.used[0], Question) else cut_in_words
    return cut(features, max_length)


def cut_in_words(features: list[Feature], max_length: int) -> str | None:
    """How many texts are truncated, and the share of their tokens (including special ones) lost; None where none is."""
    cut = [feature for feature in features if feature.cut]
    if not cut:
        return None
    lost = sum(feature.cut for feature in cut)
    share = lost / (lost + sum(len(feature.token_ids) for feature in cut))
    texts = _texts(len({feature.example for feature in cut}))
    return f"{texts} cut to data.max_length={max_length}, losing {share:.1%} of their tokens"


def cut_questions_in_words(features: list[Feature], max_length: int) -> str | None:
    """How many questions are truncated, so that their texts get half of each sequence; None where none is."""
    cut = len({feature.example for feature in features if feature.cut})
    said = "1 question is" if cut == 1 else f"{cut:,} questions are"
    return f"{said} cut to half of data.max_length={max_length}" if cut else None


def windows_in_words(features: list[Feature], max_length: int) -> str | None:
    """How many texts are read in several windows, and in how many in all; None where none is."""
    several = _windows(features)
    return f"{_texts(len(several))} {_read_in(several, max_length)}" if several else None


def asked_windows_in_words(features: list[Feature], max_length: int, most: int) -> str | None:
    """The same of questions, each read with its context; advice if more than half are, and the model can read more.

    Args:
        features: of all questions.
        max_length: maximum tokens in a sequence.
        most: how many tokens the model can read.
    """
    several = _windows(features)
    if not several:
        return None
    better = min(_LONG_ENOUGH, most)
    advised = 2 * len(several) > len({feature.example for feature in features}) and better > max_length
    advice = f"; --data.max_length {better} would read more of them whole" if advised else ""
    return f"{_questions(len(several))} {_read_in(several, max_length)}{advice}"


def no_token_in_words(count: int, features: list[Feature]) -> str | None:
    """How many texts the tokenizer turns into no tokens; None where there are none."""
    empty = count - len({feature.example for feature in features if not feature.is_empty})
    return f"{count_of(empty, 'text')} {'has' if empty == 1 else 'have'} no tokens at all" if empty else None


def unknown_in_words(
    examples: list[Example], features: list[Feature], tokenizer: Tokenizer, unit: str = "wordpiece"
) -> str | None:
    """The share of unknown tokens, and of the characters that they stand for; None where there are none.

    Only texts with an unknown token among those that are read are tokenised again, for the characters.
    """
    unknown = [feature.token_ids.count(tokenizer.unk_id) for feature in features]
    lacking = {feature.example for feature, count in zip(features, unknown, strict=True) if count}
    if not lacking:
        return None
    texts: dict[str, bool] = {}  # each once, and whether anything in it is unknown
    for number, example in enumerate(examples):
        for text in (example.text, getattr(example, "text_pair", None) or ""):
            texts[text] = texts.get(text, False) or number in lacking
    nothing = (), ()
    counts = (
        unknown_characters(text, *(_tokens(text, tokenizer, unit) if lacks else nothing), tokenizer.unk_id)
        for text, lacks in texts.items()
    )
    lost, characters = map(sum, zip(*counts, strict=True))
    share = lost / max(1, characters)
    warning = "WARNING: " if share > MUCH_UNKNOWN else ""
    of_tokens = f"{sum(unknown) / sum(len(feature.token_ids) for feature in features):.2%} of the tokens"
    return f"{warning}{share:.2%} of the texts' characters become {tokenizer.token(tokenizer.unk_id)} ({of_tokens})"


def _tokens(text: str, tokenizer: Tokenizer, unit: str) -> tuple[list[int], list[tuple[int, int]]]:
    """The ids of a text, and the characters that each stands for, start and end."""
    if unit == "character":
        ids, units = UNITS[unit](text, tokenizer)
        return ids, [(start, end) for _, start, end in units]
    pieces = tokenizer.encode_text(text)
    return pieces.ids, pieces.offsets


def line_ends_in_words(examples: list[Labelled]) -> str | None:
    """How many texts span several lines, as unclosed quotation marks cause; None where none does."""
    lines = {example.line: example.text.count("\n") + 1 for example in examples if "\n" in example.text}
    if not lines:
        return None
    longest = max(lines, key=lines.get)
    return f"{_texts(len(lines))} several lines long; the one at line {longest} has {lines[longest]:,}"


def quoted_in_words(examples: list[Labelled]) -> str | None:
    """How many texts are in quotation marks, as if the file had been written with quoting; None where none is."""
    texts = [example.text for example in examples]
    quoted = sum(len(text) > 1 and text[0] == text[-1] == '"' for text in texts)
    said = "uses quoting, set data.quoting=on"
    return f"{_texts(quoted)} in quotation marks, which are read as text; if the file {said}" if quoted else None


def _shares(names: list[str]) -> str:
    """`name count (share)`, the most frequent first; beyond MOST_LABELS, only how many more."""
    ranked = sorted(Counter(names).items(), key=lambda item: (-item[1], item[0]))
    said = ", ".join(f"{name} {count:,} ({count / len(names):.1%})" for name, count in ranked[:MOST_LABELS])
    if more := ranked[MOST_LABELS:]:
        said += f" and {len(more):,} more, the rarest {more[-1][0]} {more[-1][1]:,}"
    return said


def _windows(features: list[Feature]) -> list[int]:
    """In how many windows each example is read that is read in several."""
    return [count for count in Counter(feature.example for feature in features).values() if count > 1]


def _read_in(windows: list[int], max_length: int) -> str:
    return f"longer than data.max_length={max_length} and read in {sum(windows):,} sequences"


def _questions(count: int) -> str:
    return "1 question with its context is" if count == 1 else f"{count:,} questions with their contexts are"


def _texts(count: int) -> str:
    return "1 text is" if count == 1 else f"{count:,} texts are"
