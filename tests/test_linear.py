"""Linear layers by oneDNN, against PyTorch's own."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bert import linear as module
from bert.linear import Linear, linear, product

needs_onednn = pytest.mark.skipif(not module._AVAILABLE, reason="needs a PyTorch with oneDNN on x86-64")


@settings(max_examples=50)
@given(
    rows=st.integers(0, 70),
    inputs=st.integers(1, 40),
    outputs=st.integers(1, 40),
    biased=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_outputs_and_gradients_are_those_of_pytorch(rows, inputs, outputs, biased, seed):
    torch.manual_seed(seed)
    given_ = [torch.randn(rows, inputs), torch.randn(outputs, inputs), *([torch.randn(outputs)] if biased else [])]
    weights, found = torch.randn(rows, outputs), []
    for compute in (linear, F.linear):
        leaves = [tensor.clone().requires_grad_() for tensor in given_]
        out = compute(*leaves)
        (out * weights).sum().backward()
        found.append([out.detach(), *(leaf.grad for leaf in leaves)])
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("change", [lambda x: x[:, ::2], lambda x: x.T, lambda x: x[:1].expand(6, 6)])
def test_strides_do_not_matter(change):
    torch.manual_seed(0)
    x, weight = change(torch.randn(6, 6)), change(torch.randn(6, 6))
    torch.testing.assert_close(product(x, weight), x @ weight.T, atol=1e-5, rtol=1e-5)


def test_a_sum_s_gradient_which_is_one_number_seen_many_times_goes_through():
    x, layer = torch.ones(5, 3, requires_grad=True), Linear(3, 4)
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(5, 3))
    torch.testing.assert_close(layer.weight.grad, torch.full((4, 3), 5.0))
    torch.testing.assert_close(layer.bias.grad, torch.full((4,), 5.0))


@needs_onednn
@pytest.mark.parametrize("frozen", ["x", "weight", "bias"])
def test_what_needs_no_gradient_gets_none(frozen):
    leaves = {"x": torch.randn(5, 3), "weight": torch.randn(4, 3), "bias": torch.randn(4)}
    for name, leaf in leaves.items():
        leaf.requires_grad_(name != frozen)
    linear(**leaves).sum().backward()
    assert {name for name, leaf in leaves.items() if leaf.grad is None} == {frozen}


@needs_onednn
@pytest.mark.parametrize(
    ("case", "by_onednn"), [("fp32", True), ("float64", False), ("bf16 autocast", False), ("compiled", False)]
)
def test_onednn_computes_fp32_on_a_cpu_and_nothing_else(case, by_onednn, monkeypatch):
    called = []
    monkeypatch.setattr(module, "product", lambda *of: called.append(True) or product(*of))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: case == "compiled")
    kind = torch.float64 if case == "float64" else torch.float32
    layer, x = Linear(3, 4).to(kind), torch.randn(5, 3, dtype=kind)
    with torch.autocast("cpu", torch.bfloat16, enabled=case == "bf16 autocast"):
        assert layer(x).dtype == (torch.bfloat16 if case == "bf16 autocast" else kind)
    assert bool(called) == by_onednn


def test_without_onednn_it_is_pytorch_s_own(monkeypatch):
    monkeypatch.setattr(module, "_AVAILABLE", False)
    layer, x = Linear(3, 4), torch.randn(5, 3)
    assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))
    assert torch.equal(product(x, layer.weight), x @ layer.weight.T)


def test_its_parameters_are_those_of_a_plain_layer():
    plain, ours = nn.Linear(3, 4), Linear(3, 4)
    ours.load_state_dict(plain.state_dict())
    assert isinstance(ours, nn.Linear)
    x = torch.randn(2, 3)
    torch.testing.assert_close(ours(x), plain(x))
