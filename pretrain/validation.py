"""The frozen sets a run is judged by: the same text under the same masks, whatever the run itself does."""

import math
from dataclasses import dataclass, replace

import numpy as np

from bert.errors import UserError
from bert.packed import PackedBatch
from pretrain.config import MaskingConfig, PretrainConfig, SentenceConfig
from pretrain.data import Recipe, Sampler, frozen_batches
from pretrain.randomness import Permutation
from pretrain.sentence import SENTENCE
from pretrain.text import TextToLearn

VALIDATION_SEED = 20181011
"""Of the frozen sets, whatever the run's own seed (the day the BERT paper came out)."""

MICRO_BATCH = 64
"""Sequences in a batch of the frozen sets: masks are drawn by the micro-batch, so the run's own size plays no part."""

UNIGRAM_BYTES = 64 << 20
"""Text that word frequencies are counted on, about."""


@dataclass(frozen=True)
class Validation:
    """The frozen sets a run is judged by; the same for every run on this text.

    Attributes:
        masked: one segment of whole sentences, token masking at 15%, 80-10-10.
        pairs: in the run's own input format, with its sentence labels; empty where it has none.
        unigram_cross_entropy: of masked's targets under the smoothed unigram of the training text, in nats.
        bits_per_character_factor: times a masked-LM loss in nats gives bits per character.
    """

    masked: list[PackedBatch]
    pairs: list[PackedBatch]
    unigram_cross_entropy: float
    bits_per_character_factor: float

    def in_words(self) -> str:
        """How much there is to be judged by."""
        masked = sum(len(batch.targets["masked_labels"]) for batch in self.masked)
        said = f"validation: {masked:,} masked tokens"
        if not self.pairs:
            return said
        labels = np.concatenate([batch.targets["sentence_labels"].numpy() for batch in self.pairs])
        return f"{said}, {len(labels):,} pairs of which {labels.mean():.1%} have label 1"


def build_validation(config: PretrainConfig, text: TextToLearn) -> Validation:
    """Sample the validation sets."""
    data = replace(config.data, copies=0)
    whole = SentenceConfig(objective="none", input="doc_sentences", short_seq_prob=0.0)
    masking = MaskingConfig(strategy="token")
    most = config.training.eval_sequences
    recipe = Recipe(data, whole, masking, min(MICRO_BATCH, most), VALIDATION_SEED)
    masked = frozen_batches(Sampler(text.validation, text.valid, text.tokenizer, recipe), most)
    pairs = []
    if SENTENCE[config.sentence.objective].labels:
        recipe = replace(recipe, sentence=replace(config.sentence, random_share=0.5))
        sampler = Sampler(text.validation, text.valid, text.tokenizer, recipe)
        pairs = [_without_masked(batch) for batch in _pairs(sampler, most)]
    return Validation(
        masked=masked,
        pairs=pairs,
        unigram_cross_entropy=_unigram_cross_entropy(masked, text),
        bits_per_character_factor=1 / math.log(2) / text.characters_per_token,
    )


def _pairs(sampler: Sampler, most: int) -> list[PackedBatch]:
    try:
        return frozen_batches(sampler, most)
    except UserError as error:
        raise UserError(
            f"data.valid_share: the validation documents are too few for sentence pairs ({error})"
        ) from None


def _without_masked(batch: PackedBatch) -> PackedBatch:
    """The batch with its tokens masked as they are, and the sentence labels alone to answer for."""
    return replace(batch, targets={"sentence_labels": batch.targets["sentence_labels"]})


def _unigram_cross_entropy(masked: list[PackedBatch], text: TextToLearn) -> float:
    """Nats that a model knowing frequencies alone would need for each validation target (add-one smoothing)."""
    counts = _training_counts(text) + 1.0
    targets = np.concatenate([batch.targets["masked_labels"].numpy() for batch in masked])
    return float(np.log(counts.sum()) - np.log(counts[targets]).mean())


def _training_counts(text: TextToLearn) -> np.ndarray:
    """How often each id occurs in the training documents, or in an even draw of them, (vocabulary,)."""
    source, size, counts = text.source, len(text.train), np.zeros(text.tokenizer.vocab_size, np.int64)
    wanted = min(size, 1 + int(UNIGRAM_BYTES / source.mean_document_bytes))
    drawn = np.asarray(text.train[Permutation(size, VALIDATION_SEED, 0)(np.arange(wanted))])
    for documents in np.array_split(drawn, 1 + wanted // 1000):
        ids, _ = source.read(source.sentence_offsets[documents], source.sentence_offsets[documents + 1])
        counts += np.bincount(ids, minlength=len(counts))
    return counts
