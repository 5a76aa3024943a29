"""The feed-forward half of a layer in blocks of rows, against the same in two plain layers."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from bert import feed_forward, products
from bert.config import ModelConfig
from bert.feed_forward import FeedForward


def half_layer(width: int, intermediate: int, seed: int) -> FeedForward:
    torch.manual_seed(seed)
    return FeedForward(ModelConfig(9, width, 1, 1, intermediate, 8))


def outputs_and_gradients(compute, hidden: torch.Tensor, weights: torch.Tensor, half: FeedForward) -> list:
    half.zero_grad()
    leaf = hidden.clone().requires_grad_()
    out = compute(leaf)
    (out * weights).sum().backward()
    return [out.detach(), leaf.grad, *(parameter.grad for parameter in half.parameters())]


@settings(max_examples=40)
@given(
    tokens=st.integers(0, 30),
    rows=st.integers(1, 12),
    width=st.integers(1, 9),
    intermediate=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_blocks_of_any_size_give_the_outputs_and_gradients_of_two_plain_layers(tokens, rows, width, intermediate, seed):
    half, hidden, weights = (
        half_layer(width, intermediate, seed),
        torch.randn(tokens, width),
        torch.randn(tokens, width),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed_forward, "BLOCK", rows)
        found = outputs_and_gradients(half, hidden, weights, half)
    expected = outputs_and_gradients(lambda x: half.output(F.gelu(half.intermediate(x))), hidden, weights, half)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_frozen_layer_passes_its_gradient_on_and_keeps_none():
    half, hidden = half_layer(4, 6, seed=0), torch.randn(5, 4, requires_grad=True)
    half(hidden).sum().backward()
    expected, hidden.grad = hidden.grad, None
    half.zero_grad()
    half.requires_grad_(False)(hidden).sum().backward()
    assert torch.equal(hidden.grad, expected)
    assert all(parameter.grad is None for parameter in half.parameters())


def test_biases_learn_where_matrices_are_frozen():
    half, hidden = half_layer(4, 6, seed=0), torch.randn(5, 4)
    half.intermediate.weight.requires_grad_(False)
    half.output.weight.requires_grad_(False)
    half(hidden).square().sum().backward()
    found = [half.intermediate.bias.grad, half.output.bias.grad]
    half.zero_grad()
    half.output(F.gelu(half.intermediate(hidden))).square().sum().backward()
    torch.testing.assert_close(found, [half.intermediate.bias.grad, half.output.bias.grad])
    assert half.intermediate.weight.grad is None


@pytest.mark.skipif(not products._BF16, reason="needs a processor on which oneDNN computes in bf16")
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("tokens", [7, 300])
def test_in_bf16_it_is_as_near_to_fp32_as_two_plain_layers_are(tokens, frozen, monkeypatch):
    monkeypatch.setattr(feed_forward, "BLOCK", 64)
    half, weights = half_layer(40, 160, seed=0), torch.randn(tokens, 40)
    hidden = torch.randn(tokens, 40).bfloat16().float()
    plain = lambda x: half.output(F.gelu(half.intermediate(x)))  # noqa: E731
    exact = outputs_and_gradients(plain, hidden, weights, half)
    if frozen:
        exact = exact[:2] + [None] * 4
        half.requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        found, usual = (outputs_and_gradients(compute, hidden, weights, half) for compute in (half, plain))
    assert found[0].dtype == torch.bfloat16
    for ours, theirs, right in zip(found, usual, exact, strict=True):
        if right is None:
            assert ours is None
        else:
            assert ours.dtype == theirs.dtype
            errors = [float((one.float() - right).norm() / right.norm()) for one in (ours, theirs)]
            assert errors[0] < max(1.2 * errors[1], 1e-6) < 0.02


@pytest.mark.parametrize("case", ["float64", "fp16 autocast", "compiled"])
def test_elsewhere_it_is_two_plain_layers(case, monkeypatch):
    monkeypatch.setattr(feed_forward._InBlocks, "apply", lambda *of: pytest.fail("computed in blocks"))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: case == "compiled")
    kind = torch.float64 if case == "float64" else torch.float32
    half, hidden = half_layer(4, 6, seed=0).to(kind), torch.randn(5, 4, dtype=kind)
    with torch.autocast("cpu", torch.float16, enabled=case == "fp16 autocast"):
        found, expected = half(hidden), half.output(F.gelu(half.intermediate(hidden)))
    torch.testing.assert_close(found, expected, atol=1e-6 if case == "compiled" else 0, rtol=0)
