"""The vocabulary's loss in one go, against PyTorch's own."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from bert import cross_entropy, products
from bert.cross_entropy import vocabulary_cross_entropy


def reference(hidden, table, bias, labels):
    logits = F.linear(hidden, table, bias)
    return F.cross_entropy(logits, labels, reduction="sum"), (logits.argmax(-1) == labels).sum()


@settings(max_examples=60)
@given(
    rows=st.integers(1, 40),
    of_block=st.integers(1, 20),
    width=st.integers(1, 9),
    vocabulary=st.integers(2, 60),
    at_once=st.integers(1, 500),
    size=st.sampled_from([0.1, 1.0, 30.0]),
    seed=st.integers(0, 1000),
)
def test_loss_and_gradients_are_those_of_pytorch(rows, of_block, width, vocabulary, at_once, size, seed):
    torch.manual_seed(seed)
    inputs = [size * torch.randn(rows, width), torch.randn(vocabulary, width), torch.randn(vocabulary)]
    labels, scale, found = torch.randint(0, vocabulary, (rows,)), 0.37, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_entropy, "_NUMBERS_AT_ONCE", at_once)
        patch.setattr(cross_entropy, "BLOCK", of_block)
        for loss_of in (vocabulary_cross_entropy, reference):
            leaves = [tensor.clone().requires_grad_() for tensor in inputs]
            loss, right = loss_of(*leaves, labels)
            (scale * loss).backward()
            found.append([loss.detach(), right, *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-4 * size, rtol=1e-4)


def test_so_they_are_at_the_size_of_a_real_vocabulary_and_on_two_threads():
    torch.manual_seed(0)
    inputs, labels = [torch.randn(70, 8), torch.randn(16000, 8), torch.randn(16000)], torch.randint(0, 16000, (70,))
    threads, found = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        for loss_of in (vocabulary_cross_entropy, reference):
            leaves = [tensor.clone().requires_grad_() for tensor in inputs]
            loss, right = loss_of(*leaves, labels)
            loss.backward()
            found.append([loss.detach(), right, *(leaf.grad for leaf in leaves)])
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)


def test_no_target_is_no_loss():
    hidden = torch.zeros(0, 3, requires_grad=True)
    loss, right = vocabulary_cross_entropy(hidden, torch.randn(5, 3), torch.zeros(5), torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert (loss.item(), right.item(), hidden.grad.shape) == (0.0, 0, (0, 3))


@pytest.mark.skipif(not products._BF16, reason="needs a processor on which oneDNN computes in bf16")
@pytest.mark.parametrize("at_once", [1, 1 << 20])
def test_in_bf16_it_is_as_near_to_fp32_as_pytorch_s_own(at_once, monkeypatch):
    torch.manual_seed(0)
    inputs = [torch.randn(72, 40).bfloat16().float(), torch.randn(500, 40), torch.randn(500)]
    labels, found = torch.randint(0, 500, (72,)), []
    labels[::2] = F.linear(*inputs)[::2].argmax(1)  # so that many lead
    monkeypatch.setattr(cross_entropy, "_NUMBERS_AT_ONCE", at_once)
    monkeypatch.setattr(cross_entropy, "BLOCK", 32)

    def pytorch_s(hidden, table, bias, labels):
        logits = F.linear(hidden, table, bias).float()
        return F.cross_entropy(logits, labels, reduction="sum"), (logits.argmax(-1) == labels).sum()

    for loss_of, half in ((vocabulary_cross_entropy, True), (pytorch_s, True), (pytorch_s, False)):
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        with torch.autocast("cpu", torch.bfloat16, half):
            loss, right = loss_of(*leaves, labels)
        (loss / 72).backward()
        found.append([loss.detach(), right.float(), *(leaf.grad for leaf in leaves)])
    for ours, theirs, exact in zip(*found, strict=True):
        assert ours.dtype == torch.float32
        errors = [float((one - exact).norm() / exact.norm().clamp(min=1)) for one in (ours, theirs)]
        assert errors[0] <= max(1.3 * errors[1], 1e-6) and errors[1] < 0.02


def test_of_equal_logits_one_leads_as_where_nothing_is_learned():
    hidden, table, bias = torch.ones(4, 1), torch.tensor([[1.0], [3.0], [3.0]]), torch.zeros(3)
    labels = torch.tensor([0, 1, 2, 1])
    learning = vocabulary_cross_entropy(hidden.requires_grad_(), table, bias, labels)
    with torch.no_grad():
        judging = vocabulary_cross_entropy(hidden, table, bias, labels)
    assert learning[1] == judging[1] == reference(hidden, table, bias, labels)[1] == 2


@given(rows=st.integers(0, 20), at_once=st.integers(1, 9), size=st.sampled_from([0.1, 30.0]), seed=st.integers(0, 1000))
def test_without_a_gradient_the_loss_is_the_same_a_few_rows_at_a_time(rows, at_once, size, seed):
    torch.manual_seed(seed)
    inputs = [size * torch.randn(rows, 4), torch.randn(7, 4), torch.randn(7)]
    labels = torch.randint(0, 7, (rows,))
    labels[::3] = -100
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(cross_entropy, "_ROWS_JUDGED", at_once)
        patch.setattr(cross_entropy._InPlace, "apply", None)
        found = vocabulary_cross_entropy(*inputs, labels)
    torch.testing.assert_close(list(found), list(reference(*inputs, labels)), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("case", ["fp16", "float64"])
def test_elsewhere_it_is_pytorch_s_own(case, monkeypatch):
    monkeypatch.setattr(cross_entropy._InPlace, "apply", None)
    kind = torch.float64 if case == "float64" else torch.float32
    inputs = (torch.randn(4, 3, dtype=kind), torch.randn(5, 3, dtype=kind), torch.zeros(5, dtype=kind))
    labels = torch.tensor([0, 1, 2, 3])
    with torch.autocast("cpu", torch.float16, case == "fp16"):
        loss, _ = vocabulary_cross_entropy(*inputs, labels)
    expected, _ = reference(*inputs, labels)
    torch.testing.assert_close(loss, expected.to(loss.dtype), atol=0.1 if case == "fp16" else 1e-6, rtol=1e-2)
    assert loss.dtype == torch.float32


@pytest.mark.parametrize("in_place", [True, False])
def test_a_place_without_a_label_counts_in_nothing(in_place):
    torch.manual_seed(0)
    inputs = [torch.randn(6, 3), torch.randn(5, 3), torch.randn(5)]
    labels, labelled, found = torch.tensor([0, -100, 4, 2, -100, -100]), torch.tensor([0, 2, 3]), []
    for rows in (torch.arange(6), labelled):
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        with torch.autocast("cpu", torch.float16, not in_place):
            loss, right = vocabulary_cross_entropy(leaves[0].index_select(0, rows), *leaves[1:], labels[rows])
        loss.backward()
        found.append([loss.detach(), right, *(leaf.grad for leaf in leaves)])
    torch.testing.assert_close(*found, atol=1e-6, rtol=1e-2 if not in_place else 1e-6)
    assert not found[0][2][labels == -100].any()
