"""Attention in one block: on a CPU by Triton's interpreter, in a process of its own, where it replaces the compiler."""

import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bert.attention import varlen
from bert.attention.eager import Eager
from bert.config import ModelConfig
from bert.model import BertModel
from tests.test_attention import batch_of


def test_the_kernels_agree_with_the_reference_in_triton_s_interpreter():
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "tests.test_one_block"]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "outputs and gradients\nmodel\nmodel, compiled\n"


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5)
    | st.lists(st.integers(1, 125), min_size=1, max_size=2),
    heads=st.integers(1, 3),
    width=st.sampled_from([16, 32, 64]),
    kind=st.sampled_from([torch.float32, torch.float16]),  # the interpreter multiplies no bf16
    seed=st.integers(0, 2**31),
)
def interpreted_as_by_the_reference(lengths, heads, width, kind, seed):
    from bert.attention.one_block import attention_in_one_block, fits

    torch.manual_seed(seed)
    batch = batch_of(lengths)
    assert fits(batch.max_seqlen, width)
    operands, found = torch.randn(sum(lengths), 3, heads, width).to(kind), []
    grad_mixed = torch.randn(sum(lengths), width, heads).transpose(1, 2)  # as a gradient may come, not contiguous
    for attend, of in ((partial(attention_in_one_block, longest=batch.max_seqlen), kind), (None, torch.float32)):
        leaf = operands.detach().to(of, copy=True).requires_grad_()
        mixed = attend(leaf, batch.cu_seqlens) if attend else Eager(batch)(leaf)[0]
        mixed.backward(grad_mixed.to(of))
        found.append([mixed.float(), leaf.grad.float()])
    exact = {"atol": 1e-5, "rtol": 1e-5} if kind is torch.float32 else {"atol": 0.02, "rtol": 0.01}
    torch.testing.assert_close(*found, **exact)


def a_model_computes_the_same(compiled: bool) -> None:
    from bert.attention import one_block

    varlen.Varlen.unmet, varlen._one_block = lambda *of: [], lambda device: one_block
    found = []
    for backend in ("varlen", "eager"):
        torch.manual_seed(0)
        model = BertModel(ModelConfig(9, 32, 2, 2, 24, 12, attention_probs_dropout_prob=0.0), attention=backend)
        if compiled:
            for layer in model.encoder.layers:
                layer.compile(backend="aot_eager", fullgraph=True, dynamic=False)
        output = model.eval()(batch_of([4, 1, 6]))
        (output.last_hidden_state.square().sum() + output.pooled.sum()).backward()
        found.append([output.last_hidden_state, output.pooled, *(parameter.grad for parameter in model.parameters())])
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-4)


if __name__ == "__main__":
    interpreted_as_by_the_reference()
    print("outputs and gradients")
    a_model_computes_the_same(compiled=False)
    print("model")
    a_model_computes_the_same(compiled=True)
    print("model, compiled")
