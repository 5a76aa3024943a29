import ast
import inspect
from dataclasses import fields, is_dataclass, replace
from itertools import pairwise

import pytest

from bert.errors import UserError
from pretrain.config import PretrainConfig
from pretrain.inputs import INPUTS
from pretrain.launch import pretrain
from pretrain.options import check, with_defaults
from pretrain.sentence import SENTENCE

GROUPS = {
    option.name: type(group)
    for option in fields(PretrainConfig)
    if is_dataclass(group := getattr(PretrainConfig(), option.name))
}
CONFIGS = [PretrainConfig, *GROUPS.values()]


def faults_of(config: PretrainConfig) -> list[str]:
    """As a run looks for them."""
    return check(with_defaults(config))


def told(**options) -> PretrainConfig:
    """A config from options as the command line has them, dots written as __: masking__rate=0.3."""
    config = PretrainConfig()
    for name, value in options.items():
        section, option = name.split("__")
        config = replace(config, **{section: replace(getattr(config, section), **{option: value})})
    return config


NO_PAIRS = {"sentence__objective": "none"}

FAULTS = [
    ({"masking__rate": 0.0}, "masking.rate: 0.0, but it must be above 0 and at most 1."),
    ({"masking__rate": 1.01}, "masking.rate: 1.01, but it must be above 0 and at most 1."),
    ({"masking__rate": float("nan")}, "masking.rate: nan, but it must be above 0 and at most 1."),
    ({"masking__mask_share": -0.1}, "masking.mask_share: -0.1, but it must be at least 0 and at most 1."),
    ({"masking__random_share": -0.1}, "masking.random_share: -0.1, but it must be at least 0 and at most 1."),
    (
        {"masking__mask_share": 0.9, "masking__random_share": 0.2},
        "masking.mask_share: 0.9 and masking.random_share: 0.2 add up to more than 1.",
    ),
    ({"masking__static": True}, "masking.static: true, but it repeats the masks of data.copies, which is 0."),
    (
        {"data__copies": 2, "masking__static": True, "masking__rate_end": 0.1},
        "masking.static: true, but masking.rate_end changes how many tokens are masked as the run goes on.",
    ),
    (
        {"data__tokenize": "on_the_fly", "data__verify": True},
        "data.verify: True was given, but it belongs to data.tokenize=store.",
    ),
    (
        {"training__batch_tokens": 1000, "training__micro_batch_tokens": 250},
        "training.micro_batch_tokens: 250 tokens at once, but it must be at least 2 x data.max_length=128.",
    ),
    (
        {"training__batch_tokens": 4096, "training__micro_batch_tokens": -8192},
        "training.micro_batch_tokens: -8192, but it must be above 0.",
    ),
    ({"data__copies": -1}, "data.copies: -1, but it must be at least 0."),
    (
        {"data__max_length": 7},
        "data.max_length: 7, but it must be at least 8 and at most model.max_position_embeddings=512.",
    ),
    (
        {"data__max_length": 513},
        "data.max_length: 513, but it must be at least 8 and at most model.max_position_embeddings=512.",
    ),
    ({"data__valid_share": 0.0}, "data.valid_share: 0.0, but it must be above 0 and below 1 without data.valid."),
    ({"data__valid_share": 1.0}, "data.valid_share: 1.0, but it must be above 0 and below 1 without data.valid."),
    ({"sentence__random_share": 1.5}, "sentence.random_share: 1.5, but it must be at least 0 and at most 1."),
    ({"sentence__short_seq_prob": -1.0}, "sentence.short_seq_prob: -1.0, but it must be at least 0 and at most 1."),
    ({"data__text": "body"}, "data.text: 'body' was given, but it belongs to data.format=jsonl."),
    (
        NO_PAIRS | {"sentence__negatives": "anywhere"},
        "sentence.negatives: 'anywhere' was given, but it belongs to sentence.objective=nsp.",
    ),
    (
        NO_PAIRS | {"sentence__random_share": 0.3},
        "sentence.random_share: 0.3 was given, but it belongs to sentence.objective=nsp or sop.",
    ),
    (
        NO_PAIRS | {"sentence__remainder": "drop"},
        "sentence.remainder: 'drop' was given, but it belongs to sentence.objective=nsp.",
    ),
    (
        {"sentence__input": "sentence_pair", "sentence__short_seq_prob": 0.2},
        "sentence.short_seq_prob: 0.2 was given, but it belongs to an input of several sentences.",
    ),
    (
        {"sentence__input": "doc_sentences"},
        "sentence.input: 'doc_sentences' has one segment, but sentence.objective=nsp labels pairs.",
    ),
]


def test_the_length_of_a_given_model_is_not_told_before_it_is_known():
    config = replace(told(data__max_length=4), init="runs/x")
    assert faults_of(config) == ["data.max_length: 4, but it must be at least 8."]


def test_the_defaults_have_no_fault():
    assert faults_of(PretrainConfig()) == []


@pytest.mark.parametrize("options, message", FAULTS)
def test_a_fault_is_reported_once_by_name_value_and_constraint(options, message):
    assert faults_of(told(**options)) == [message]


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_a_share_outside_0_to_1_is_reported_for_validation_too(value):
    assert f"data.valid_share: {value}, but it must be at least 0 and at most 1." in faults_of(
        told(data__valid_share=value)
    )


def test_all_faults_are_reported_together():
    together = {
        "masking__rate": 2.0,
        "masking__mask_share": 0.9,
        "masking__random_share": 0.2,
        "data__max_length": 4,
        "data__text": "body",
        "sentence__input": "doc_sentences",
        "sentence__short_seq_prob": 7.0,
    }
    assert [fault.split(":")[0] for fault in faults_of(told(**together))] == [
        "sentence.short_seq_prob",
        "masking.rate",
        "masking.mask_share",
        "data.max_length",
        "data.text",
        "sentence.input",
    ]


def test_a_run_reports_the_faults_of_training_with_the_others():
    with pytest.raises(UserError) as raised:
        pretrain(told(masking__rate=0.0, training__lr=-1.0, training__steps=0))
    assert raised.value.messages == (
        "masking.rate: 0.0, but it must be above 0 and at most 1.",
        "training.lr: -1.0, but it must be above 0.",
        "training.steps: 0, but it must be above 0.",
    )


@pytest.mark.parametrize(
    "options",
    [
        {"masking__rate": 1.0},
        {"masking__mask_share": 1.0, "masking__random_share": 0.0},
        {"masking__mask_share": 0.7, "masking__random_share": 0.3},
        {"masking__mask_share": 0.1 + 0.2, "masking__random_share": 0.7},  # a float's width above 1
        {"data__copies": 4, "masking__static": True},
        {"data__max_length": 8},
        {"data__max_length": 512},
        {"data__max_length": 600, "model__max_position_embeddings": 600},
        {"data__format": "jsonl", "data__text": "body"},
        {"sentence__objective": "none", "sentence__input": "doc_sentences", "sentence__short_seq_prob": 0.0},
        {"sentence__input": "sentence_pair"},
        {"sentence__random_share": 0.0},
        {"sentence__random_share": 1.0},
    ],
)
def test_values_at_the_edge_are_allowed(options):
    assert faults_of(told(**options)) == []


@pytest.mark.parametrize("objective", SENTENCE)
@pytest.mark.parametrize("name", INPUTS)
def test_objectives_with_labels_need_two_segments_and_others_take_any_input(objective, name):
    faults = faults_of(told(sentence__objective=objective, sentence__input=name))
    assert bool(faults) == (SENTENCE[objective].labelled and INPUTS[name].segments == 1)


@pytest.mark.parametrize(
    "options, name",
    [
        ({"tokenizer__path": "tokenizer.json", "tokenizer__vocab_size": 30_000}, "tokenizer.vocab_size"),
        ({"tokenizer__path": "tokenizer.json", "tokenizer__lowercase": True}, "tokenizer.lowercase"),
        ({"data__valid": "other.txt", "data__valid_share": 0.2}, "data.valid_share"),
    ],
)
def test_an_option_that_nothing_would_read_is_refused_by_name(options, name):
    assert any(fault.startswith(f"{name}: ") for fault in faults_of(told(**options)))


@pytest.mark.parametrize(
    "options, name",
    [
        ({"tokenizer__vocab_size": 50}, "tokenizer.vocab_size"),
        ({"tokenizer__min_frequency": 0}, "tokenizer.min_frequency"),
        ({"tokenizer__max_characters": 0}, "tokenizer.max_characters"),
        ({"model__hidden_size": 130, "model__num_attention_heads": 4}, "model.hidden_size"),
        ({"model__hidden_dropout_prob": 1.5}, "model.hidden_dropout_prob"),
    ],
)
def test_faults_of_tokenizer_and_model_are_reported_before_anything_is_read(options, name):
    assert any(fault.startswith(f"{name}: ") for fault in faults_of(told(**options)))


# What --help says.


@pytest.mark.parametrize("config", CONFIGS)
def test_every_option_is_explained_by_a_docstring_after_it(config):
    (body,) = (node.body for node in ast.parse(inspect.getsource(config)).body)
    explained = {
        option.target.id
        for option, text in pairwise(body)
        if isinstance(option, ast.AnnAssign)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and len(str(text.value.value)) > 10
    }
    assert {option.name for option in fields(config)} - explained == ({*GROUPS} if config is PretrainConfig else set())


@pytest.mark.parametrize("config", CONFIGS)
def test_every_option_and_group_has_a_default(config):
    config()
    assert config.__doc__ and not config.__doc__.startswith(f"{config.__name__}(")
