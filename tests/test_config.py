import ast
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import run
import run_finetune
from bert.config import PRESETS, ModelConfig, ModelOptions, resolve
from bert.errors import UserError
from bert.training.config import TrainingConfig, check, micro_batch_size, micro_batches
from pretrain.randomness import MASKS, generator

ROOT = Path(__file__).parent.parent
SMALL = {"vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def faults_of(**sizes) -> list[str]:
    with pytest.raises(UserError) as raised:
        ModelConfig(**SMALL | sizes)
    return list(raised.value.messages)


@pytest.mark.parametrize(
    ("preset", "layers", "width", "heads", "intermediate"),
    [  # Turc et al. 2019, table 1; Devlin et al. 2019, section 3; the Korean BERT this grew from
        ("tiny", 2, 128, 2, 512),
        ("mini", 4, 256, 4, 1024),
        ("small", 4, 512, 8, 2048),
        ("medium", 8, 512, 8, 2048),
        ("base", 12, 768, 12, 3072),
        ("large", 24, 1024, 16, 4096),
        ("original", 2, 256, 8, 512),
    ],
)
def test_a_preset_has_the_published_sizes(preset, layers, width, heads, intermediate):
    model = resolve(ModelOptions(preset=preset), vocab_size=30522)
    assert (model.num_hidden_layers, model.hidden_size) == (layers, width)
    assert (model.num_attention_heads, model.intermediate_size) == (heads, intermediate)
    assert (model.vocab_size, model.max_position_embeddings, model.type_vocab_size) == (30522, 512, 2)


def test_every_preset_is_among_those_checked():
    assert list(PRESETS) == ["tiny", "mini", "small", "medium", "base", "large", "original"]


def test_what_is_given_replaces_the_preset_and_nothing_else():
    options = ModelOptions(preset="base", num_hidden_layers=3, hidden_dropout_prob=0.25)
    model = resolve(options, vocab_size=100, pad_token_id=7)
    assert (model.num_hidden_layers, model.hidden_size, model.num_attention_heads) == (3, 768, 12)
    assert (model.hidden_dropout_prob, model.pad_token_id) == (0.25, 7)
    assert (options.attention_probs_dropout_prob, model.attention_probs_dropout_prob) == (None, 0.0)
    assert PRESETS["base"]["num_hidden_layers"] == 12


def test_an_unknown_preset_is_refused_with_the_closest():
    with pytest.raises(UserError, match=r"model.preset: no 'bass'; one of tiny, .* \(did you mean base\?\)"):
        resolve(ModelOptions(preset="bass"), vocab_size=100)


def test_a_width_that_the_heads_do_not_divide_is_refused():
    said = "model.hidden_size: 8 is not a multiple of model.num_attention_heads=3."
    assert faults_of(num_attention_heads=3) == [said]


def test_all_wrong_sizes_are_reported_together():
    assert faults_of(num_hidden_layers=0, hidden_dropout_prob=1.0, initializer_range=-1.0) == [
        "model.num_hidden_layers: 0, but it must be at least 1.",
        "model.hidden_dropout_prob: 1.0, but it must be at least 0 and below 1.",
        "model.initializer_range: -1.0, but it must be above 0.",
    ]


def test_one_budget_is_asked_for():
    assert check(TrainingConfig()) == ["training: give one budget: steps, epochs, tokens or minutes; none given."]
    assert check(TrainingConfig(steps=5, epochs=2.0)) == [
        "training: give one budget: steps, epochs, tokens or minutes; training.steps=5, training.epochs=2.0 given."
    ]
    assert all(check(TrainingConfig(**{unit: 1})) == [] for unit in ("steps", "epochs", "tokens", "minutes"))


def test_all_wrong_training_values_are_reported_together():
    wrong = TrainingConfig(steps=0, lr=float("nan"), warmup=1.0, adam_beta2=-0.1, max_grad_norm=-1.0, workers=-1)
    assert check(wrong) == [
        "training.lr: nan, but it must be above 0.",
        "training.steps: 0, but it must be above 0.",
        "training.warmup: 1.0, but it must be at least 0 and below 1.",
        "training.adam_beta2: -0.1, but it must be at least 0 and below 1.",
        "training.max_grad_norm: -1.0, but it must be at least 0.",
        "training.workers: -1, but it must be at least 0.",
    ]


def test_a_seed_is_what_a_generator_takes():
    assert check(TrainingConfig(steps=1, seed=2**64 - 1)) == []
    generator(2**64 - 1, MASKS, 0, 0)
    assert check(TrainingConfig(steps=1, seed=2**64)) == [
        "training.seed: 18446744073709551616, but it must be at least 0 and at most 18446744073709551615 (2**64 - 1)."
    ]
    assert len(check(TrainingConfig(steps=1, seed=-1))) == 1
    with pytest.raises(OverflowError):
        generator(2**64, MASKS, 0, 0)


def test_a_value_that_is_no_number_is_refused_wherever_it_stands():
    nan = float("nan")
    named = ("lr", "warmup", "adam_epsilon", "adam_beta1", "weight_decay", "max_grad_norm")
    unseen = [name for name in named if not check(TrainingConfig(**{"steps": 1} | {name: nan}))]
    assert unseen == []


@given(batch=st.integers(1, 500), most=st.none() | st.integers(1, 500))
def test_micro_batches_hold_the_batch_as_evenly_as_their_size_allows(batch, most):
    most = None if most is None else min(most, batch)
    size = micro_batch_size(TrainingConfig(batch_size=batch, micro_batch_size=most))
    count = -(-batch // (most or batch))  # as few as can be
    assert size <= (most or batch)
    assert 0 <= size * count - batch < count


def test_sequences_left_over_make_micro_batches_larger_and_tokens_left_over_are_left_out():
    assert micro_batch_size(TrainingConfig(batch_size=10, micro_batch_size=4)) == 4  # 3 + 3 + 4
    assert micro_batch_size(TrainingConfig(batch_size=None, batch_tokens=10, micro_batch_tokens=4)) == 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"batch_tokens": 64},
            "training: give one of batch_size and batch_tokens; "
            "training.batch_size=32, training.batch_tokens=64 given.",
        ),
        (
            {"batch_size": None},
            "training: give one of batch_size and batch_tokens; "
            "training.batch_size=None, training.batch_tokens=None given.",
        ),
        (
            {"micro_batch_tokens": 8},
            "training.micro_batch_tokens: 8 was given, but it belongs to batch_tokens; "
            "with batch_size, give micro_batch_size.",
        ),
        (
            {"micro_batch_size": 33},
            "training.micro_batch_size: 33, but it must be at most training.batch_size=32.",
        ),
        (
            {"batch_size": None, "batch_tokens": 64, "micro_batch_tokens": 65},
            "training.micro_batch_tokens: 65, but it must be at most training.batch_tokens=64.",
        ),
        (
            {"compile": True},
            "training.compile: needs training.batch_tokens; with batch_size, shapes differ from step to step.",
        ),
    ],
)
def test_a_step_is_measured_in_one_unit(changes, said):
    assert check(TrainingConfig(**{"steps": 1} | changes)) == [said]


def test_a_step_in_tokens_is_cut_as_one_in_sequences_is():
    config = TrainingConfig(batch_size=None, batch_tokens=1000, micro_batch_tokens=300)
    assert (micro_batches(config), micro_batch_size(config)) == (4, 250)
    assert check(replace(config, steps=1, compile=True)) == []


def configs_within(config: type) -> set[type]:
    inner = [field.type for field in fields(config) if is_dataclass(field.type)]
    return {config}.union(*map(configs_within, inner))


def test_every_option_is_read_somewhere():
    sources = [file for package in ("bert", "pretrain", "finetune") for file in (ROOT / package).rglob("*.py")]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in sources]
    attributes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    of_itself = [node for node in attributes if isinstance(node.value, ast.Name) and node.value.id == "self"]
    read = {node.attr for node in attributes if isinstance(node.ctx, ast.Load) and node not in of_itself}
    read.add("pad_token_id")  # for transformers alone: it is only written to config.json
    verbs = [*run.VERBS.values(), *run_finetune.VERBS.values()]
    configs = {ModelConfig}.union(*(configs_within(verb.config) for verb in verbs))
    assert len(configs) > 10
    assert {f"{c.__name__}.{f.name}" for c in configs for f in fields(c) if f.name not in read} == set()
