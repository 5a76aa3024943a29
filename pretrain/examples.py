"""From documents to examples: where segments begin and end, how they are truncated, and how they are laid out.

Letters: D documents of the block, S sentences of these, E examples, T tokens.
"""

from dataclasses import dataclass, replace

import numpy as np

from pretrain import ragged
from pretrain.inputs.format import Format
from pretrain.token_source import TokenSource


@dataclass(frozen=True)
class Text:
    """Tokens that examples point into.

    Attributes:
        ids: (T,), int64.
        word_starts: True where a token begins a word, (T,).
    """

    ids: np.ndarray
    word_starts: np.ndarray

    def append(self, ids: np.ndarray, word_starts: np.ndarray) -> "Text":
        """This text with more appended."""
        return Text(np.concatenate([self.ids, ids]), np.concatenate([self.word_starts, word_starts]))


@dataclass(frozen=True)
class Examples:
    """Segments as ranges of a Text, (E,) each; B is empty where there is one segment.

    Attributes:
        a_start, a_length, b_start, b_length: in tokens.
        document: the document A is from, numbered through the corpus.
        a_sentence, b_sentence: the sentences A and B start with, numbered through the corpus.
        next_sentence: the sentence that truly follows A as originally cut.
        labels: drawn for the sentence objective, 0 or 1.
    """

    a_start: np.ndarray
    a_length: np.ndarray
    b_start: np.ndarray
    b_length: np.ndarray
    document: np.ndarray
    a_sentence: np.ndarray
    b_sentence: np.ndarray
    next_sentence: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.a_start)

    def take(self, order: np.ndarray) -> "Examples":
        """The same examples in another order."""
        return Examples(**{name: array[order] for name, array in vars(self).items()})


@dataclass(frozen=True)
class Cutting:
    """How documents are cut into examples.

    Attributes:
        input: the format.
        budget: maximum tokens of an example, without special ones.
        short_seq_prob: share of examples with a random shorter target (Devlin et al. 2019, appendix A.2).
        label_share: share of examples with label 1.
        label_one_replaces_b: whether label 1 replaces B by another text, so that B's own sentences are left over.
        reuse_remainder: whether those begin the next example, or are dropped.
    """

    input: Format
    budget: int
    short_seq_prob: float
    label_share: float
    label_one_replaces_b: bool
    reuse_remainder: bool


@dataclass(frozen=True)
class Sentences:
    """The sentences of a block of documents, without empty ones; sentences and documents are numbered in the corpus.

    Attributes:
        counts: tokens of each sentence, (S,).
        numbers: the number of each sentence, (S,).
        per_document: sentences of each document, (D,).
        documents: the number of each document, (D,).
    """

    counts: np.ndarray
    numbers: np.ndarray
    per_document: np.ndarray
    documents: np.ndarray

    @classmethod
    def of(cls, source: TokenSource, documents: np.ndarray) -> "Sentences":
        """Those of documents of a corpus, from their numbers, (D,)."""
        first, last = source.sentences_of(documents)
        counts, numbers = source.counts(first, last), ragged.ranges(first, last - first)
        document = np.repeat(np.arange(len(documents)), last - first)
        kept = counts > 0
        return cls(counts[kept], numbers[kept], np.bincount(document[kept], minlength=len(documents)), documents)


def cut(sentences: Sentences, cutting: Cutting, rng: np.random.Generator) -> tuple[Examples, dict[str, int]]:
    """Cut a block of documents into examples, B being what truly follows A.

    The label is drawn after the cut and independently of it, so it reveals nothing about an example's length or place.

    Args:
        sentences: those of the documents.
        cutting: how they are cut.
        rng: the generator of this block's pairs.

    Returns:
        The examples, in the order of the text, and counts of what became of the sentences.
    """
    token_offsets = ragged.offsets(sentences.counts)
    rows, unused = _walk(token_offsets.tolist(), sentences.per_document.tolist(), cutting, rng)
    a_first, a_last, b_last, labels, document = np.array(rows, np.int64).reshape(-1, 5).T
    following = sentences.numbers[np.minimum(a_last, len(sentences.counts) - 1)]
    examples = Examples(
        a_start=token_offsets[a_first],
        a_length=token_offsets[a_last] - token_offsets[a_first],
        b_start=token_offsets[a_last],
        b_length=token_offsets[b_last] - token_offsets[a_last],
        document=sentences.documents[document],
        a_sentence=sentences.numbers[a_first],
        b_sentence=following,
        next_sentence=following,
        labels=labels,
    )
    replaced = (labels == 1) if cutting.label_one_replaces_b else np.zeros(len(labels), bool)
    remainder = int((b_last - a_last)[replaced].sum())
    return examples, {
        "sentences": len(sentences.counts),
        "sentences_left_over": unused if cutting.reuse_remainder else unused + remainder,
        "sentences_after_random_b": remainder,
    }


def _walk(
    token_offsets: list[int], per_document: list[int], cutting: Cutting, rng: np.random.Generator
) -> tuple[list[tuple[int, int, int, int, int]], int]:
    """Walk every document: rows of (A's first sentence, A's end, B's end, label, document), and sentences unused."""
    find_end, budget = cutting.input.cut, cutting.budget
    draws = zip(*rng.random((len(token_offsets), 4)).T.tolist(), strict=True)
    rows, unused, begin = [], 0, 0
    for document, size in enumerate(per_document):
        cumulative = token_offsets[begin : begin + size + 1]
        start = 0
        while start < size:
            short, shorter, place, coin = next(draws)
            target = 2 + int(shorter * (budget - 1)) if short < cutting.short_seq_prob else budget
            ends = find_end(cumulative, start, target, place)
            if ends is None:
                break
            label = int(coin < cutting.label_share)
            rows.append((begin + start, begin + ends[0], begin + ends[1], label, document))
            start = ends[0] if label and cutting.label_one_replaces_b and cutting.reuse_remainder else ends[1]
        unused += size - start
        begin += size
    return rows, unused


def longest_first(a: np.ndarray, b: np.ndarray, budget: int) -> tuple[np.ndarray, np.ndarray]:
    """Lengths after taking one token at a time from the longer segment, or B when equal: (E,), (E,) -> (E,), (E,).

    The closed form of `truncate_seq_pair` (Devlin et al. 2019, code).
    """
    most_a, most_b = budget - budget // 2, budget // 2
    fits = a + b <= budget
    kept_a = np.where(fits, a, np.where(b <= most_b, np.minimum(a, budget - b), np.minimum(a, most_a)))
    return kept_a, np.minimum(b, budget - kept_a)


def second_first(a: np.ndarray, b: np.ndarray, budget: int) -> tuple[np.ndarray, np.ndarray]:
    """Lengths after cutting B down to one token, and only then A: (E,), (E,) -> (E,), (E,)."""
    least_b = np.minimum(b, 1)
    kept_a = np.minimum(a, budget - least_b)
    return kept_a, np.minimum(b, budget - kept_a)


# Lengths kept, and whether tokens are removed from front or back at random (else from the back).
TRUNCATION = {"longest_first": (longest_first, True), "second_first": (second_first, False)}


def truncate(
    examples: Examples, budget: int, truncation: str, rng: np.random.Generator
) -> tuple[Examples, dict[str, int]]:
    """Truncate every example to the budget, and count the tokens removed."""
    lengths, from_both_ends = TRUNCATION[truncation]
    a, b = lengths(examples.a_length, examples.b_length, budget)
    cut_a, cut_b = examples.a_length - a, examples.b_length - b
    front_a = rng.binomial(cut_a, 0.5) if from_both_ends else 0
    front_b = rng.binomial(cut_b, 0.5) if from_both_ends else 0
    shortened = replace(
        examples,
        a_start=examples.a_start + front_a,
        a_length=a,
        b_start=examples.b_start + front_b,
        b_length=b,
    )
    lost = int(cut_a.sum() + cut_b.sum())
    return shortened, {"tokens_truncated": lost, "examples_truncated": int((cut_a + cut_b > 0).sum())}


@dataclass(frozen=True)
class Sequences:
    """Examples laid out with their special tokens, concatenated.

    Attributes:
        ids, segments, positions: (T,), int64.
        word_starts, maskable: (T,), bool.
        cu_seqlens: where each sequence starts, and T last, (E + 1,).
        examples: those laid out, (E,).
    """

    ids: np.ndarray
    segments: np.ndarray
    positions: np.ndarray
    word_starts: np.ndarray
    maskable: np.ndarray
    cu_seqlens: np.ndarray
    examples: Examples

    @property
    def labels(self) -> np.ndarray:
        """(E,)."""
        return self.examples.labels


def lay_out(examples: Examples, text: Text, segments: int, cls_id: int, sep_id: int, special: np.ndarray) -> Sequences:
    """[CLS] A [SEP], or [CLS] A [SEP] B [SEP] with B and the last [SEP] in segment 1.

    Args:
        examples: E of them.
        text: the text they point into.
        segments: 1 or 2.
        cls_id, sep_id: of [CLS] and [SEP].
        special: True for the ids that may not be masked, (vocabulary,).
    """
    a, b = examples.a_length, examples.b_length
    cu_seqlens = ragged.offsets(a + b + 1 + segments)
    starts = cu_seqlens[:-1]
    ids = np.full(cu_seqlens[-1], sep_id, np.int64)
    word_starts, segment_ids = np.ones(len(ids), bool), np.zeros(len(ids), np.int64)
    ids[starts] = cls_id
    _copy(text, ids, word_starts, examples.a_start, starts + 1, a)
    if segments == 2:
        _copy(text, ids, word_starts, examples.b_start, starts + 2 + a, b)
        segment_ids[ragged.ranges(starts + 2 + a, b + 1)] = 1
    return Sequences(
        ids=ids,
        segments=segment_ids,
        positions=ragged.ranges(np.zeros(len(a), np.int64), np.diff(cu_seqlens)),
        word_starts=word_starts,
        maskable=~special[ids],
        cu_seqlens=cu_seqlens,
        examples=examples,
    )


def _copy(
    text: Text,
    ids: np.ndarray,
    word_starts: np.ndarray,
    source: np.ndarray,
    target: np.ndarray,
    length: np.ndarray,
) -> None:
    taken, placed = ragged.ranges(source, length), ragged.ranges(target, length)
    ids[placed] = text.ids[taken]
    word_starts[placed] = text.word_starts[taken]
    word_starts[target[length > 0]] = True  # also if truncation left only part of that word
