"""Layer normalisation, and the type that it gives."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bert.config import ModelConfig
from bert.model import BertModel
from bert.norm import LayerNorm
from bert.packed import PackedBatch


@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16])
def test_under_autocast_it_is_computed_in_fp32_and_cast_once(given):
    torch.manual_seed(0)
    norm, x = LayerNorm(32), (3 * torch.randn(9, 32) + 1).to(given)
    nn.init.normal_(norm.weight)
    with torch.autocast("cpu", torch.bfloat16):
        found = norm(x)
    expected = F.layer_norm(x.float(), (32,), norm.weight, norm.bias, norm.eps)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected.bfloat16())


def test_in_one_pass_it_is_that_of_fp32_to_the_rounding_of_bf16_and_so_are_its_gradients():
    torch.manual_seed(0)
    norm, x = LayerNorm(256), (3 * torch.randn(64, 256) + 1).bfloat16().requires_grad_()
    nn.init.normal_(norm.weight, 1.0, 0.1), nn.init.normal_(norm.bias, 0.0, 0.1)
    exact = x.detach().float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = norm.in_one_pass(x)
        pull = torch.randn(found.shape).bfloat16()
        gradients = torch.autograd.grad(found, [x, norm.weight, norm.bias], pull)
    expected = F.layer_norm(exact, (256,), norm.weight, norm.bias, norm.eps)
    references = torch.autograd.grad(expected, [exact, norm.weight, norm.bias], pull.float())
    assert found.dtype == torch.bfloat16 and gradients[1].dtype == gradients[2].dtype == torch.float32
    for ours, theirs in zip([found, *gradients], [expected, *references], strict=True):
        assert (ours.float() - theirs).norm() < 2**-6 * theirs.norm()


def test_elsewhere_it_is_pytorchs_and_so_are_its_parameters():
    ours, theirs, x = LayerNorm(8), nn.LayerNorm(8), torch.randn(5, 8)
    assert torch.equal(ours(x), theirs(x))
    assert ours.state_dict().keys() == theirs.state_dict().keys()


def test_hidden_states_have_the_type_of_products_all_the_way_and_are_those_of_fp32():
    torch.manual_seed(0)
    model = BertModel(ModelConfig(50, 32, 3, 2, 64, 16)).eval()
    batch = PackedBatch.from_sequences([[1, 2, 3, 4], [5, 6]], [[0, 0, 1, 1], [0, 0]])
    exact = model(batch).hidden_states
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(batch).hidden_states
    assert {state.dtype for state in exact} == {torch.float32}
    assert {state.dtype for state in rounded} == {torch.bfloat16}
    for one, other in zip(exact, rounded, strict=True):
        torch.testing.assert_close(one, other.float(), atol=0.05, rtol=0)
