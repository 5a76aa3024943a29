"""What must hold of the measures. Chance would cause a breach once in a million audits, or never."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

from bert.counting import count_of
from pretrain.audit.copies import copied
from pretrain.audit.measures import BUCKETS, Measures, Spread
from pretrain.config import CHECKS, PretrainConfig
from pretrain.data import Sampler
from pretrain.masking import MASKING
from pretrain.negatives import NEGATIVES
from pretrain.text import TextToLearn

FAMILY_WISE = 1e-6
"""The probability that an audit of a correct sampler has any breach."""

_OF_ONE = FAMILY_WISE / (len(CHECKS) + BUCKETS)
"""The same for one of its checks."""

_LEAST = 300
"""Minimum pairs of a length for their balance to be checked."""


@dataclass(frozen=True)
class Check:
    """One thing that was asked for.

    Attributes:
        name: of CHECKS, for audit.allow.
        asked, found: in words.
        breach: whether it does not hold.
        known: whether it does not quite hold, which is inherent in the options and stops no run.
    """

    name: str
    asked: str
    found: str
    breach: bool
    known: bool = False

    @property
    def status(self) -> str:
        """The outcome in a word."""
        return "BREACH" if self.breach else "note" if self.known else "ok"


def check(measures: Measures, sampler: Sampler, text: TextToLearn, config: PretrainConfig) -> list[Check]:
    """Every check that applies to this run."""
    held_out, trained_on = text.valid_source.document_hashes, text.source.document_hashes
    leaked = copied(held_out, text.valid_documents, trained_on, text.train_documents)
    checks = [
        *_masks(measures, sampler),
        *_units(measures, sampler),
        *(_pairs(measures, sampler) if measures.counts["pairs"] else ()),
        _must_be_zero("validation_in_training", leaked, "validation documents are in the training text"),
    ]
    assert {check.name for check in checks} <= set(CHECKS)
    return checks


def _masks(measures: Measures, sampler: Sampler) -> Iterator[Check]:
    masking, counts = sampler.recipe.masking, measures.counts
    rate = masking.rate if masking.rate_end is None else min(masking.rate, masking.rate_end)
    # A single short sequence is subject to rounding; over many, a deviation of 2% would be a bug.
    spread = measures.spread("mask_rate")
    asked = f"{masking.rate:.1%}" + ("" if masking.rate_end is None else f" at first, {masking.rate_end:.1%} at last")
    found = f"{counts['masked'] / max(1, counts['maskable']):.2%} of the tokens"
    yield Check("mask_rate", asked, found, _significant(spread, 0.02 * rate))
    for name, share in (("mask_share", masking.mask_share), ("random_share", masking.random_share)):
        for of, what in (("tokens", "tokens"), ("units", "units")):
            spread = measures.spread(f"{name}_of_{of}")
            yield Check(name, f"{share:.1%}", f"{share + spread.mean:.2%} of the {what}", _significant(spread, 0.01))
    yield _must_be_zero("masked_special", counts["masked_special"], "special tokens are to be predicted")
    yield _must_be_zero("replaced_by_special", counts["replaced_by_special"], "random replacements are special tokens")


def _units(measures: Measures, sampler: Sampler) -> Iterator[Check]:
    allowed, counts = MASKING[sampler.recipe.masking.strategy].longest_words, measures.counts
    yield _must_be_zero("units_of_two_fates", counts["units_of_two_fates"], "units are partly [MASK], partly not")
    if allowed is None:  # units need not be whole words
        return
    broken = counts["words_in_parts"] + counts["units_apart"]
    yield _must_be_zero("words_in_parts", broken, "units begin or end inside a word, or have gaps")
    longest = max((length for length, count in measures.span_lengths.items() if count), default=0)
    words = sum(length * count for length, count in measures.span_lengths.items()) / max(1, counts["units"])
    found = f"{words:.2f} words on average, {longest} at most"
    yield Check("span_lengths", f"{count_of(allowed, 'word')} at most", found, longest > allowed)


def _pairs(measures: Measures, sampler: Sampler) -> Iterator[Check]:
    asked, counts, spread = sampler.recipe.sentence, measures.counts, measures.spread("label_share")
    negatives, share = NEGATIVES[asked.negatives], f"{asked.random_share:.1%}"
    yield Check(
        "label_share", share, f"{asked.random_share + spread.mean:.2%} of the pairs", _significant(spread, 0.02)
    )
    worst, breach = _worst_bucket(measures, asked.random_share)
    if negatives.other_documents:
        yield Check("label_by_length", f"{share} at every length", worst, breach)
    else:  # inherent: a document has nothing else as long as its longest B
        yield Check("label_by_length", f"{share} where A's document offers it", worst, breach=False, known=breach)
    yield _by_sides(measures, sampler, share)
    yield _must_be_zero("labels_wrong", counts["labels_wrong"], "labels do not match their pairs")
    yield _must_be_zero("texts_differ", counts["texts_differ"], "texts are not those of the corpus")
    if sampler.sentence.replaces_b:
        yield _must_be_zero("negatives_true", counts["negatives_true"], "random Bs are the true continuation")
        same = counts["negatives_same_document"]
        if not negatives.own_document:
            yield _must_be_zero("negatives_document", same, "random Bs are from A's own document")
        if not negatives.other_documents:
            elsewhere = counts["negatives"] - same
            yield _must_be_zero("negatives_document", elsewhere, "random Bs are from a document other than A's")
        if not negatives.other_files:
            yield _must_be_zero("negatives_file", counts["negatives_other_file"], "random Bs are from another file")


def _by_sides(measures: Measures, sampler: Sampler, share: str) -> Check:
    """Whether the label can be predicted from which side is longer.

    It can a little where sides are swapped, since B ends with the sentence that reaches the target length; and where a
    document has nothing else as long as its longest B.
    """
    pairs = measures.labels_by_sides  # (longer side, label)
    if pairs.sum(1).min() < _LEAST:
        return Check("label_by_sides", f"{share} whichever side is longer", "too few pairs to tell", breach=False)
    ones = pairs[:, 1] / pairs.sum(1)
    error = (0.25 / pairs.sum(1)).sum() ** 0.5
    differs = abs(ones[0] - ones[1]) > max(0.05, _critical() * error)
    said = f"{ones[0]:.2%} where A is the longer, {ones[1]:.2%} where B is"
    inherent = not (sampler.sentence.replaces_b and NEGATIVES[sampler.recipe.sentence.negatives].other_documents)
    return Check(
        "label_by_sides",
        f"{share} whichever side is longer",
        said,
        breach=bool(differs and not inherent),
        known=bool(differs and inherent),
    )


def _worst_bucket(measures: Measures, share: float) -> tuple[str, bool]:
    """The length bucket where the labels are least balanced; one where that is no chance before any where it may be."""
    worst, said = (False, -1.0), "too few pairs of any length to tell"
    for bucket, (zeros, ones) in enumerate(measures.labels_by_length.tolist()):
        if zeros + ones < _LEAST:
            continue
        found = ones / (zeros + ones)
        deviation, error = abs(found - share), (share * (1 - share) / (zeros + ones)) ** 0.5
        this = (deviation > 0.05 and deviation > _critical() * error, deviation)
        if this > worst:
            worst, said = this, f"{found:.2%} in length bucket {bucket + 1} of {BUCKETS}"
    return said, worst[0]


def _significant(spread: Spread, tolerance: float) -> bool:
    """Whether a deviation exceeds chance, and is large enough to matter."""
    return abs(spread.mean) > tolerance and spread.chance < _OF_ONE


def _critical() -> float:
    """Standard errors that chance exceeds, in any of the checks, in about one of a million audits."""
    return -NormalDist().inv_cdf(_OF_ONE / 2)


def _must_be_zero(name: str, found: int, what: str) -> Check:
    return Check(name, "0", f"{found:,}" if found == 0 else f"{found:,} {what}", found > 0)
