"""Matrix products by oneDNN, against PyTorch's own, and when there are any."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bert import products
from bert.products import Linear, product, spare_rows

needs_bf16 = pytest.mark.skipif(not products._BF16, reason="needs a processor on which oneDNN computes in bf16")
needs_onednn = pytest.mark.skipif(not products._AVAILABLE, reason="needs a PyTorch with oneDNN on x86-64")
FP32 = torch.zeros(())


@pytest.fixture(autouse=True)
def products_of_fp32_by_onednn(monkeypatch):
    """Whoever made the processor."""
    monkeypatch.setattr(products, "_FP32", products._AVAILABLE)


@pytest.mark.parametrize(
    ("rows", "spare"),
    # Fewer than 256 stay; then multiples of 8 up to 511, of 16 up to 1,023, and so on.
    [(0, 0), (255, 0), (256, 0), (257, 7), (511, 1), (512, 0), (513, 15), (1952, 0), (1953, 31), (7400, 24)],
)
def test_rows_are_rounded_up_to_one_of_32_numbers_between_two_powers_of_two(rows, spare):
    assert spare_rows(rows, FP32) == spare


@given(st.integers(256, 1 << 20))
def test_rounding_adds_3_percent_at_most_and_rounds_once(rows):
    rounded = rows + spare_rows(rows, FP32)
    assert rows <= rounded < rows * (1 + 1 / 32)
    assert spare_rows(rounded, FP32) == 0


def test_a_run_meets_few_shapes_and_so_do_its_blocks():
    whole = {rows + spare_rows(rows, FP32) for rows in range(7000, 8000)}
    assert whole == set(range(7040, 8065, 128))
    last_blocks = {rows % products.BLOCK for rows in whole} - {0}
    assert last_blocks <= set(range(128, products.BLOCK, 128))


@needs_bf16
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_under_autocast_in_bf16_rows_are_added_likewise(kind):
    with torch.autocast("cpu", torch.bfloat16):
        assert spare_rows(1953, FP32.to(kind)) == 31


@pytest.mark.parametrize("case", ["float64", "fp16 autocast", "no bf16", "compiled"])
def test_elsewhere_no_row_is_added(case, monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: case == "compiled")
    of = FP32.double() if case == "float64" else FP32
    monkeypatch.setattr(products, "_BF16", case != "no bf16")
    other = {"fp16 autocast": torch.float16, "no bf16": torch.bfloat16}.get(case)
    with torch.autocast("cpu", other, enabled=other is not None):
        assert spare_rows(1001, of) == 0


@settings(max_examples=60)
@given(
    rows=st.integers(0, 70) | st.sampled_from([256, 264, 300]),
    inputs=st.integers(1, 40),
    outputs=st.integers(1, 40),
    seed=st.integers(0, 1000),
)
def test_outputs_and_gradients_of_a_layer_are_those_of_pytorch(rows, inputs, outputs, seed):
    torch.manual_seed(seed)
    ours, plain = Linear(inputs, outputs), nn.Linear(inputs, outputs)
    plain.load_state_dict(ours.state_dict())
    x, weights, found = torch.randn(rows, inputs), torch.randn(rows, outputs), []
    for layer in (ours, plain):
        leaf = x.clone().requires_grad_()
        out = layer(leaf)
        (out * weights).sum().backward()
        found.append([out.detach(), leaf.grad, *(parameter.grad for parameter in layer.parameters())])
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)


@needs_bf16
@pytest.mark.parametrize("rows", [0, 8, 256, 257])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_under_autocast_outputs_and_gradients_are_those_of_pytorch_s_autocast(rows, kind):
    torch.manual_seed(0)
    ours, plain = Linear(40, 30), nn.Linear(40, 30)
    plain.load_state_dict(ours.state_dict())
    x, weights, found = torch.randn(rows, 40, dtype=kind), torch.randn(rows, 30), []
    for layer in (ours, plain):
        leaf = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            out = layer(leaf)
        (out * weights).sum().backward()
        found.append([out.detach(), leaf.grad, *(parameter.grad for parameter in layer.parameters())])
        assert [one.dtype for one in found[-1]] == [torch.bfloat16, kind, torch.float32, torch.float32]
    torch.testing.assert_close(*found, atol=1e-2, rtol=1e-2)


def test_a_sum_s_gradient_which_is_one_number_seen_many_times_goes_through():
    x, layer = torch.ones(8, 3, requires_grad=True), Linear(3, 4)
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(8, 3))
    torch.testing.assert_close(layer.weight.grad, torch.full((4, 3), 8.0))
    torch.testing.assert_close(layer.bias.grad, torch.full((4,), 8.0))


@pytest.mark.parametrize("frozen", ["x", "weight", "bias"])
def test_what_needs_no_gradient_gets_none(frozen):
    x, layer = torch.randn(5, 3, requires_grad=True), Linear(3, 4)
    leaves = {"x": x, "weight": layer.weight, "bias": layer.bias}
    leaves[frozen].requires_grad_(False)
    layer(x).sum().backward()
    assert {name for name, leaf in leaves.items() if leaf.grad is None} == {frozen}


@needs_onednn
@pytest.mark.parametrize(
    ("case", "by_onednn"),
    [
        ("fp32", True),
        pytest.param("bf16 autocast", True, marks=needs_bf16),
        ("fp16 autocast", False),
        ("float64", False),
        ("compiled", False),
        ("a row too many", False),
    ],
)
def test_onednn_computes_round_numbers_of_rows_in_fp32_and_bf16_on_a_cpu_and_nothing_else(case, by_onednn, monkeypatch):
    called, real = [], torch.ops.mkldnn._linear_pointwise
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", lambda *of: called.append(True) or real(*of))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: case == "compiled")
    kind = torch.float64 if case == "float64" else torch.float32
    layer, x = Linear(3, 4).to(kind), torch.randn(257 if case == "a row too many" else 256, 3, dtype=kind)
    other = {"bf16 autocast": torch.bfloat16, "fp16 autocast": torch.float16}.get(case)
    with torch.autocast("cpu", other, enabled=other is not None):
        assert layer(x).dtype == (other or kind)
    assert bool(called) == by_onednn


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("change", [lambda x: x, lambda x: x[:, ::2], lambda x: x[:1].expand(256, 6)])
def test_a_product_is_that_of_pytorch_whatever_the_strides(change, biased):
    torch.manual_seed(0)
    x, weight = change(torch.randn(256, 6)), torch.randn(6, 10).T  # (10, 6), not contiguous
    weight, bias = weight[:, : x.shape[1]], torch.randn(10) if biased else None
    torch.testing.assert_close(product(x, weight, bias), F.linear(x, weight, bias), atol=1e-5, rtol=1e-5)


def test_without_onednn_it_is_pytorch_s_own(monkeypatch):
    monkeypatch.setattr(products, "_FP32", False)
    layer, x = Linear(3, 4), torch.randn(256, 3)
    assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))
    assert torch.equal(product(x, layer.weight), F.linear(x, layer.weight))
