"""Compiled layers against plain ones: the same losses, gradients and names, and one graph for all of them."""

import functools
import os
import shutil

import pytest
import torch
from torch import nn

from bert.attention.varlen import Varlen
from bert.config import ModelConfig
from bert.dropout import Dropout
from bert.packed import PackedBatch
from pretrain.objectives.masked_lm import MaskedLM
from pretrain.packing import Shape, fill
from tests import varlen_on_cpu

pytestmark = pytest.mark.filterwarnings("default")  # the compiler reads deprecated attributes of its own

SHAPE = Shape(tokens=20, sequences=6, masked=6, longest=8)
LENGTHS = [[4, 1, 6, 2], [8, 3], [5, 5, 2, 1, 3]]


@pytest.fixture(autouse=True)
def nothing_compiled_before():
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch.compiler.reset()


@pytest.fixture
def without_c(monkeypatch):
    """Graphs are captured as ever, and then run by PyTorch: it takes no C++ compiler, nor a compiler's time."""
    monkeypatch.setattr(nn.Module, "compile", functools.partialmethod(nn.Module.compile, backend="aot_eager"))


def batch_of(lengths: list[int]) -> PackedBatch:
    tokens = torch.arange(sum(lengths))
    ids = [[place % 9 for place in range(length)] for length in lengths]
    targets = {"masked_index": tokens[1::3], "masked_labels": tokens[1::3] % 7}
    targets["sentence_labels"] = torch.arange(len(lengths)) % 2
    return fill(PackedBatch.from_sequences(ids, [[n % 2 for n in one] for one in ids], 8, **targets), SHAPE)


def objective_of(attention: str, dropout: float = 0.0) -> MaskedLM:
    torch.manual_seed(0)
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": 0.0}
    return MaskedLM(ModelConfig(9, 16, 3, 2, 24, 8, **rates), None, 2, attention)


def losses_and_gradients(objective: MaskedLM, batch: PackedBatch) -> list[torch.Tensor]:
    """The mean losses, and every parameter's gradient."""
    objective.zero_grad()
    sums, counts = objective(batch), objective.counts(batch)
    losses = [sums[name] / counts[name] for name in objective.weights]
    sum(losses).backward()
    return [*losses, *(parameter.grad.clone() for parameter in objective.parameters())]


def compare(attention: str) -> None:
    plain, compiled = objective_of(attention), objective_of(attention)
    compiled.compile_parts()
    for lengths in LENGTHS:
        found = [losses_and_gradients(objective, batch_of(lengths)) for objective in (compiled, plain)]
        torch.testing.assert_close(*found, atol=1e-5, rtol=1e-5)


def graphs() -> int:
    """How many were captured."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def with_compiler(test):
    """A test that has PyTorch compile to C++."""
    reason = "takes up to two minutes: TEST_COMPILER=1 runs it"
    test = pytest.mark.skipif("TEST_COMPILER" not in os.environ, reason=reason)(test)
    return pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++")), reason="needs a C++ compiler")(test)


@with_compiler
def test_compiled_layers_give_the_same_losses_and_gradients():
    compare("sdpa")


@with_compiler
def test_compiled_dropout_drops_the_same_backwards_and_in_each_place_something_else():
    drop = Dropout(0.3)
    compiled = torch.compile(lambda x: (drop(x), drop(x)), fullgraph=True, dynamic=False)
    leaf, kept = torch.randn(50, 40, requires_grad=True), []
    outputs = compiled(leaf)
    for out in outputs:
        (gradient,) = torch.autograd.grad(out.sum(), leaf, retain_graph=True)
        kept.append(out != 0)
        torch.testing.assert_close(gradient, kept[-1] / 0.7)
    assert 0.37 < (kept[0] != kept[1]).double().mean() < 0.47  # of independent ones 0.42, give or take 0.01


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_all_batches_share_one_graph_for_the_layers_and_one_each_for_embeddings_last_layer_and_loss(
    attention, without_c
):
    compare(attention)
    assert graphs() == 4


@pytest.mark.parametrize("recomputed", [False, True])
def test_varlen_has_its_place_in_the_graph(recomputed, without_c, monkeypatch):
    varlen_on_cpu.register()
    monkeypatch.setattr(Varlen, "unmet", lambda *of: [])
    plain, compiled = objective_of("varlen"), objective_of("varlen")
    compiled.compile_parts()
    for objective in (plain, compiled):
        objective.bert.encoder.gradient_checkpointing = recomputed
    for lengths in LENGTHS:
        with torch.autocast("cpu", torch.bfloat16):  # the kernel takes nothing else
            found = [losses_and_gradients(objective, batch_of(lengths)) for objective in (compiled, plain)]
        torch.testing.assert_close(*found, atol=2e-2, rtol=2e-2)
    assert graphs() == 4


def test_judging_is_not_compiled_whatever_its_shapes(without_c):
    plain, compiled = objective_of("sdpa"), objective_of("sdpa")
    compiled.compile_parts()
    for lengths in ([3, 4], [2], [5, 5, 5]):
        ids = [[1] * length for length in lengths]
        batch = PackedBatch.from_sequences(ids, ids)
        with torch.no_grad():
            found = [objective.eval().bert(batch).pooled for objective in (compiled, plain)]
        assert torch.equal(*found)
    assert graphs() == 0


def test_compiled_parameters_keep_their_names(without_c):
    plain, compiled = objective_of("sdpa"), objective_of("sdpa")
    compiled.compile_parts()
    losses_and_gradients(compiled, batch_of(LENGTHS[0]))
    names = [[*one.state_dict(), *dict(one.named_modules())] for one in (plain, compiled)]
    assert names[0] == names[1]


def test_dropout_in_compiled_layers_is_that_of_the_seed(without_c):
    objective = objective_of("sdpa", dropout=0.5)
    objective.compile_parts()
    batch, losses = batch_of(LENGTHS[0]), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(float(losses_and_gradients(objective, batch)[0].detach()))
    assert losses[0] == losses[1] != losses[2]
