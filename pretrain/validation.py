"""The frozen sets a run is judged by: the same text under the same masks, whatever the run itself does."""

import math
from dataclasses import dataclass, replace

import numpy as np

from bert.errors import UserError
from bert.packed import PackedBatch
from pretrain.config import MaskingConfig, PretrainConfig, SentenceConfig
from pretrain.data import Recipe, Sampler, frozen_batches
from pretrain.sentence import SENTENCE
from pretrain.text import TextToLearn
from pretrain.token_source import TokenSource
from pretrain.token_store import TokenStore

VALIDATION_SEED = 20181011
"""Of the frozen sets, whatever the run's own seed (the day the BERT paper came out)."""


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


def build_validation(config: PretrainConfig, text: TextToLearn) -> Validation:
    """Sample the validation sets."""
    data = replace(config.data, copies=0)
    whole = SentenceConfig(objective="none", input="doc_sentences", short_seq_prob=0.0)
    masking = MaskingConfig(strategy="token")
    micro_batch = config.training.micro_batch_size or config.training.batch_size
    most = config.training.eval_sequences
    recipe = Recipe(data, whole, masking, micro_batch, VALIDATION_SEED)
    not_valid = np.ones(len(text.validation.document_hashes), bool)
    not_valid[text.valid] = False
    masked = frozen_batches(Sampler(text.validation, text.valid, not_valid, text.tokenizer, recipe), most)
    pairs = []
    if SENTENCE[config.sentence.objective].labels:
        recipe = replace(recipe, sentence=replace(config.sentence, random_share=0.5))
        sampler = Sampler(text.validation, text.valid, not_valid, text.tokenizer, recipe)
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


def _training_counts(text: TextToLearn, most_on_the_fly: int = 2000) -> np.ndarray:
    """How often each id occurs in the training documents, (vocabulary,); in some of them where there is no store."""
    source = text.source
    if not isinstance(source, TokenStore):
        return _count(source, np.asarray(text.train[:most_on_the_fly]), text.tokenizer.vocab_size)
    held_out = np.flatnonzero(text.held_out)
    return source.token_counts - _count(source, held_out, text.tokenizer.vocab_size)


def _count(source: TokenSource, documents: np.ndarray, vocab_size: int) -> np.ndarray:
    if len(documents) == 0:
        return np.zeros(vocab_size, np.int64)
    ids, _ = source.read(source.sentence_offsets[documents], source.sentence_offsets[documents + 1])
    return np.bincount(ids, minlength=vocab_size)
