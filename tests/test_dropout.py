"""Dropout on a CPU: its odds, its scale, and what repeats."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bert.dropout import Dropout, scaled_mask


def test_values_are_dropped_with_the_odds_asked_for_and_the_mean_stays():
    torch.manual_seed(0)
    for p in (0.1, 0.5, 0.03):
        mask = scaled_mask(torch.Size([1000, 999]), p, torch.float64)
        kept = mask != 0
        deviation = (p * (1 - p) / mask.numel()) ** 0.5
        assert abs(1 - kept.double().mean() - p) < 5 * deviation + 1 / 65536
        assert len(mask.unique()) == 2
        assert mask.max() == pytest.approx(1 / (1 - p), rel=1e-4)
        # Neighbours are independent of one another, along rows and down columns.
        for a, b in ((kept[:, 1:], kept[:, :-1]), (kept[1:], kept[:-1])):
            both = (a & b).double().mean()
            assert abs(both - (1 - p) ** 2) < 1e-3


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
        assert int((scaled_mask(torch.Size([4000, 100]), 0.1, torch.float32) == 0).sum()) == 39845
    finally:
        torch.set_num_threads(before)


def test_nothing_is_dropped_at_0_or_outside_training():
    x = torch.randn(5, 5)
    assert Dropout(0.0)(x) is x
    assert Dropout(0.5).eval()(x) is x
    assert repr(Dropout(0.5)) == "Dropout(p=0.5)"
