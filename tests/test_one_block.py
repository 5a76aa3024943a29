"""Attention in one block: on a CPU by Triton's interpreter, in a process of its own, where it replaces the compiler."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bert.attention import varlen
from bert.attention.eager import Eager
from bert.config import ModelConfig
from bert.model import BertModel
from tests.test_attention import batch_of

CLOSE = {torch.float32: {"atol": 1e-5, "rtol": 1e-5}, torch.float16: {"atol": 0.02, "rtol": 0.01}}


def test_the_kernels_agree_with_the_reference_in_triton_s_interpreter():
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, "-m", "tests.test_one_block"],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split("\n") == ["outputs and gradients", "operators", "model", "recomputed", "compiled", ""]


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5)
    | st.lists(st.integers(1, 125), min_size=1, max_size=2),
    heads=st.integers(1, 3),
    width=st.sampled_from([16, 32, 64]),
    kind=st.sampled_from([torch.float32, torch.float16]),  # the interpreter would multiply the bits of bf16
    contiguous=st.booleans(),
    seed=st.integers(0, 2**31),
)
@example(lengths=[125, 1], heads=1, width=128, kind=torch.float16, contiguous=True, seed=0)
def interpreted_as_by_the_reference(lengths, heads, width, kind, contiguous, seed):
    from bert.attention.one_block import attention_in_one_block, fits

    torch.manual_seed(seed)
    batch = batch_of(lengths)
    assert fits(batch.max_seqlen, width)
    operands = torch.randn(3, sum(lengths), heads, width).transpose(0, 1).to(kind)
    grad_mixed = torch.randn(sum(lengths), width, heads).transpose(1, 2)
    if contiguous:
        operands, grad_mixed = operands.contiguous(), grad_mixed.contiguous()
    found = []
    for attend, of in ((partial(attention_in_one_block, longest=batch.max_seqlen), kind), (None, torch.float32)):
        leaf = operands.to(of, copy=True).requires_grad_()
        mixed = attend(leaf, batch.cu_seqlens) if attend else Eager(batch)(leaf)[0]
        mixed.backward(grad_mixed.to(of))
        found.append([mixed.float(), leaf.grad.float()])
    torch.testing.assert_close(*found, **CLOSE[kind])


def operators_are_as_they_were_declared() -> None:
    from bert.attention.one_block import attention_in_one_block

    batch = batch_of([5, 2])
    operands = torch.randn(7, 3, 2, 16, requires_grad=True)
    torch.library.opcheck(attention_in_one_block, (operands, batch.cu_seqlens, batch.max_seqlen))


def a_model_computes_the_same(recomputed: bool = False, compiled: bool = False) -> None:
    from bert.attention import one_block

    varlen.Varlen.unmet, varlen.one_block_on = lambda *of: [], lambda device: one_block
    found = []
    for backend in ("varlen", "eager"):
        torch.manual_seed(0)
        model = BertModel(ModelConfig(9, 32, 2, 2, 24, 12, attention_probs_dropout_prob=0.0), attention=backend)
        model.encoder.gradient_checkpointing = recomputed
        if compiled:
            for layer in model.encoder.layers:
                layer.compile(backend="aot_eager", fullgraph=True, dynamic=False)
        output = model.eval()(batch_of([4, 1, 6]))
        (output.last_hidden_state.square().sum() + output.pooled.sum()).backward()
        found.append([output.last_hidden_state, output.pooled, *(parameter.grad for parameter in model.parameters())])
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-4)


def test_where_triton_cannot_compile_flash_attention_is_used_and_a_line_says_so(monkeypatch, capsys):
    def cannot(name):
        raise RuntimeError("Failed to find C compiler. Please specify via CC environment variable.\nmore")

    monkeypatch.setattr(varlen, "find_spec", lambda name: True)
    monkeypatch.setattr(varlen, "import_module", cannot)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert varlen.one_block_on.__wrapped__(torch.device("cuda")) is None
    assert capsys.readouterr().err == (
        "training.attention: 'varlen' falls back on flash attention for short sequences; "
        "Triton: Failed to find C compiler. Please specify via CC environment variable.\n"
    )


@pytest.mark.parametrize(("device", "capability"), [("cpu", (9, 0)), ("cuda", (8, 0)), ("cuda", (12, 0))])
def test_elsewhere_than_on_hopper_nothing_is_tried(device, capability, monkeypatch, capsys):
    monkeypatch.setattr(varlen, "import_module", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert varlen.one_block_on.__wrapped__(torch.device(device)) is None
    assert capsys.readouterr().err == ""


if __name__ == "__main__":
    interpreted_as_by_the_reference()
    print("outputs and gradients")
    operators_are_as_they_were_declared()
    print("operators")
    a_model_computes_the_same()
    print("model")
    a_model_computes_the_same(recomputed=True)
    print("recomputed")
    a_model_computes_the_same(compiled=True)
    print("compiled")
