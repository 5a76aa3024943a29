import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from bert import hub
from bert.config import ModelConfig
from bert.packed import PackedBatch
from pretrain.inputs import INPUTS
from pretrain.objectives.masked_lm import MaskedLM
from tests.pretrain.conftest import make_sampler, numbered, random_lengths


@st.composite
def problems(draw) -> tuple[ModelConfig, dict[str, torch.Tensor], bool]:
    """A model, a batch as transformers has it, with labels, and whether it is padded on the left."""
    heads = draw(st.integers(1, 3))
    config = ModelConfig(
        vocab_size=draw(st.integers(6, 40)),
        hidden_size=heads * draw(st.integers(4, 8)),
        num_hidden_layers=draw(st.integers(1, 3)),
        num_attention_heads=heads,
        intermediate_size=draw(st.integers(4, 24)),
        max_position_embeddings=10,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.1,
    )
    lengths = draw(st.lists(st.integers(1, 8), min_size=1, max_size=5))
    lengths = torch.tensor(sorted(lengths, reverse=True) if draw(st.booleans()) else lengths)
    columns, left = torch.arange(10 if draw(st.booleans()) else int(lengths.max())), draw(st.booleans())
    inside = columns.flip(0) < lengths[:, None] if left else columns < lengths[:, None]
    torch.manual_seed(draw(st.integers(0, 2**31)))
    chosen = (torch.rand(inside.shape) < 0.4) & inside
    chosen[0, int(inside[0].nonzero()[0])] = True  # at least one; transformers' mean of none is no number
    batch = {
        # No token is the pad's: transformers gives that row of the table no gradient.
        "input_ids": torch.randint(1, config.vocab_size, inside.shape),
        "attention_mask": inside.long(),
        "token_type_ids": torch.randint(0, 2, inside.shape),
        "labels": torch.randint(0, config.vocab_size, inside.shape).masked_fill(~chosen, -100),
    }
    return config, batch, left


def packed(batch: dict[str, torch.Tensor], **targets: torch.Tensor) -> PackedBatch:
    packed = PackedBatch.from_padded(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
    labels = batch["labels"][batch["attention_mask"].bool()]  # (T,)
    packed.targets["masked_index"] = (labels != -100).nonzero().flatten()
    packed.targets["masked_labels"] = labels[labels != -100]
    packed.targets.update(targets)
    return packed


def means_of(objective: MaskedLM, batch: PackedBatch) -> dict[str, torch.Tensor]:
    sums, counts = objective(batch), objective.counts(batch)
    return {name: sums[name] / counts[name] for name in objective.weights if name in sums}


def assert_same_gradients(ours: MaskedLM, theirs: torch.nn.Module) -> None:
    gradients = hub.to_transformers({name: parameter.grad for name, parameter in ours.named_parameters()})
    expected = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-5, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@settings(max_examples=40)
@given(problem=problems(), seed=st.integers(0, 1000))
def test_both_losses_and_every_gradient_are_those_of_bert_for_pretraining(
    transformers_twin, unsettled, attention, problem, seed
):
    config, batch, left = problem
    if left:  # turned round, since transformers pools column 0
        batch = {name: tensor.flip(1) for name, tensor in batch.items()}
    sentence_labels = torch.arange(len(batch["labels"])) % 2
    ours = unsettled(MaskedLM(config, None, True, attention), seed)
    theirs = transformers_twin(ours)
    expected = theirs(**batch, next_sentence_label=sentence_labels)
    means = means_of(ours, packed(batch, sentence_labels=sentence_labels))
    torch.testing.assert_close(sum(means.values()), expected.loss, atol=1e-5, rtol=1e-5)
    masked_lm_loss = F.cross_entropy(expected.prediction_logits.flatten(0, 1), batch["labels"].flatten())
    torch.testing.assert_close(means["masked_lm_loss"], masked_lm_loss, atol=1e-5, rtol=1e-5)
    sentence_loss = F.cross_entropy(expected.seq_relationship_logits, sentence_labels)
    torch.testing.assert_close(means["sentence_loss"], sentence_loss, atol=1e-5, rtol=1e-5)
    sum(means.values()).backward()
    expected.loss.backward()
    assert_same_gradients(ours, theirs)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@settings(max_examples=40)
@given(problem=problems(), seed=st.integers(0, 1000))
def test_the_loss_and_every_gradient_are_those_of_bert_for_masked_lm_wherever_the_padding_is(
    transformers_twin, unsettled, attention, problem, seed
):
    config, batch, _ = problem
    ours = unsettled(MaskedLM(config, None, False, attention), seed)
    theirs = transformers_twin(ours)
    expected = theirs(**batch).loss
    means = means_of(ours, packed(batch))
    assert list(means) == ["masked_lm_loss"]
    torch.testing.assert_close(means["masked_lm_loss"], expected, atol=1e-5, rtol=1e-5)
    means["masked_lm_loss"].backward()
    expected.backward()
    assert_same_gradients(ours, theirs)


@pytest.mark.parametrize("name", INPUTS)
def test_a_sampled_micro_batch_gives_what_the_reference_gives_for_one_sequence_after_another(name):
    objective = "nsp" if INPUTS[name].segments == 2 else "none"
    source = numbered(random_lengths(30, seed=3))
    sampler = make_sampler(source, sentence__objective=objective, sentence__input=name, batch_size=24)
    batch, found = sampler.block(0, 0).micro_batch(0), []
    assert len(set(batch.cu_seqlens.diff().tolist())) > 3
    config = ModelConfig(int(source.ids.max()) + 1, 24, 2, 3, 40, 32, initializer_range=0.1)
    config = replace(config, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    halves = [batch.take(torch.arange(first, batch.num_sequences, 2), MaskedLM.targets) for first in (0, 1)]
    for attention, parts in (("sdpa", [batch]), ("sdpa", halves), ("eager", one_by_one(batch))):
        torch.manual_seed(0)
        model = MaskedLM(config, None, objective == "nsp", attention)
        total = sum(sum(model(part)[name] for name in model.weights if name in model(part)) for part in parts)
        total.backward()
        found.append([total.detach(), *(parameter.grad for parameter in model.parameters())])
    torch.testing.assert_close(found[0], found[2], atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(found[1], found[2], atol=2e-4, rtol=1e-4)


def one_by_one(batch: PackedBatch) -> list[PackedBatch]:
    """Each sequence as a batch of its own."""
    parts, starts = [], batch.cu_seqlens.tolist()
    for row, (begin, end) in enumerate(pairwise(starts)):
        places = batch.targets["masked_index"]
        own = (begin <= places) & (places < end)
        targets = {"masked_index": places[own] - begin, "masked_labels": batch.targets["masked_labels"][own]}
        if "sentence_labels" in batch.targets:
            targets["sentence_labels"] = batch.targets["sentence_labels"][row : row + 1]
        ids, segments = batch.token_ids[begin:end], batch.segment_ids[begin:end]
        parts.append(PackedBatch.from_sequences([ids.tolist()], [segments.tolist()], **targets))
    return parts


def small_objective(sentence_labels: bool) -> MaskedLM:
    torch.manual_seed(0)
    return MaskedLM(
        ModelConfig(8, 4, 1, 1, 4, 6, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0), None, sentence_labels
    )


def small_batch() -> PackedBatch:
    """Two sequences, [1 5 6 2] and [1 7 2]; two tokens to predict, of which one is id 0; both sentence labels."""
    ids = {"input_ids": torch.tensor([[1, 5, 6, 2], [1, 7, 2, 0]]), "token_type_ids": torch.tensor([[0, 0, 1, 1]] * 2)}
    mask = {"attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])}
    labels = torch.tensor([[-100, 3, -100, -100], [-100, 0, -100, -100]])
    return packed(ids | mask | {"labels": labels}, sentence_labels=torch.tensor([0, 1]))


@pytest.mark.parametrize("sentence_labels", [False, True])
def test_every_parameter_gets_a_gradient(sentence_labels):
    objective, batch = small_objective(sentence_labels), small_batch()
    if not sentence_labels:
        del batch.targets["sentence_labels"]
    sum(objective(batch)[name] for name in objective.weights if name in objective(batch)).backward()
    assert [name for name, p in objective.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_losses_of_a_model_that_knows_nothing_are_the_logarithms_of_the_numbers_of_choices():
    objective, batch = small_objective(True), small_batch()
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.zero_()
        sums = objective(batch)
    assert float(sums["masked_lm_loss"]) == pytest.approx(2 * math.log(8))
    assert float(sums["sentence_loss"]) == pytest.approx(2 * math.log(2))


def test_token_and_label_zero_count_like_any_other():
    objective, batch = small_objective(True), small_batch()
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.zero_()
        objective.masked_lm_head.bias[0] = 5.0  # sure of token 0, and of label 0
        objective.sentence_head.classifier.bias[0] = 5.0
        sums = objective(batch)
    assert objective.counts(batch)["masked_lm_loss"] == objective.counts(batch)["sentence_loss"] == 2
    rest = 7 * math.exp(-5)
    assert float(sums["masked_lm_loss"]) == pytest.approx(2 * math.log(1 + rest) + 5)  # right once, off by 5 once
    assert float(sums["sentence_loss"]) == pytest.approx(2 * math.log(1 + math.exp(-5)) + 5)
    assert (int(sums["masked_lm_accuracy"]), int(sums["sentence_accuracy"])) == (1, 1)


def test_the_counts_are_of_masked_tokens_and_of_pairs():
    batch = small_batch()
    assert small_objective(True).counts(batch) == {
        "masked_lm_loss": 2,
        "masked_lm_accuracy": 2,
        "sentence_loss": 2,
        "sentence_accuracy": 2,
    }


def test_a_batch_answers_only_for_the_targets_it_has():
    objective, batch = small_objective(True), small_batch()
    del batch.targets["masked_index"], batch.targets["masked_labels"]
    assert list(objective(batch)) == list(objective.counts(batch)) == ["sentence_loss", "sentence_accuracy"]


def test_a_batch_without_a_masked_token_adds_nothing_to_the_sum():
    objective, batch = small_objective(False), small_batch()
    batch.targets.clear()
    batch.targets.update(masked_index=torch.zeros(0, dtype=torch.long), masked_labels=torch.zeros(0, dtype=torch.long))
    sums = objective(batch)
    assert (float(sums["masked_lm_loss"].detach()), objective.counts(batch)["masked_lm_loss"]) == (0.0, 0)
    sums["masked_lm_loss"].backward()
    assert not any(p.grad.any() for p in objective.parameters() if p.grad is not None)


def test_the_tied_matrix_is_one_parameter():
    names = [name for name, p in small_objective(True).named_parameters() if p.shape == (8, 4)]
    assert names == ["bert.embeddings.token.weight"]


def test_without_a_sentence_loss_there_is_neither_pooler_nor_sentence_head():
    names = [name for name, _ in small_objective(False).named_parameters()]
    assert [name for name in names if "pooler" in name or "sentence" in name] == []
