"""The options of pretraining: their defaults, and what is wrong with them."""

from collections.abc import Iterable
from dataclasses import fields, replace

from bert.config import ModelOptions, resolve
from bert.errors import UserError
from bert.tokenizer import check as tokenizer_faults
from bert.training import config as training_config
from bert.training import identity
from pretrain.config import PretrainConfig
from pretrain.inputs import INPUTS
from pretrain.negatives import NEGATIVES
from pretrain.objectives import OBJECTIVES
from pretrain.sentence import SENTENCE

DEFAULT_STEPS, DEFAULT_EVAL_EVERY = 1500, 500
"""The default budget, and the default number of steps between evaluations."""

DEFAULT_BATCH_SIZE = 32
"""Sequences in a step."""

DEFAULT_LR, DEFAULT_LR_OF_INIT = 1e-3, 5e-5
"""Peak learning rates: for small models from scratch, and for a model that is already trained."""

PATHS = ("data.train", "data.valid")
"""Corpora: their text counts, not their path."""

TEXT_OPTIONS = (*PATHS, "data.format", "data.text", "data.split_sentences", "data.on_bad_row")
"""What a corpus's text depends on."""

FREE = (*identity.FREE, *PATHS, "data.cache", "data.verify", "data.reader", "data.tokenize", "audit.")
"""Options, or groups of options, that do not affect the result."""


def with_defaults(config: PretrainConfig) -> PretrainConfig:
    """The configuration with defaults filled in: DEFAULT_STEPS if no budget was given, and so on."""
    training = config.training
    if training.lr is None:
        training = replace(training, lr=DEFAULT_LR if config.init is None else DEFAULT_LR_OF_INIT)
    if training.batch_size is None and training.batch_tokens is None:
        training = replace(training, batch_size=DEFAULT_BATCH_SIZE)
    if training.eval_every is None:
        training = replace(training, eval_every=DEFAULT_EVAL_EVERY)
    if all(getattr(training, name) is None for name in training_config.BUDGETS):
        training = replace(training, steps=DEFAULT_STEPS)
    return replace(config, training=training)


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
        faults.append("masking.rate_end: needs a budget whose end is known; with training.minutes it is not.")
    if masking.mask_share + masking.random_share > 1 + 1e-9:
        shares = f"{masking.mask_share} and masking.random_share: {masking.random_share}"
        faults.append(f"masking.mask_share: {shares} add up to more than 1.")
    if masking.static and not data.copies:
        faults.append("masking.static: true, but it repeats the masks of data.copies, which is 0.")
    if masking.static and masking.rate_end is not None:
        faults.append(
            "masking.static: true, but masking.rate_end changes how many tokens are masked as the run goes on."
        )
    if config.audit.sequences < 0:
        faults.append(f"audit.sequences: {config.audit.sequences}, but it must be at least 0.")
    if not 0 <= data.exponent <= 1:
        faults.append(f"data.exponent: {data.exponent}, but it must be at least 0 and at most 1.")
    elif isinstance(data.train, str) and not set(data.train) & set("*?["):
        faults += for_several_files(config)
    if data.copies < 0:
        faults.append(f"data.copies: {data.copies}, but it must be at least 0.")
    # The maximum length of a given model is not known yet.
    longest = data.max_length if config.init else config.model.max_position_embeddings
    if not 8 <= data.max_length <= longest:
        most = "" if config.init else f" and at most model.max_position_embeddings={longest}"
        faults.append(f"data.max_length: {data.max_length}, but it must be at least 8{most}.")
    faults += _tokens_at_once_faults(config)
    if data.valid is None and data.valid_share in (0, 1):
        faults.append(f"data.valid_share: {data.valid_share}, but it must be above 0 and below 1 without data.valid.")
    of_objective = OBJECTIVES[config.objective].check(config)
    faults += tokenizer_faults(config.tokenizer) + _model_faults(config) + _foreign_options(config) + of_objective
    return faults + training_config.check(config.training)


def for_several_files(config: PretrainConfig) -> list[str]:
    """What is wrong where data.train is one file: options that were given and are only for several."""
    given = [] if config.data.exponent == 1 else [f"data.exponent: {config.data.exponent:g}"]
    if not NEGATIVES[config.sentence.negatives].other_files:
        given.append(f"sentence.negatives: {config.sentence.negatives}")
    return [f"{said} was given, but data.train is one file." for said in given]


def _tokens_at_once_faults(config: PretrainConfig) -> list[str]:
    whole, part = config.training.batch_tokens, config.training.micro_batch_tokens
    if whole is None or whole <= 0 or (part is not None and part <= 0):  # training's own check reports the latter
        return []
    at_once, least = training_config.micro_batch_size(config.training), f"2 x data.max_length={config.data.max_length}"
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
TOKENIZER_OPTIONS = {"tokenizer.path": (), "tokenizer.vocab_size": tuple(f"tokenizer.{name}" for name in _TRAINED[1:])}
"""A tokenizer that is given, or one that is trained, with what belongs to it."""

_DROPOUT = ("hidden_dropout_prob", "attention_probs_dropout_prob")
_SIZES = tuple(option.name for option in fields(ModelOptions) if option.name not in _DROPOUT)

BROUGHT_BY_INIT = (
    "tokenizer.path",
    *(f"tokenizer.{name}" for name in _TRAINED),
    *(f"model.{name}" for name in _SIZES),
)
"""Options of what a pretrained model brings: its tokenizer and its sizes."""


def _foreign_options(config: PretrainConfig) -> list[str]:
    """Options that were given but belong to a choice that was not made."""
    data, tokenizer, sentence, fresh = config.data, config.tokenizer, config.sentence, config.init is None
    trained_here = "a tokenizer trained here, and tokenizer.path was given"
    random = "random weights, and init was given, which brings its own"
    faults = [
        *_foreign(data, "data", ["valid_share"], "held-out documents, and data.valid was given", data.valid is None),
        *_foreign(tokenizer, "tokenizer", _TRAINED, trained_here, tokenizer.path is None or not fresh),
        *_foreign(tokenizer, "tokenizer", ("path", *_TRAINED), random, fresh),
        *_foreign(config.model, "model", _SIZES, random, fresh),
        *_foreign(tokenizer, "tokenizer", ["add"], "init", not fresh),
        *_foreign(data, "data", ["verify"], "data.tokenize=store", data.tokenize == "store"),
        *_foreign(data, "data", ["text", "on_bad_row"], "data.format=jsonl", data.format == "jsonl"),
    ]
    for name in dict.fromkeys(option for objective in SENTENCE.values() for option in objective.options):
        owners = [owner for owner, objective in SENTENCE.items() if name in objective.options]
        owner = f"sentence.objective={' or '.join(owners)}"
        faults += _foreign(sentence, "sentence", [name], owner, sentence.objective in owners)
    for group in dict.fromkeys(objective.options for objective in OBJECTIVES.values() if objective.options):
        owners = [owner for owner, objective in OBJECTIVES.items() if objective.options == group]
        own = getattr(config, group)
        names = [option.name for option in fields(own)]
        faults += _foreign(own, group, names, f"objective={' or '.join(owners)}", config.objective in owners)
    several = sentence.input != "sentence_pair"
    faults += _foreign(sentence, "sentence", ["short_seq_prob"], "an input of several sentences", several)
    if SENTENCE[sentence.objective].labelled and INPUTS[sentence.input].segments == 1:
        faults.append(
            f"sentence.input: {sentence.input!r} has one segment, but sentence.objective={sentence.objective} "
            f"labels pairs."
        )
    return faults


def _foreign(options: object, group: str, names: Iterable[str], owner: str, chosen: bool) -> list[str]:
    """A line for each of these options that was given although its owner was not chosen."""
    given = [(name, value) for name in names if (value := getattr(options, name)) != getattr(type(options), name)]
    said = "was given, but it belongs to"
    return [] if chosen else [f"{group}.{name}: {value!r} {said} {owner}." for name, value in given]
