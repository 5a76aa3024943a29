"""The frozen sets a run is evaluated on: the same text under the same masks, whatever the run itself does."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from bert.counting import count_of
from bert.errors import UserError
from bert.packed import PackedBatch
from bert.training.device import autocast
from bert.training.evaluation import evaluate
from bert.training.objective import Objective
from pretrain.config import DataConfig, MaskingConfig, PretrainConfig, SentenceConfig
from pretrain.data import Recipe, Sampler
from pretrain.objectives import OBJECTIVES
from pretrain.randomness import Permutation
from pretrain.sentence import SENTENCE
from pretrain.stream import frozen_batches
from pretrain.text import TextToLearn

VALIDATION_SEED = 20181011
"""The seed of the frozen sets, whatever the run's own (the day the BERT paper came out)."""

VALIDATION_MASKINGS = ("token", "whole_word", "span")
"""What every run is evaluated on, whatever it trains on: one kind of mask would favour the variant trained on it."""

MICRO_BATCH = 64
"""Sequences in a batch of the frozen sets: masks are drawn per micro-batch, so the run's own size must not matter."""

_MUCH_LONGER = 1.5
"""Ratio of validation's to training's mean sequence length above which a run says so."""

JUDGED_ON = "judged_on.json"
"""The file in a run's output with the fingerprints of its frozen sets: metrics of different ones are not comparable."""

LEARNED = 0.5
"""Nats below the unigram cross-entropy that a model must reach to be compared."""

UNIGRAM_BYTES = 64 << 20
"""About how much text unigram frequencies are counted on at most."""


@dataclass(frozen=True)
class Validation:
    """The frozen sets a run is evaluated on; the same for every run on this text.

    Attributes:
        masked: one segment of whole sentences at 15% and 80-10-10, by masking: VALIDATION_MASKINGS.
        pairs: two segments, with labels, by sentence objective, the run's own first; empty where it has none.
        unigram_cross_entropy: of the token-masked targets under the training text's smoothed unigram model, in nats.
        bits_per_character_factor: turns a masked-LM loss in nats into bits per character.
    """

    masked: dict[str, list[PackedBatch]]
    pairs: dict[str, list[PackedBatch]]
    unigram_cross_entropy: float
    bits_per_character_factor: float

    def fingerprints(self, objective: str) -> dict[str, str]:
        """Fingerprints of each frozen set's text, masks and labels, named as by `set_of`; for a run's objective."""
        found = {set_of(loss_under(name)): _fingerprint(batches) for name, batches in self.masked.items()}
        for name, batches in self.pairs.items():
            found[name] = _fingerprint(batches)
            if name == objective:
                found["sentence"] = f"{name} {found[name]}"
        return found

    def evaluator(
        self, config: PretrainConfig, objective: Objective, device: torch.device
    ) -> Callable[[], dict[str, float]]:
        """A function that evaluates the objective as it is when called: `metric_names`, as `valid/NAME`."""

        def judged(batches: list[PackedBatch]) -> dict[str, float]:
            means, _ = evaluate(objective, batches, device, autocast(config.training.precision, device))
            return means

        def run() -> dict[str, float]:
            found = judged(self.masked["token"])
            for name in VALIDATION_MASKINGS[1:]:
                found[loss_under(name)] = judged(self.masked[name])["masked_lm_loss"]
            for name, batches in self.pairs.items():
                of_pairs = judged(batches)
                found[f"{name}_accuracy"] = of_pairs["sentence_accuracy"]
                if name == config.sentence.objective:
                    found |= {metric: of_pairs[metric] for metric in of_pairs if metric.startswith("sentence_")}
            found["unigram_cross_entropy"] = self.unigram_cross_entropy
            found["bits_per_character"] = found["masked_lm_loss"] * self.bits_per_character_factor
            return {f"valid/{name}": value for name, value in found.items()}

        return run

    def in_words(self, trained_length: float) -> str:
        """How much there is to evaluate on, and whether its sequences are much longer than training's, in tokens."""
        masked = sum(len(batch.targets["masked_labels"]) for batch in self.masked["token"])
        said = f"validation: {count_of(masked, 'masked token')}"
        length = _mean_length(self.masked["token"])
        if length > _MUCH_LONGER * trained_length:
            said += (
                f" in sequences of {length:.0f} tokens on average, where training's have {trained_length:.0f}: "
                f"positions beyond what training reaches are hardly learned, but count in valid/masked_lm_loss"
            )
        for name, batches in self.pairs.items():
            labels = np.concatenate([batch.targets["sentence_labels"].numpy() for batch in batches])
            said += f"; {name}: {count_of(len(labels), 'pair')} of which {labels.mean():.1%} have label 1"
        return said


def loss_under(masking: str) -> str:
    """The masked-LM loss under the frozen masks of this kind, by its name without `valid/`."""
    return "masked_lm_loss" if masking == VALIDATION_MASKINGS[0] else f"{masking}_masked_lm_loss"


def is_on_pairs(metric: str) -> bool:
    """Whether a metric is measured on a set of sentence pairs, by its name without `valid/`."""
    first = metric.partition("_")[0]
    return first == "sentence" or first in SENTENCE


def set_of(metric: str) -> str:
    """The frozen set that a metric is measured on, by its name without `valid/`."""
    if is_on_pairs(metric):
        return metric.partition("_")[0]
    return {loss_under(name): f"{name}_masked_lm" for name in VALIDATION_MASKINGS[1:]}.get(metric, "masked_lm")


def below_unigram(metrics: dict[str, float]) -> float:
    """Nats by which a run's masked-LM loss is below what unigram frequencies reach; negative where it is above."""
    return metrics["valid/unigram_cross_entropy"] - metrics["valid/masked_lm_loss"]


def _fingerprint(batches: list[PackedBatch]) -> str:
    digest = hashlib.sha256()
    for batch in batches:
        for tensor in (
            batch.token_ids,
            batch.segment_ids,
            batch.cu_seqlens,
            *(t for _, t in sorted(batch.targets.items())),
        ):
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def _mean_length(batches: list[PackedBatch]) -> float:
    return sum(batch.num_tokens for batch in batches) / sum(batch.num_sequences for batch in batches)


def metric_names(config: PretrainConfig) -> list[str]:
    """The metrics that an evaluation on the frozen sets gives, by their names without `valid/`."""
    names = ["masked_lm_loss", "masked_lm_accuracy", *map(loss_under, VALIDATION_MASKINGS[1:])]
    if pairs := config.sentence.judged_on:
        names += ["sentence_loss", "sentence_accuracy", *(f"{name}_accuracy" for name in pairs)]
    return [*names, *OBJECTIVES[config.objective].scores(config), "unigram_cross_entropy", "bits_per_character"]


def build_validation(config: PretrainConfig, text: TextToLearn) -> Validation:
    """Sample the validation sets.

    Raises:
        UserError: there is too little validation text for one of them, or the vocabulary knows none of it.
    """
    data = replace(config.data, copies=0)
    whole = SentenceConfig(objective="none", input="doc_sentences", short_seq_prob=0.0)
    most = config.training.eval_sequences

    def sampler(sentence: SentenceConfig, strategy: str) -> Sampler:
        recipe = Recipe(data, sentence, MaskingConfig(strategy=strategy), min(MICRO_BATCH, most), VALIDATION_SEED)
        return Sampler(text.valid_source, text.valid_documents, text.tokenizer, recipe)

    masked = {name: frozen_batches(sampler(whole, name), most) for name in VALIDATION_MASKINGS}
    pairs = {
        name: [_without_masked(batch) for batch in _pairs(sampler(sentence, "token"), most, data)]
        for name, sentence in config.sentence.judged_on.items()
    }
    _refuse_unmasked(masked, data)
    return Validation(
        masked=masked,
        pairs=pairs,
        unigram_cross_entropy=_unigram_cross_entropy(masked["token"], text),
        bits_per_character_factor=1 / math.log(2) / text.characters_per_token,
    )


def _refuse_unmasked(masked: dict[str, list[PackedBatch]], data: DataConfig) -> None:
    """Refuse validation text of which nothing is to be predicted: a loss over no tokens is none."""
    for name, batches in masked.items():
        if any(len(batch.targets["masked_labels"]) for batch in batches):
            continue
        if name == "token":  # which masks one at least of every sequence where it can
            why = "the vocabulary has none of the validation text's tokens, and [UNK] is never masked."
        else:
            why = f"the validation text is too short: {name.replace('_', '-')} masking chooses nothing in it."
        raise UserError(f"{_valid_option(data)}: {why}")


def _valid_option(data: DataConfig) -> str:
    """The option that the validation text comes from."""
    return "data.valid_share" if data.valid is None else "data.valid"


def _pairs(sampler: Sampler, most: int, data: DataConfig) -> list[PackedBatch]:
    why = "none has two sentences, and another B where sentence.negatives looks for it."
    try:
        if batches := frozen_batches(sampler, most):
            return batches
    except UserError as error:
        why = str(error)
    raise UserError(f"{_valid_option(data)}: the validation documents are too few for sentence pairs ({why})")


def _without_masked(batch: PackedBatch) -> PackedBatch:
    """The batch with its masks left in the text, but only the sentence labels as targets."""
    return replace(batch, targets={"sentence_labels": batch.targets["sentence_labels"]})


def _unigram_cross_entropy(masked: list[PackedBatch], text: TextToLearn) -> float:
    """Mean nats per validation target for a model that knows only unigram frequencies (add-one smoothing).

    No target is [UNK], which is never masked.
    """
    counts = _training_counts(text) + 1.0
    counts[text.tokenizer.unk_id] = 0.0
    targets = np.concatenate([batch.targets["masked_labels"].numpy() for batch in masked])
    return float(np.log(counts.sum()) - np.log(counts[targets]).mean())


def _training_counts(text: TextToLearn) -> np.ndarray:
    """How often each id occurs in the training documents, or in a uniform draw of them, (vocabulary,)."""
    source, size, counts = text.source, len(text.drawn_documents), np.zeros(text.tokenizer.vocab_size, np.int64)
    wanted = min(size, 1 + int(UNIGRAM_BYTES / source.mean_document_bytes))
    drawn = np.asarray(text.drawn_documents[Permutation(size, VALIDATION_SEED, 0)(np.arange(wanted))])
    for documents in np.array_split(drawn, 1 + wanted // 1000):
        ids, _ = source.read(*source.sentences_of(documents))
        counts += np.bincount(ids, minlength=len(counts))
    return counts
