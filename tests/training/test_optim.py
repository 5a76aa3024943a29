import pytest
import torch

from bert.config import ModelConfig
from bert.training.config import TrainingConfig
from bert.training.optim import build_optimizer, parameter_groups
from pretrain.objectives.masked_lm import MaskedLM


@pytest.fixture(scope="module")
def objective() -> MaskedLM:
    return MaskedLM(ModelConfig(12, 8, 2, 2, 16, 10), None, 2)


def names_of(objective: MaskedLM, parameters: list) -> set[str]:
    numbers = {id(parameter) for parameter in parameters}
    return {name for name, parameter in objective.named_parameters() if id(parameter) in numbers}


def test_biases_and_norms_do_not_decay_and_every_matrix_does(objective):
    decayed, spared = parameter_groups(objective, 0.01)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.01, 0.0)
    spared_names, all_names = names_of(objective, spared["params"]), {name for name, _ in objective.named_parameters()}
    assert spared_names == {name for name in all_names if name.endswith("bias") or "norm" in name}
    assert names_of(objective, decayed["params"]) == all_names - spared_names


def test_every_parameter_is_in_exactly_one_group_and_the_tied_matrix_once(objective):
    grouped = [id(parameter) for group in parameter_groups(objective, 0.01) for parameter in group["params"]]
    assert sorted(grouped) == sorted({id(parameter) for parameter in objective.parameters()})
    table = objective.bert.embeddings.token.weight
    assert grouped.count(id(table)) == 1
    shapes = [tuple(parameter.shape) for parameter in objective.parameters()]
    assert shapes.count((12, 8)) == 1  # no second matrix of the vocabulary's size


def test_frozen_parameters_are_left_out():
    model = torch.nn.Linear(2, 2)
    model.weight.requires_grad_(False)
    assert [(len(group["params"]), group["weight_decay"]) for group in parameter_groups(model, 0.1)] == [(1, 0.0)]


def test_a_step_is_that_of_adamw():
    # Loshchilov and Hutter 2019, algorithm 2, first step: both moments are corrected to the gradient g, so the step is
    # lr * sign(g) (epsilon apart); decay takes lr * weight_decay of the matrix, and nothing of the vector.
    model = torch.nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(2.0)
        model.bias.fill_(2.0)
    optimizer = build_optimizer(model, TrainingConfig(steps=1, lr=0.1, weight_decay=0.5))
    (3 * model.weight.sum() - 7 * model.bias.sum()).backward()
    optimizer.step()
    assert float(model.weight.detach()) == pytest.approx(2.0 - 0.1 * 0.5 * 2.0 - 0.1)
    assert float(model.bias.detach()) == pytest.approx(2.0 + 0.1)


def test_the_optimizer_is_told_every_option():
    config = TrainingConfig(steps=1, lr=0.3, adam_beta1=0.8, adam_beta2=0.95, adam_epsilon=1e-6, weight_decay=0.2)
    first, second = build_optimizer(torch.nn.Linear(1, 1), config).param_groups
    for group, decay in ((first, 0.2), (second, 0.0)):
        assert (group["lr"], group["betas"], group["eps"]) == (0.3, (0.8, 0.95), 1e-6)
        assert group["weight_decay"] == decay


def test_each_layer_learns_at_a_share_of_the_rate_of_the_one_above(objective):
    groups = parameter_groups(objective, 0.01, 0.5, objective.depth)
    share = {name: group["lr_scale"] for group in groups for name in names_of(objective, group["params"])}
    assert share["masked_lm_head.transform.weight"] == share["sentence_head.classifier.bias"] == 1.0
    assert share["bert.pooler.weight"] == share["bert.encoder.layers.1.feed_forward.output.weight"] == 0.5
    assert share["bert.encoder.layers.0.attention_norm.bias"] == 0.25
    assert share["bert.embeddings.token.weight"] == share["bert.embeddings.norm.weight"] == 0.125
    assert len(share) == len(list(objective.named_parameters()))


def test_the_rate_is_that_of_the_schedule_where_no_layer_differs(objective):
    assert {group["lr_scale"] for group in build_optimizer(objective, TrainingConfig(steps=1)).param_groups} == {1.0}
