"""Dropout on a CPU and in a compiled graph: its odds, its scale, and what repeats."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bert.dropout import Dropout, drawn_mask, hashed_mask

CPU = torch.device("cpu")
MASKS = {
    "drawn": lambda shape, p: drawn_mask(shape, p, torch.float64)[0] != 0,
    "hashed": lambda shape, p: hashed_mask(shape, p, CPU),
}


@pytest.mark.parametrize("p", [0.1, 0.5, 0.03])
@pytest.mark.parametrize("kind", MASKS)
def test_values_are_dropped_with_the_odds_asked_for_and_independently(kind, p):
    torch.manual_seed(0)
    kept = MASKS[kind](torch.Size([1000, 999]), p)
    other = MASKS[kind](kept.shape, p)
    deviation = (p * (1 - p) / kept.numel()) ** 0.5
    assert abs(1 - kept.double().mean() - p) < 5 * deviation + 1 / 65536
    # Along rows, down columns, far apart, and from one mask to the next.
    flat = kept.flatten()
    pairs = ((kept[:, 1:], kept[:, :-1]), (kept[1:], kept[:-1]), (flat[65_536:], flat[:-65_536]), (kept, other))
    for a, b in pairs:
        assert abs((a & b).double().mean() - (1 - p) ** 2) < 1e-3
    # No row or column is dropped oftener than chance has it: so many of p * (1 - p) is their variance.
    for direction in (0, 1):
        means = kept.double().mean(direction)
        assert means.var() == pytest.approx(p * (1 - p) / kept.shape[direction], rel=0.25)


def test_nearly_all_may_be_dropped():
    kept, scale = drawn_mask(torch.Size([9]), 0.999999, torch.float32)
    assert kept.isfinite().all() and scale == 65536


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
def test_what_is_left_is_scaled_so_that_the_mean_stays(kind):
    kept, scale = drawn_mask(torch.Size([1000, 9]), 0.1, kind)
    assert kept.dtype == kind and kept.unique().tolist() == [0, 1]
    assert scale == pytest.approx(1 / 0.9, rel=1e-4)


def test_bf16_in_which_the_scale_is_no_number_keeps_the_mean_and_that_of_gradients():
    torch.manual_seed(0)
    # 1 / 0.9 would be 1.1094 in bf16; values that are spread are rounded up as often as down.
    x = torch.rand(400_000).add(1).bfloat16().requires_grad_()
    gradient = torch.rand(400_000).add(1).bfloat16()
    for out in (Dropout(0.1)(x), Dropout(0.1).added(x, to=torch.zeros_like(x))):
        x.grad = None
        out.backward(gradient)
        kept = out != 0
        for found, of in ((out, x), (x.grad, gradient)):
            ratio = found[kept].double().mean() / of[kept].double().mean()
            assert ratio.item() == pytest.approx(1 / 0.9, rel=2e-4)


@pytest.mark.filterwarnings("default")  # the compiler reads deprecated attributes of its own
def test_in_a_compiled_graph_the_hash_drops_and_the_gradient_passes_where_values_did():
    torch.compiler.reset()
    dropout, x, to = Dropout(0.25), torch.randn(40, 30, requires_grad=True), torch.randn(40, 30)
    compiled = torch.compile(dropout.added, backend="aot_eager", fullgraph=True)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(compiled(x, to=to))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    torch.manual_seed(1)
    kept = hashed_mask(x.shape, 0.25, CPU)
    torch.testing.assert_close(found[0], to + kept * x / 0.75)
    found[0].sum().backward()
    torch.testing.assert_close(x.grad, kept / 0.75)
    assert torch.equal(torch.compile(dropout.eval().added, backend="aot_eager")(x, to=to), to + x)
    torch.compiler.reset()


@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True)])
def test_what_is_added_to_gets_the_whole_gradient_and_what_needs_none_gets_none(wanted):
    torch.manual_seed(0)
    x, to = (torch.randn(20, 3, dtype=torch.float64, requires_grad=need) for need in wanted)
    out = Dropout(0.25).added(x, to)
    torch.manual_seed(0)
    torch.randn(20, 3, dtype=torch.float64), torch.randn(20, 3, dtype=torch.float64)
    kept, scale = drawn_mask(x.shape, 0.25, torch.float64)
    torch.testing.assert_close(out.detach(), (to + x * kept * scale).detach())
    gradient = torch.randn_like(out)
    out.backward(gradient)
    for leaf, expected, needed in ((x, gradient * kept * scale, wanted[0]), (to, gradient, wanted[1])):
        if needed:
            torch.testing.assert_close(leaf.grad, expected)
        else:
            assert leaf.grad is None


def test_gradients_pass_where_values_passed():
    torch.manual_seed(0)
    dropout, x = Dropout(0.4), torch.randn(50, 7, requires_grad=True)
    out = dropout(x)
    out.sum().backward()
    kept = out != 0
    torch.testing.assert_close(x.grad[kept], torch.full_like(x.grad[kept], 1 / 0.6), rtol=1e-4, atol=0)
    assert not x.grad[~kept].any() and 0 < kept.double().mean() < 1


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), shape=st.lists(st.integers(0, 7), min_size=1, max_size=3))
def test_the_seed_decides_and_any_shape_is_kept(seed, shape):
    dropout, x, found = Dropout(0.3), torch.ones(shape), []
    for _ in range(2):
        torch.manual_seed(seed)
        found.append([dropout(x), dropout(x)])
    assert found[0][0].shape == x.shape
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_two_masks_in_a_row_differ():
    torch.manual_seed(0)
    dropout, x = Dropout(0.5), torch.ones(1000)
    assert not torch.equal(dropout(x), dropout(x))


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_no_mask(threads):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        torch.manual_seed(3)
        assert int((drawn_mask(torch.Size([4000, 100]), 0.1, torch.float32)[0] == 0).sum()) == 39845
    finally:
        torch.set_num_threads(before)


def test_nothing_is_dropped_at_0_or_outside_training():
    x = torch.randn(5, 5)
    assert Dropout(0.0)(x) is x
    assert Dropout(0.5).eval()(x) is x
    assert repr(Dropout(0.5)) == "Dropout(p=0.5)"
