"""Everything a pretraining run is told."""

from dataclasses import dataclass, field, fields
from typing import Literal

from bert.config import ModelOptions, resolve
from bert.errors import UserError
from bert.tokenizer import TokenizerConfig
from bert.tokenizer import check as tokenizer_faults
from bert.training.config import TrainingConfig, micro_batch_size
from bert.training.tracking import TrackingConfig
from pretrain.corpus import READERS
from pretrain.documents import FORMATS
from pretrain.examples import TRUNCATION
from pretrain.inputs import INPUTS
from pretrain.masking import MASKING
from pretrain.objectives import OBJECTIVES
from pretrain.sentence import NEGATIVES, SENTENCE

TOKENIZE = ("store", "on_the_fly")


@dataclass(frozen=True)
class DataConfig:
    """The corpus, and how it is read."""

    train: str = "builtin"
    """The corpus: a text file (one sentence per line, a blank or [EOD] line between documents) or a JSONL file.
    `builtin` is the documentation inside the Python interpreter, 1.3 MB of English."""

    valid: str | None = None
    """A corpus of its own to validate on. Without it, some documents of data.train are held out."""

    valid_share: float = 0.05
    """Share of the documents held out when there is no data.valid: those whose text hashes lowest, so that
    copies of a document never fall on both sides."""

    format: Literal[*FORMATS] = "text"
    """What a file holds: text, or jsonl (one JSON object per line is one document)."""

    text: str = "text"
    """jsonl: the field with the text."""

    split_sentences: bool | None = None
    """Split lines into sentences. By default jsonl is split and text, one sentence per line already, is not."""

    reader: Literal[*READERS] = "mmap"
    """How lines are read: mmap (memory does not grow with the file) or linecache (the whole file in memory)."""

    tokenize: Literal[*TOKENIZE] = "store"
    """store: the corpus is tokenised once, to disk. on_the_fly: lines are tokenised when they are needed; the same
    batches, slower."""

    max_length: int = 128
    """Tokens in a sequence at most, special ones included."""

    copies: int = 0
    """Draw pairs and order only this many times, then repeat them; 0 draws new ones in every epoch."""

    verify: bool = False
    """Read the whole token store and compare it with what was written, instead of sizes and times alone."""

    cache: str = "runs/cache"
    """The folder for what is built once and used again: line indexes, token stores."""


@dataclass(frozen=True)
class SentenceConfig:
    """What the model learns from pairs of sentences."""

    objective: Literal[*SENTENCE] = "nsp"
    """nsp: does B follow A? sop: are A and B in order, or swapped? none: no sentence loss."""

    input: Literal[*INPUTS] = "segment_pair"
    """segment_pair: two segments of several sentences. sentence_pair: two single sentences. doc_sentences: one segment
    of whole sentences from one document. full_sentences: the same, going on in the next document after a [SEP]. The
    last two have no pairs: objective none only."""

    negatives: Literal[*NEGATIVES] = "other_document"
    """nsp: where a random B is from: another document, the same one, or anywhere but where the true B starts."""

    random_share: float = 0.5
    """Share of pairs with label 1: whose B is random (nsp), or that are swapped (sop)."""

    remainder: Literal["reuse", "drop"] = "reuse"
    """nsp: after a random B, the sentences that truly followed A begin the next example (as in the paper's code), or
    are dropped."""

    short_seq_prob: float = 0.1
    """Share of examples cut to a random shorter length; not for sentence_pair."""

    truncation: Literal[*TRUNCATION] = "longest_first"
    """What is cut from an example that is too long: the longer segment's tokens, from a random end (the paper), or the
    second segment's last (the original Korean BERT)."""


@dataclass(frozen=True)
class MaskingConfig:
    """Which tokens are predicted, and what stands in their place."""

    strategy: Literal[*MASKING] = "whole_word"
    """What is masked as one: a token; all tokens of a word; an n-gram of one to three words; a span of one to ten."""

    rate: float = 0.15
    """Share of the maskable tokens to predict. BERT 0.15; 0.30 to 0.40 often learns faster at equal compute."""

    rate_end: float | None = None
    """Let the rate go from `rate` to this one, evenly over the run (0.30 to 0.15, say)."""

    count: Literal["fixed", "bernoulli"] = "fixed"
    """fixed: as near to the rate in each sequence as its tokens, words or spans allow. bernoulli: each of them by a
    coin of its own."""

    mask_share: float = 0.8
    """Of the chosen: this share becomes [MASK], ..."""

    random_share: float = 0.1
    """... this share a random ordinary token, and the rest stays as it is."""

    static: bool = False
    """Repeat the masks with data.copies, instead of drawing new ones in every epoch."""


CHECKS = (
    "mask_rate",
    "mask_share",
    "random_share",
    "masked_special",
    "replaced_by_special",
    "units_of_two_fates",
    "words_in_parts",
    "span_lengths",
    "label_share",
    "label_by_length",
    "label_by_sides",
    "labels_wrong",
    "texts_differ",
    "negatives_true",
    "negatives_document",
    "validation_in_training",
)
"""What the audit checks, by name."""


@dataclass(frozen=True)
class AuditConfig:
    """What the sampler really does, held against what was asked."""

    sequences: int = 10_000
    """Sequences that are looked at before a run begins, or by `run.py audit`; 0 for none."""

    allow: list[Literal[*CHECKS]] = field(default_factory=list)
    """Breaches, by name, that shall not stop a run."""


@dataclass(frozen=True)
class PretrainConfig:
    """Pretrain a BERT."""

    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: ModelOptions = field(default_factory=ModelOptions)
    sentence: SentenceConfig = field(default_factory=SentenceConfig)
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(batch_size=None, lr=None))
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    init: str | None = None
    """Go on from a pretrained model on one's own text (domain adaptation), with its tokenizer and sizes: any BERT or
    RoBERTa folder of this project or of transformers, or an id on the Hugging Face hub. Without it, from random
    weights."""

    objective: Literal[*OBJECTIVES] = "masked_lm"
    """masked_lm: masked language modelling, with the sentence loss of sentence.objective."""

    accept_changes: list[str] = field(default_factory=list)
    """Go on with a run although these differ from how it began: options, or corpus, tokenizer and the like, by the
    names that the refusal gives. What it reaches is then no longer what either configuration says."""

    output: str = "runs/pretrain"
    """The run's folder: the model in the Hugging Face format, checkpoints, metrics."""


def check(config: PretrainConfig) -> list[str]:
    """All that is wrong with the values, a line each; nothing is read from disk."""
    data, sentence, masking = config.data, config.sentence, config.masking
    faults = _not_shares(
        {
            "data.valid_share": data.valid_share,
            "sentence.random_share": sentence.random_share,
            "sentence.short_seq_prob": sentence.short_seq_prob,
            "masking.mask_share": masking.mask_share,
            "masking.random_share": masking.random_share,
        }
    )
    faults += [
        f"masking.{name}: {value}, but it must be above 0 and at most 1."
        for name, value in (("rate", masking.rate), ("rate_end", masking.rate_end))
        if value is not None and not 0 < value <= 1
    ]
    if masking.rate_end is not None and config.training.minutes is not None:
        faults.append("masking.rate_end: needs a budget that says where it ends; training.minutes does not.")
    if masking.mask_share + masking.random_share > 1 + 1e-9:
        shares = f"{masking.mask_share} and masking.random_share: {masking.random_share}"
        faults.append(f"masking.mask_share: {shares} add up to more than 1.")
    if masking.static and not data.copies:
        faults.append("masking.static: true, but it repeats masks with data.copies, which is 0.")
    if config.audit.sequences < 0:
        faults.append(f"audit.sequences: {config.audit.sequences}, but it must be at least 0.")
    if data.copies < 0:
        faults.append(f"data.copies: {data.copies}, but it must be at least 0.")
    # How much a given model reads is not known yet.
    longest = data.max_length if config.init else config.model.max_position_embeddings
    if not 8 <= data.max_length <= longest:
        most = f"model.max_position_embeddings={config.model.max_position_embeddings}"
        faults.append(f"data.max_length: {data.max_length}, but it must be at least 8 and at most {most}.")
    faults += _tokens_at_once_faults(config)
    if data.valid is None and data.valid_share in (0, 1):
        faults.append(f"data.valid_share: {data.valid_share}, but it must be above 0 and below 1 without data.valid.")
    of_objective = OBJECTIVES[config.objective].check(config)
    return faults + tokenizer_faults(config.tokenizer) + _model_faults(config) + _foreign_options(config) + of_objective


def _tokens_at_once_faults(config: PretrainConfig) -> list[str]:
    whole, part = config.training.batch_tokens, config.training.micro_batch_tokens
    if whole is None or whole <= 0 or (part is not None and part <= 0):  # training's own check speaks of the latter
        return []
    at_once, least = micro_batch_size(config.training), f"2 x data.max_length={config.data.max_length}"
    if at_once >= 2 * config.data.max_length:
        return []
    return [f"training.micro_batch_tokens: {at_once} tokens at once, but it must be at least {least}."]


def _model_faults(config: PretrainConfig) -> list[str]:
    try:
        resolve(config.model, config.tokenizer.vocab_size)
    except UserError as error:
        return [fault for fault in error.messages if not fault.startswith("model.vocab_size")]
    return []


def _not_shares(values: dict[str, float]) -> list[str]:
    return [
        f"{n}: {value}, but it must be at least 0 and at most 1." for n, value in values.items() if not 0 <= value <= 1
    ]


_TRAINED = ("vocab_size", "min_frequency", "max_characters", "lowercase", "strip_accents")
_DROPOUT = ("hidden_dropout_prob", "attention_probs_dropout_prob")


def _owned_by_random_weights(config: PretrainConfig) -> list[tuple]:
    owner = "random weights, and init was given, which brings its own"
    options = [(config.tokenizer, "tokenizer", name) for name in ("path", *_TRAINED)]
    options += [(config.model, "model", f.name) for f in fields(ModelOptions) if f.name not in _DROPOUT]
    return [
        (f"{group}.{name}", owner, config.init is None, getattr(given, name), getattr(type(given), name))
        for given, group, name in options
    ]


def _foreign_options(config: PretrainConfig) -> list[str]:
    """Options that were given but belong to a choice that was not made."""
    sentence = config.sentence
    owned = [
        (
            "data.valid_share",
            "held-out documents, and data.valid was given",
            config.data.valid is None,
            config.data.valid_share,
            DataConfig.valid_share,
        ),
        *(
            (
                f"tokenizer.{name}",
                "a tokenizer trained here, and tokenizer.path was given",
                config.tokenizer.path is None or config.init is not None,
                getattr(config.tokenizer, name),
                getattr(TokenizerConfig, name),
            )
            for name in _TRAINED
        ),
        *_owned_by_random_weights(config),
        ("tokenizer.add", "init", config.init is not None, config.tokenizer.add, None),
        ("data.text", "data.format=jsonl", config.data.format == "jsonl", config.data.text, DataConfig.text),
        *(
            (
                f"sentence.{name}",
                f"sentence.objective={' or '.join(owners)}",
                sentence.objective in owners,
                getattr(sentence, name),
                getattr(SentenceConfig, name),
            )
            for name, owners in (
                ("negatives", ("nsp",)),
                ("random_share", ("nsp", "sop")),
                ("remainder", ("nsp",)),
            )
        ),
        (
            "sentence.short_seq_prob",
            "an input of several sentences",
            sentence.input != "sentence_pair",
            sentence.short_seq_prob,
            SentenceConfig.short_seq_prob,
        ),
    ]
    faults = [
        f"{name}: {value!r} was given, but it belongs to {owner}."
        for name, owner, chosen, value, default in owned
        if not chosen and value != default
    ]
    if SENTENCE[sentence.objective].labels and INPUTS[sentence.input].segments == 1:
        faults.append(
            f"sentence.input: {sentence.input!r} has one segment, but sentence.objective={sentence.objective} "
            f"labels pairs."
        )
    return faults
