"""What is measured on a sampler's blocks: only sums, so that a million sequences need no more memory than one block.

Letters: N sequences, T tokens, M masked tokens, U units, E pairs.
"""

import math
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from pretrain import ragged
from pretrain.block import Block
from pretrain.data import Sampler

BUCKETS = 8
"""Number of sequence length buckets, of equal width."""

READ_BACK = 200
"""Pairs of each block whose text is compared with the corpus, token by token."""


@dataclass
class Spread:
    """A sum over sequences of deviations from the expected value, and how likely chance makes it as large.

    Sequences are independent of each other, whatever happens within one.

    Attributes:
        deviation, variance: of the sum.
        size: the most that it could be.
        largest: the most that one sequence could deviate.
    """

    deviation: float = 0.0
    variance: float = 0.0
    size: float = 0.0
    largest: float = 0.0

    def add(self, deviations: np.ndarray, sizes: np.ndarray, variances: np.ndarray | None = None) -> None:
        """Add sequences.

        Args:
            deviations: of each, (N,).
            sizes: the most each could have had, (N,).
            variances: of each if all is as asked, (N,); where that is not known, the squares of the deviations.
        """
        self.deviation += float(deviations.sum())
        self.variance += float((np.square(deviations) if variances is None else variances).sum())
        self.size += float(sizes.sum())
        self.largest = max(self.largest, float(sizes.max(initial=0.0)))

    @property
    def mean(self) -> float:
        """The deviation as a share of the total size."""
        return self.deviation / self.size if self.size else 0.0

    @property
    def chance(self) -> float:
        """At most the probability that chance makes the deviation as large (Bernstein's inequality, both sides).

        Unlike a normal distribution's, it holds for any number of sequences, where their variances are known.
        """
        if not self.deviation:
            return 1.0
        far = abs(self.deviation)
        return min(1.0, 2 * math.exp(-(far**2) / 2 / (self.variance + self.largest * far / 3)))


@dataclass
class Measures:
    """All measures of the audited sequences.

    Attributes:
        labels_by_length: pairs by the bucket of their length and by label.
        labels_by_sides: pairs whose sides are not equally long, by whether B is the longer and by label.
    """

    counts: Counter = field(default_factory=Counter)
    spreads: dict[str, Spread] = field(default_factory=dict)
    span_lengths: Counter = field(default_factory=Counter)
    lengths: np.ndarray = field(default_factory=lambda: np.zeros(BUCKETS, np.int64))
    labels_by_length: np.ndarray = field(default_factory=lambda: np.zeros((BUCKETS, 2), np.int64))
    labels_by_sides: np.ndarray = field(default_factory=lambda: np.zeros((2, 2), np.int64))

    def spread(self, name: str) -> Spread:
        """The spread of that name."""
        return self.spreads.setdefault(name, Spread())


def measure(sampler: Sampler, sequences: int) -> Measures:
    """Measure blocks of the first epochs, in order, until there are at least this many sequences.

    Epochs that repeat the pairs of earlier ones (data.copies) are left out: counted as chance, a pair that is there
    twice would look like a bias.
    """
    found, epoch, empty = Measures(), 0, True
    while not sampler.recipe.data.copies or epoch < sampler.recipe.data.copies:
        for number in range(sampler.num_blocks):
            block = sampler.block(epoch, number)
            found.counts["blocks"] += 1
            if len(block):
                empty = False
                add_block(found, sampler, block, sampler.rates(epoch, number, len(block)))
            if found.counts["sequences"] >= sequences:
                return found
        epoch += 1
        if empty:
            break
    return found


def add_block(found: Measures, sampler: Sampler, block: Block, rates: np.ndarray) -> None:
    """Add a block whose micro-batches' masks were drawn at these rates."""
    found.counts.update(block.tally)
    _add_lengths(found, sampler, block)
    _add_masks(found, sampler, block, np.repeat(rates, np.diff(block.cuts)))
    _add_units(found, sampler, block)
    if block.labelled:
        _add_pairs(found, sampler, block)


def _add_lengths(found: Measures, sampler: Sampler, block: Block) -> None:
    bucket = _buckets(block)
    found.lengths += np.bincount(bucket, minlength=BUCKETS)
    found.counts["unknown"] += int((_original(block) == sampler.unk_id).sum())


def _add_masks(found: Measures, sampler: Sampler, block: Block, rate: np.ndarray) -> None:
    """How many tokens of each sequence are predicted, against its rate, (N,), and what replaced them."""
    sequences, masking = block.sequences, sampler.recipe.masking
    available = np.add.reduceat(sequences.maskable, sequences.cu_seqlens[:-1], dtype=np.int64)  # (N,)
    of_sequence = ragged.containing(sequences.cu_seqlens, block.masked)  # (M,)
    chosen = np.bincount(of_sequence, minlength=len(available))
    wanted = np.maximum(1, np.rint(rate * available)) if masking.count == "fixed" else rate * available
    found.spread("mask_rate").add(chosen - np.minimum(wanted, available), available)
    found.counts["maskable"] += int(available.sum())
    found.counts["masked"] += int(chosen.sum())
    seen = sequences.ids[block.masked]
    is_mask, is_same = seen == sampler.mask_id, seen == block.masked_labels
    replaced = ~is_mask & ~is_same
    found.counts["masked_special"] += int((~sequences.maskable[block.masked]).sum())
    found.counts["replaced_by_special"] += int(sampler.special[seen[replaced]].sum())
    first = np.flatnonzero(np.r_[True, np.diff(block.units) > 0]) if len(block.units) else block.units
    units = np.bincount(of_sequence[first], minlength=len(available))
    sizes = np.diff(np.append(first, len(block.units)))
    squares = np.bincount(of_sequence[first], weights=sizes**2, minlength=len(available))  # of the units' sizes
    for name, fates, share in _fates(sampler, is_mask, replaced):
        of_sequences = np.bincount(of_sequence, weights=fates, minlength=len(available))
        found.spread(f"{name}_of_tokens").add(of_sequences - share * chosen, chosen, share * (1 - share) * squares)
    for name, fates, share in _fates(sampler, is_mask[first], replaced[first]):
        of_sequences = np.bincount(of_sequence[first], weights=fates, minlength=len(available))
        found.spread(f"{name}_of_units").add(of_sequences - share * units, units, share * (1 - share) * units)


def _fates(sampler: Sampler, is_mask: np.ndarray, replaced: np.ndarray):
    """Each replacement with the share asked for; a random token equal to the original counts as unchanged."""
    masking = sampler.recipe.masking
    yield "mask_share", is_mask, masking.mask_share
    yield "random_share", replaced, masking.random_share * (1 - 1 / len(sampler.ordinary_ids))


def _add_units(found: Measures, sampler: Sampler, block: Block) -> None:
    """How long units are, whether each is whole words, and whether its tokens are replaced alike."""
    if len(block.units) == 0:
        return
    sequences = block.sequences
    first = np.flatnonzero(np.r_[True, np.diff(block.units) > 0])
    sizes = np.diff(np.append(first, len(block.units)))
    begin, end = block.masked[first], block.masked[first] + sizes  # in tokens, (U,) each
    is_mask = sequences.ids[block.masked] == sampler.mask_id
    of_unit = np.add.reduceat(is_mask, first, dtype=np.int64)
    found.counts["units"] += len(first)
    found.counts["units_of_two_fates"] += int(((of_unit > 0) & (of_unit < sizes)).sum())
    apart = block.masked[first + sizes - 1] != end - 1
    found.counts["units_apart"] += int(apart.sum())
    word_begins = sequences.word_starts | ~sequences.maskable
    word_begins[1:] |= ~sequences.maskable[:-1]
    word_begins = np.append(word_begins, True)
    found.counts["words_in_parts"] += int((~word_begins[begin] | ~word_begins[end]).sum())
    starts = np.append(0, np.cumsum(word_begins))
    words = starts[end] - starts[begin] + ~word_begins[begin]
    found.span_lengths.update(dict(enumerate(np.bincount(words).tolist())))


def _add_pairs(found: Measures, sampler: Sampler, block: Block) -> None:
    """Labels against lengths, and the texts in A's and B's place against what the label says."""
    examples, asked = block.sequences.examples, sampler.recipe.sentence
    labels = examples.labels
    share, each = asked.random_share, np.ones(len(labels))
    found.spread("label_share").add(labels - share, each, share * (1 - share) * each)
    np.add.at(found.labels_by_length, (_buckets(block), labels), 1)
    uneven = examples.a_length != examples.b_length
    b_longer = (examples.b_length > examples.a_length).astype(np.int64)
    np.add.at(found.labels_by_sides, (b_longer[uneven], labels[uneven]), 1)
    found.counts["pairs"] += len(labels)
    one = labels == 1
    if sampler.sentence.replaces_b:
        found.counts["negatives"] += int(one.sum())
        found.counts["negatives_true"] += int((one & (examples.b_sentence == examples.next_sentence)).sum())
        hashes, documents = sampler.source.document_hashes, sampler.source.document_of(examples.b_sentence)
        same = hashes[documents] == hashes[examples.document]
        found.counts["negatives_same_document"] += int((one & same).sum())
        files = sampler.source.file_of(np.stack([documents, examples.document]))
        found.counts["negatives_other_file"] += int((one & (files[0] != files[1])).sum())
        found.counts["labels_wrong"] += int((~one & (examples.b_sentence != examples.next_sentence)).sum())
    else:
        swapped = examples.a_sentence == examples.next_sentence
        found.counts["labels_wrong"] += int((one != swapped).sum())
    _read_back(found, sampler, block)


def _read_back(found: Measures, sampler: Sampler, block: Block) -> None:
    """Whether A and B match the corpus at the sentences they are said to be from."""
    texts, examples, source = _texts(block), block.sequences.examples, sampler.source
    sentences = np.stack([examples.a_sentence, examples.b_sentence], axis=1)[: len(texts) // 2].ravel()
    # Of at least a token each, and all within the segment as it was before its front was cut.
    longest = sentences + block.max_seqlen
    last = np.minimum(source.sentence_offsets[source.document_of(sentences) + 1], longest)
    tokens = np.add.reduceat(source.counts(sentences, last), ragged.offsets(last - sentences)[:-1])
    said = np.split(source.read(sentences, last)[0], np.cumsum(tokens)[:-1])
    found.counts["texts_read_back"] += len(texts)
    found.counts["texts_differ"] += sum(a.tobytes() not in b.tobytes() for a, b in zip(texts, said, strict=True))


def _texts(block: Block) -> list[np.ndarray]:
    """A and B of the first `READ_BACK` pairs, alternating, as they were before masking."""
    original, sequences, texts = _original(block), block.sequences, []
    for start, end in pairwise(sequences.cu_seqlens[: READ_BACK + 1]):
        second = start + int(np.argmax(sequences.segments[start:end] == 1))
        texts += [original[start + 1 : second - 1], original[second : end - 1]]
    return texts


def _original(block: Block) -> np.ndarray:
    """The tokens before masking, (T,)."""
    ids = block.sequences.ids.copy()
    ids[block.masked] = block.masked_labels
    return ids


def _buckets(block: Block) -> np.ndarray:
    """The bucket of each sequence's length, (N,)."""
    lengths = np.diff(block.sequences.cu_seqlens)
    return np.minimum(BUCKETS - 1, (lengths - 1) * BUCKETS // block.max_seqlen)
