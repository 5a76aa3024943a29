"""The GELU of compiled graphs, against PyTorch's."""

import pytest
import torch
import torch.nn.functional as F

from bert.gelu import gelu

EVERYWHERE = torch.cat([torch.linspace(-12, 12, 200_001), torch.tensor([0.0, -0.0, 1e-30, -1e-30, 1e4, -1e4, 3e38])])


def value_and_gradient(of, x: torch.Tensor, weights: torch.Tensor) -> list[torch.Tensor]:
    leaf = x.clone().requires_grad_()
    out = of(leaf)
    (gradient,) = torch.autograd.grad(out, leaf, weights.to(out.dtype))
    return [out.detach(), gradient]


def test_value_and_gradient_are_the_exact_ones_to_half_a_millionth():
    weights = torch.ones_like(EVERYWHERE)
    found = value_and_gradient(gelu, EVERYWHERE, weights)
    expected = value_and_gradient(F.gelu, EVERYWHERE.double(), weights)
    torch.testing.assert_close(found, [tensor.float() for tensor in expected], atol=5e-7, rtol=1e-7)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_in_half_precision_only_ties_are_rounded_otherwise(kind):
    torch.manual_seed(0)
    x, weights = EVERYWHERE[:200_001].to(kind), torch.randn(200_001).to(kind)
    ours, exact = value_and_gradient(gelu, x, weights), value_and_gradient(F.gelu, x.double(), weights)
    for one, other in zip(ours, exact, strict=True):
        assert one.dtype == kind
        rounding = torch.finfo(kind).eps * other.abs() / 2
        assert ((one.double() - other).abs() <= rounding * 1.001 + 2e-7 * weights.double().abs().clamp(min=1)).all()


def test_what_is_not_finite_stays_so():
    assert gelu(torch.tensor([torch.nan, torch.inf])).isnan().tolist() == [True, False]
