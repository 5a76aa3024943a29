import contextlib
import dataclasses
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bert.attention import BACKENDS
from bert.attention.eager import Eager
from bert.attention.rectangle import alike_in_length, lengths_at_hand, one_for_all
from bert.attention.varlen import Varlen
from bert.config import ModelConfig
from bert.errors import UserError
from bert.model import BertModel
from bert.packed import PackedBatch, starts_of
from bert.training.config import TrainingConfig
from bert.training.device import refuse_unfit_attention

ON_CPU = [name for name in BACKENDS if name != "varlen"]  # varlen needs a GPU


def batch_of(lengths: list[int]) -> PackedBatch:
    ids = torch.zeros(sum(lengths), dtype=torch.long)
    return PackedBatch(ids, ids, ids, starts_of(torch.tensor(lengths)), max(lengths) + 3)


def random_inputs(tokens: int, heads: int, width: int, seed: int, dtype=torch.float32) -> list[torch.Tensor]:
    torch.manual_seed(seed)
    return [torch.randn(tokens, heads, width, dtype=dtype, requires_grad=True) for _ in range(3)]


def attend(backend: str, lengths: list[int], query, key, value, dropout: float = 0.0):
    return BACKENDS[backend](batch_of(lengths))(torch.stack([query, key, value], 1), dropout)


@pytest.mark.parametrize("backend", ON_CPU)
def test_attention_weighs_values_by_the_softmax_of_the_scaled_products(backend):
    # One head of width 4. q.k / sqrt(4) is 0 for the first key and log 3 for the second: weights 1/4 and 3/4.
    query = torch.ones(2, 1, 4)
    key = torch.tensor([[0.0] * 4, [math.log(3) / 2] * 4]).view(2, 1, 4)
    value = torch.tensor([[4.0, 0, 8, 0], [0, 4, 8, 4]]).view(2, 1, 4)
    mixed, _ = attend(backend, [2], query, key, value)
    torch.testing.assert_close(mixed, torch.tensor([1.0, 3, 8, 3]).expand(2, 1, 4))


@pytest.mark.parametrize("backend", ON_CPU)
def test_a_token_sees_its_own_sequence_alone(backend):
    query, key, value = random_inputs(6, 2, 4, seed=0)
    together, _ = attend(backend, [1, 3, 2], query, key, value)
    alone = [attend(backend, [n], *(x[a : a + n] for x in (query, key, value)))[0] for a, n in ((0, 1), (1, 3), (4, 2))]
    torch.testing.assert_close(together, torch.cat(alone))
    torch.testing.assert_close(together[0], value[0])  # a sequence of one token mixes nothing else in


@pytest.mark.parametrize("backend", ON_CPU)
def test_the_gradient_is_that_of_finite_differences(backend):
    inputs = random_inputs(8, 2, 3, seed=1, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *x: attend(backend, [6, 2], *x)[0], inputs)


LENGTHS = (
    st.lists(st.integers(1, 6), min_size=1, max_size=4)
    | st.lists(st.integers(1, 9), min_size=3, max_size=9).map(lambda some: sorted(some, reverse=True))
    | st.integers(2, 6).map(lambda length: [length] * 8 + [length - 1, 1])
)


@settings(max_examples=40)
@given(
    lengths=LENGTHS,
    heads=st.integers(1, 3),
    width=st.integers(1, 5),
    seed=st.integers(0, 2**31),
)
def test_every_backend_agrees_with_the_reference_in_outputs_and_gradients(lengths, heads, width, seed):
    found = {}
    for backend in ON_CPU:
        inputs = random_inputs(sum(lengths), heads, width, seed)
        mixed, _ = attend(backend, lengths, *inputs)
        mixed.square().sum().backward()
        found[backend] = [mixed, *(x.grad for x in inputs)]
    for backend in ON_CPU:
        torch.testing.assert_close(found[backend], found["eager"], atol=1e-5, rtol=1e-4)


@settings(max_examples=40)
@given(lengths=LENGTHS, places=st.lists(st.integers(0, 1000), max_size=12), spare=st.sampled_from([0, 3]))
def test_some_queries_alone_give_the_same_rows_and_gradients_as_if_all_had_been_computed(lengths, places, spare):
    tokens, places = sum(lengths), torch.tensor(places, dtype=torch.long)
    places = places % tokens  # in any order, some twice, perhaps none; often none of a whole sequence
    query, key, value = inputs = random_inputs(tokens, 2, 3, seed=0)
    whole, _ = attend("eager", lengths, *inputs)
    backend = BACKENDS["sdpa"](batch_of(lengths))
    assert backend.answers_some
    asking = torch.cat([query.index_select(0, places), torch.zeros(spare, 2, 3)])
    some = backend.some(places, asking, *(torch.cat([x, torch.zeros(spare, 2, 3)]) for x in (key, value)))
    expected = torch.cat([whole.index_select(0, places), torch.zeros(spare, 2, 3)])
    torch.testing.assert_close(some, expected)
    found = [torch.autograd.grad(mixed.pow(3).sum(), inputs) for mixed in (some, expected)]
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-4)


def test_where_lengths_are_not_to_be_read_all_queries_are_computed():
    fixed = dataclasses.replace(batch_of([3, 2]), real=(5, 2))
    assert BACKENDS["sdpa"](batch_of([3, 2])).answers_some
    assert not BACKENDS["sdpa"](fixed).answers_some
    assert not BACKENDS["eager"](batch_of([3, 2])).answers_some
    with pytest.raises(NotImplementedError, match="Eager answers all queries"):
        BACKENDS["eager"](batch_of([3, 2])).some(torch.tensor([0]), *random_inputs(5, 1, 2, seed=0))
    assert not lengths_at_hand(batch_of([3, 2]).to("meta"))  # as on a GPU


@pytest.mark.parametrize("backend", ON_CPU)
@pytest.mark.parametrize("lengths", [[4], [3, 5], [5, 3, 1]])
def test_rows_behind_the_last_sequence_come_back_as_0_and_change_nothing(backend, lengths):
    tokens = sum(lengths)
    given_ = random_inputs(tokens + 3, 2, 4, seed=1)
    mixed, _ = attend(backend, lengths, *given_)
    alone, _ = attend(backend, lengths, *(x[:tokens] for x in given_))
    torch.testing.assert_close(mixed, torch.cat([alone, torch.zeros(3, 2, 4)]))
    for of_one in torch.autograd.grad(mixed.sum() + mixed.pow(2).sum(), given_):
        assert of_one[:tokens].any() and not of_one[tokens:].any()


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_probabilities_sum_to_one_inside_a_sequence_and_are_zero_outside(lengths):
    _, probabilities = attend("eager", lengths, *random_inputs(sum(lengths), 2, 3, seed=2))
    for row, length in enumerate(lengths):
        torch.testing.assert_close(probabilities[row, :, :length, :length].sum(-1), torch.ones(2, length))
        assert not probabilities[row, :, length:].any() and not probabilities[row, :, :, length:].any()


def test_only_the_reference_keeps_probabilities():
    inputs = random_inputs(2, 1, 2, seed=0)
    assert [backend for backend in ON_CPU if attend(backend, [2], *inputs)[1] is not None] == ["eager"]


@pytest.mark.parametrize("backend", ON_CPU)
def test_dropout_drops_probabilities_and_makes_up_for_them(backend):
    # 40 equal keys: each weight is 1/40, and with p = 0.25 a kept one is 1/30. With values of 1, a token's mix is the
    # number of kept keys / 30, whose mean is 1 and whose standard deviation is sqrt(40 * 0.25 * 0.75) / 30 = 0.0913.
    torch.manual_seed(0)
    zeros, ones = torch.zeros(4000, 1, 1), torch.ones(4000, 1, 1)
    mixed, _ = attend(backend, [40] * 100, zeros, zeros, ones, dropout=0.25)
    kept = mixed * 30
    torch.testing.assert_close(kept, kept.round(), atol=1e-3, rtol=0)
    assert abs(float(mixed.mean()) - 1) < 4 * 0.0913 / math.sqrt(4000)
    assert abs(float(mixed.std()) - 0.0913) < 0.005


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_what_is_put_into_the_rectangle_comes_out_again_and_so_does_its_gradient(lengths):
    rectangle = one_for_all(batch_of(lengths))
    x = (torch.arange(6.0 * sum(lengths)).view(-1, 2, 3) + 1).requires_grad_()
    padded = rectangle.pad(x)
    assert padded.shape == (len(lengths), 2, max(lengths), 3)
    for row, (own, length) in enumerate(zip(x.split(lengths), lengths, strict=True)):
        assert torch.equal(padded[row, :, :length], own.transpose(0, 1))
    again = rectangle.unpad(padded)
    assert torch.equal(again, x)
    weights = torch.rand(x.shape)
    (again * weights).sum().backward()
    assert torch.equal(x.grad, weights)


def test_no_gradient_leaves_for_what_stands_outside_a_sequence():
    whole = one_for_all(batch_of([2, 1]))
    padded = torch.rand(2, 1, 2, 3, requires_grad=True)  # the second row's second place is outside
    whole.unpad(padded).sum().backward()
    assert padded.grad[:, 0, :, 0].tolist() == [[1, 1], [1, 0]]


def test_sequences_alike_in_length_share_a_rectangle_where_the_longest_come_first():
    def shapes(lengths):
        return [(tuple(one.inside.shape), one.tokens, one.full) for one in alike_in_length(batch_of(lengths))]

    # Half of 8 * 8 pairs may be padding (or 30, as tests/conftest.py has it). 6 beside 8 makes 8 * 8 - 6 * 6 = 28, and
    # 5 would make 67; then 2 beside 5 makes 21, and 1 would make 45. Rectangles without padding are known for what
    # they are.
    assert shapes([8, 8, 6, 5, 5, 2, 1]) == [((3, 8), 22, False), ((3, 5), 12, False), ((1, 1), 1, True)]
    assert shapes([8, 8, 5, 5]) == [((2, 8), 16, True), ((2, 5), 10, True)]
    assert shapes([8, 8, 8]) == [((3, 8), 24, True)]
    assert shapes([2, 8, 1]) == [((3, 8), 11, False)]  # another order is left alone
    # Eight of one length are many: what is a little shorter does not get them moved and masked.
    assert shapes([8] * 7 + [7]) == [((8, 8), 63, False)]
    assert shapes([8] * 9 + [7, 6]) == [((9, 8), 72, True), ((2, 7), 13, False)]


# Flash attention without padding, which needs a GPU: on a CPU with a stand-in for PyTorch's function, there in earnest.


def stand_in_for_varlen_attn(query, key, value, cu_seq_q, cu_seq_k, max_q: int, max_k: int) -> torch.Tensor:
    """What `torch.nn.attention.varlen.varlen_attn` is documented to give, for what it is documented to take."""
    assert query.shape == key.shape == value.shape and query.ndim == 3
    assert query.stride(-1) == key.stride(-1) == value.stride(-1) == 1
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32 and cu_seq_q.is_contiguous()
    assert cu_seq_q.device == cu_seq_k.device == query.device
    assert (int(cu_seq_q[0]), int(cu_seq_q[-1])) == (0, len(query)) and torch.equal(cu_seq_q, cu_seq_k)
    assert type(max_q) is type(max_k) is int and max_q == max_k >= int(cu_seq_q.diff().max())
    mixed = []
    for begin, end in itertools.pairwise(cu_seq_q.tolist()):
        q, k, v = (x[begin:end].transpose(0, 1) for x in (query, key, value))  # (A, S, D) each
        mixed.append(((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v).transpose(0, 1))
    return torch.cat(mixed)


@pytest.fixture
def varlen_on_cpu(monkeypatch):
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", stand_in_for_varlen_attn)
    monkeypatch.setattr(Varlen, "unmet", lambda *of: [])


@pytest.mark.parametrize("lengths", [[5], [1, 3, 2], [7, 1, 1, 8]])
def test_varlen_gives_pytorch_s_function_what_it_takes_and_agrees_with_the_reference(lengths, varlen_on_cpu):
    found = {}
    for backend in ("varlen", "eager"):
        # As the encoder has them: three parts of one matrix product.
        torch.manual_seed(3)
        projected = torch.randn(sum(lengths), 3, 2, 8, requires_grad=True)
        mixed, _ = attend(backend, lengths, *projected.unbind(1))
        mixed.square().sum().backward()
        found[backend] = [mixed, projected.grad]
    torch.testing.assert_close(found["varlen"], found["eager"], atol=1e-5, rtol=1e-4)


def test_a_model_with_varlen_computes_what_the_reference_does(varlen_on_cpu):
    outputs = []
    for backend in ("varlen", "eager"):
        torch.manual_seed(0)
        model = BertModel(ModelConfig(9, 16, 2, 2, 24, 12, attention_probs_dropout_prob=0.0), attention=backend).eval()
        output = model(batch_of([4, 1, 6]))
        (output.last_hidden_state.square().sum() + output.pooled.sum()).backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        outputs.append([output.last_hidden_state, output.pooled, *gradients])
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-4)


def test_varlen_elsewhere_is_refused_and_never_replaced():
    with pytest.raises(UserError, match=r"^training\.attention: 'varlen' needs a CUDA device and .*; this is cpu\.$"):
        attend("varlen", [2], *random_inputs(2, 1, 8, seed=0))


def test_varlen_with_dropout_is_refused(varlen_on_cpu):
    with pytest.raises(UserError, match=r"^training\.attention: 'varlen' needs attention_probs_dropout_prob=0"):
        attend("varlen", [2], *random_inputs(2, 1, 8, seed=0), dropout=0.1)


@pytest.mark.parametrize(
    ("device", "precision", "changes", "said"),
    [
        ("cuda", "auto", {}, []),
        ("cuda", "bf16", {}, []),
        ("cpu", "auto", {}, ["needs a CUDA device and attention_probs_dropout_prob=0; this is cpu with 0.0."]),
        (
            "cpu",
            "auto",
            {"attention_probs_dropout_prob": 0.1},
            ["needs a CUDA device and attention_probs_dropout_prob=0; this is cpu with 0.1."],
        ),
        (
            "cuda",
            "fp32",
            {"attention_probs_dropout_prob": 0.1, "hidden_size": 24},
            [
                "needs a CUDA device and attention_probs_dropout_prob=0; this is cuda with 0.1.",
                "computes in bf16; this is training.precision=fp32.",
                "needs heads of a width that is a multiple of 8, and at most 256; this is 12.",
            ],
        ),
    ],
)
def test_what_varlen_would_not_find_is_said_before_a_run_begins(device, precision, changes, said):
    config = TrainingConfig(attention="varlen", precision=precision)
    sizes = {"vocab_size": 9, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = ModelConfig(**sizes | {"intermediate_size": 8, "attention_probs_dropout_prob": 0.0} | changes)
    with pytest.raises(UserError) if said else contextlib.nullcontext() as raised:
        refuse_unfit_attention(config, torch.device(device), model)
    assert said == [] or list(raised.value.messages) == [f"training.attention: 'varlen' {fault}" for fault in said]


@pytest.mark.parametrize("lengths", [[5, 5, 5], [9, 4, 4, 1]])
def test_on_a_cpu_sdpa_mixes_bf16_in_fp32_and_rounds_once(lengths):
    query, key, value = (x.detach().bfloat16() for x in random_inputs(sum(lengths), 2, 4, seed=2))
    leaves = [x.clone().requires_grad_() for x in (query, key, value)]
    exact = [x.float().requires_grad_() for x in (query, key, value)]
    with torch.autocast("cpu", torch.bfloat16):
        mixed, _ = attend("sdpa", lengths, *leaves)
    expected, _ = attend("sdpa", lengths, *exact)
    assert torch.equal(mixed, expected.bfloat16())
    mixed.float().sum().backward()
    expected.sum().backward()
    for leaf, right in zip(leaves, exact, strict=True):
        assert torch.equal(leaf.grad, right.grad.bfloat16())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("width", [16, 24, 64, 128])
@pytest.mark.parametrize("lengths", [[64], [1, 125, 37, 2, 90], [125] * 32, [300, 5]])
@pytest.mark.parametrize("in_one_block", [True, False])
def test_on_a_gpu_varlen_agrees_with_the_reference_in_fp32(lengths, width, kind, in_one_block):
    batch, found = batch_of(lengths).to("cuda"), []
    varlen = Varlen(batch)
    if in_one_block:
        if varlen.one_block is None or not varlen.one_block.fits(batch.max_seqlen, width):
            pytest.skip("these are not attended to in one block")
        varlen.varlen_attn = None
    else:
        varlen.one_block = None
    torch.manual_seed(0)
    projected = torch.randn(sum(lengths), 3, 4, width, device="cuda")
    for attend, dtype in ((varlen, kind), (Eager(batch), torch.float32)):
        leaf = projected.clone().requires_grad_()
        mixed, _ = attend(leaf.to(dtype))
        mixed.float().square().sum().backward()
        found.append([mixed.float(), leaf.grad])
    # bf16 has 8 bits: values of about 1 are rounded by up to 0.004, and a few such roundings add up.
    torch.testing.assert_close(*found, atol=0.06, rtol=0.03)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_varlen_refuses_fp32_which_it_would_round():
    with pytest.raises(UserError, match=r"computes in fp16 or bf16, as under autocast; these are torch\.float32"):
        Varlen(batch_of([3]).to("cuda"))(torch.zeros(3, 3, 1, 16, device="cuda"))
