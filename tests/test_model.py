import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bert import products
from bert.config import ModelConfig
from bert.model import BertModel
from bert.packed import PackedBatch, starts_of
from pretrain.objectives.masked_lm import MaskedLM

POSITIONS = 12
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@st.composite
def configs(draw) -> ModelConfig:
    heads = draw(st.integers(1, 4))
    return ModelConfig(
        vocab_size=draw(st.integers(5, 40)),
        hidden_size=heads * draw(st.integers(4, 8)),
        num_hidden_layers=draw(st.integers(1, 3)),
        num_attention_heads=heads,
        intermediate_size=draw(st.integers(1, 24)),
        max_position_embeddings=POSITIONS,
        initializer_range=draw(st.sampled_from([0.02, 0.2])),
        **NO_DROPOUT,
    )


@st.composite
def padded_inputs(draw) -> dict[str, torch.Tensor]:
    """Ids (to be taken modulo the vocabulary), types and a mask of one side's padding, (N, S) each."""
    lengths = torch.tensor(draw(st.lists(st.integers(1, 9), min_size=1, max_size=4)))
    columns = torch.arange(int(lengths.max()) + draw(st.integers(0, 2)))
    left = draw(st.booleans())
    inside = columns.flip(0) < lengths[:, None] if left else columns < lengths[:, None]
    torch.manual_seed(draw(st.integers(0, 2**31)))
    ids = torch.randint(0, 1000, inside.shape)
    return {"input_ids": ids, "attention_mask": inside.long(), "token_type_ids": torch.randint(0, 2, inside.shape)}


def small_config(**changes) -> ModelConfig:
    sizes = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
    rest = {"intermediate_size": 20, "max_position_embeddings": POSITIONS}
    return ModelConfig(**sizes | rest | NO_DROPOUT | changes)


def batch_of(*sequences: list[int], first_position: int = 0) -> PackedBatch:
    """Each sequence's second half is its second segment."""
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    places = torch.cat([torch.arange(n) for n in lengths])
    return PackedBatch(
        token_ids=torch.tensor([number for sequence in sequences for number in sequence]),
        segment_ids=torch.cat([(torch.arange(n) >= n / 2).long() for n in lengths]),
        position_ids=places + first_position,
        cu_seqlens=starts_of(lengths),
        max_seqlen=int(lengths.max()),
    )


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@settings(max_examples=60)
@given(config=configs(), inputs=padded_inputs(), seed=st.integers(0, 1000))
def test_hidden_states_and_attentions_of_every_layer_are_those_of_transformers(
    transformers_twin, unsettled, attention, config, inputs, seed
):
    inputs = inputs | {"input_ids": inputs["input_ids"] % config.vocab_size}
    ours = unsettled(MaskedLM(config, None, 2, attention).double().eval(), seed)
    theirs = transformers_twin(ours).bert
    with torch.no_grad():
        expected = theirs(**inputs, output_hidden_states=True, output_attentions=True)
        found = ours.bert(PackedBatch.from_padded(**inputs))
    inside = inputs["attention_mask"].bool()
    for our_state, their_state in zip(found.hidden_states, expected.hidden_states, strict=True):
        torch.testing.assert_close(our_state, their_state[inside], atol=1e-8, rtol=1e-7)
    if not (inputs["attention_mask"][:, 0] == 0).any():  # transformers pools column 0, which is a pad on the left
        torch.testing.assert_close(found.pooled, expected.pooler_output, atol=1e-8, rtol=1e-7)
    if attention == "eager":
        for ours_of_layer, theirs_of_layer in zip(found.attentions, expected.attentions, strict=True):
            for row, keep in enumerate(inside):
                length = int(keep.sum())
                torch.testing.assert_close(
                    ours_of_layer[row, :, :length, :length], theirs_of_layer[row][:, keep][:, :, keep]
                )


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@given(seed=st.integers(0, 1000), others=st.lists(st.lists(st.integers(0, 29), min_size=1, max_size=9), max_size=3))
@settings(max_examples=20)
def test_a_sequence_is_encoded_the_same_whatever_else_is_in_the_batch(attention, unsettled, seed, others):
    torch.manual_seed(seed)
    model = unsettled(BertModel(small_config(), attention=attention).double().eval(), seed)
    sequence = [2, 7, 7, 3, 9]
    with torch.no_grad():
        alone = model(batch_of(sequence))
        together = model(batch_of(*others, sequence, *others))
    first = sum(map(len, others))
    mine = together.last_hidden_state[first : first + len(sequence)]
    torch.testing.assert_close(mine, alone.last_hidden_state, atol=1e-10, rtol=1e-8)
    torch.testing.assert_close(together.pooled[len(others)], alone.pooled[0], atol=1e-10, rtol=1e-8)


def test_both_backends_give_the_same_outputs_and_gradients(unsettled):
    batch, found = batch_of([1, 5, 9, 4], [2], [8, 3]), {}
    for attention in ("eager", "sdpa"):
        torch.manual_seed(0)
        model = unsettled(BertModel(small_config(), attention=attention))
        output = model(batch)
        (output.last_hidden_state.pow(3).sum() + output.pooled.pow(3).sum()).backward()
        found[attention] = [output.last_hidden_state, output.pooled, *(p.grad for p in model.parameters())]
    torch.testing.assert_close(found["sdpa"], found["eager"], atol=1e-5, rtol=1e-4)


def outputs_and_gradients(model: BertModel, output, last: torch.Tensor) -> list[torch.Tensor]:
    """The pooled outputs, and every gradient of a sum over these and the last hidden states."""
    model.zero_grad()
    (last.pow(3).sum() + output.pooled.pow(3).sum()).backward()
    return [last.detach(), output.pooled.detach(), *(parameter.grad.clone() for parameter in model.parameters())]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("recomputed", [False, True])
@settings(max_examples=25)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.lists(st.integers(0, 1000), max_size=12))
def test_what_is_read_is_the_same_as_if_all_were_and_so_are_the_gradients(attention, recomputed, lengths, places):
    torch.manual_seed(0)
    model = BertModel(small_config(initializer_range=0.2), attention=attention).double()
    model.encoder.gradient_checkpointing = recomputed
    batch = batch_of(*[[(7 * n + length) % 30 for n in range(length)] for length in lengths])
    read = torch.tensor(places, dtype=torch.long) % batch.num_tokens  # in any order, some twice, perhaps none
    whole, part = model(batch), model(batch, read)
    assert [len(state) for state in part.hidden_states] == [batch.num_tokens] * 2 + [len(places)]
    expected = outputs_and_gradients(model, whole, whole.last_hidden_state.index_select(0, read))
    torch.testing.assert_close(
        outputs_and_gradients(model, part, part.last_hidden_state), expected, atol=1e-9, rtol=1e-7
    )
    torch.testing.assert_close(model.pool(batch), whole.pooled)


def test_a_model_without_a_pooler_reads_the_same(unsettled):
    model, batch = unsettled(BertModel(small_config(), pooler=False)), batch_of([1, 5, 9, 4], [2])
    output = model(batch, torch.tensor([4, 1]))
    assert output.pooled is None
    assert model(batch, torch.tensor([], dtype=torch.long)).last_hidden_state.shape == (0, 16)
    torch.testing.assert_close(output.last_hidden_state, model(batch).last_hidden_state[[4, 1]])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("read", [None, [3, 299, 17], list(range(299, 0, -1))])
def test_spare_rows_change_no_output_and_no_gradient(attention, read, unsettled, monkeypatch):
    batch = batch_of(*[[number % 30, 5, 9][: 1 + number % 3] for number in range(150)])  # 300 tokens, made 304
    monkeypatch.setattr(products, "_FP32", products._AVAILABLE)  # whoever made the processor
    model, found = unsettled(BertModel(small_config(), attention=attention)), []
    read = None if read is None else torch.tensor(read)
    for spare in (None, 0):
        if spare is not None:
            monkeypatch.setattr("bert.encoder.spare_rows", lambda *of, **named: 0)
        output = model(batch, read)
        states = [*output.hidden_states, *(p for p in output.attentions if p is not None)]
        found.append(states + outputs_and_gradients(model, output, output.last_hidden_state))
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)


def test_token_segment_and_position_each_matter():
    model = BertModel(small_config()).eval()
    base = batch_of([1, 5, 9, 4])
    with torch.no_grad():
        plain = model(base).last_hidden_state
        moved = model(batch_of([1, 5, 9, 4], first_position=1)).last_hidden_state
        other_token = model(batch_of([1, 6, 9, 4])).last_hidden_state
        one_segment = PackedBatch(base.token_ids, base.segment_ids * 0, base.position_ids, base.cu_seqlens, 4)
        other_segment = model(one_segment).last_hidden_state
    assert all(float((plain - other).abs().max()) > 1e-3 for other in (moved, other_token, other_segment))


def test_the_pooled_vector_is_a_dense_layer_and_tanh_of_the_first_token():
    torch.manual_seed(0)
    model = BertModel(small_config()).eval()
    output = model(batch_of([1, 5, 9], [2, 4]))
    first_tokens = output.last_hidden_state[[0, 3]]
    torch.testing.assert_close(output.pooled, torch.tanh(first_tokens @ model.pooler.weight.T + model.pooler.bias))


def test_a_model_without_a_pooler_has_no_pooler_parameters_and_pools_nothing():
    model = BertModel(small_config(), pooler=False)
    assert [name for name, _ in model.named_parameters() if "pooler" in name] == []
    assert model(batch_of([1, 2])).pooled is None


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_dropout_changes_training_outputs_and_never_evaluation(attention):
    torch.manual_seed(0)
    dropping = {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5}
    model = BertModel(small_config(**dropping), attention=attention)
    batch = batch_of([1, 5, 9, 4])
    first, second = model(batch).last_hidden_state, model(batch).last_hidden_state
    assert not torch.equal(first, second)
    model.eval()
    assert torch.equal(model(batch).last_hidden_state, model(batch).last_hidden_state)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["hidden_dropout_prob", "attention_probs_dropout_prob"])
@pytest.mark.parametrize("read", [None, torch.tensor([2, 1])])
def test_each_dropout_is_applied_by_itself(attention, name, read):
    torch.manual_seed(0)
    model = BertModel(small_config(num_hidden_layers=1, **{name: 0.5}), attention=attention)
    model.embeddings.dropout.p = 0.0  # else everything behind it differs anyway
    batch = batch_of([1, 5, 9, 4])
    assert not torch.equal(model(batch, read).last_hidden_state, model(batch, read).last_hidden_state)


def test_tokens_that_nobody_reads_ask_nothing_in_the_last_layer():
    model, asked = BertModel(small_config(num_hidden_layers=2)), []
    batch = batch_of([1, 5, 9, 4], [2, 3])
    attend = model.encoder.backend(batch)
    model.encoder.backend = lambda _: attend
    attend._mixed = lambda of, query, key, value, dropout: asked.append((len(query), len(key))) or query
    model(batch, torch.tensor([1]))
    assert asked == [(6, 6), (3, 6)]  # the token that is read, and the first of each sequence


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_layers_computed_again_change_no_bit_of_loss_and_gradients_though_they_drop(attention):
    batch, found = batch_of([1, 5, 9, 4], [2], [8, 3, 7, 7, 1]), []
    for again in (False, True):
        torch.manual_seed(0)
        dropping = {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.3}
        model = BertModel(small_config(num_hidden_layers=3, **dropping), True, attention)
        model.encoder.gradient_checkpointing = again
        output = model(batch)
        loss = output.last_hidden_state.pow(3).sum() + output.pooled.pow(3).sum()
        loss.backward()
        found.append([loss, torch.rand(1), *(p.grad for p in model.parameters())])  # what is drawn next is the same too
    assert all(torch.equal(kept, computed) for kept, computed in zip(*found, strict=True))


@pytest.mark.parametrize(("again", "forwards"), [(False, 1), (True, 2)])
def test_a_layer_is_computed_again_only_where_there_is_a_backward_pass(again, forwards):
    model, calls = BertModel(small_config()), []
    model.encoder.gradient_checkpointing = again
    for number, layer in enumerate(model.encoder.layers):
        layer.feed_forward.register_forward_hook(lambda *_, n=number: calls.append(n))
    model(batch_of([1, 5, 9, 4])).last_hidden_state.sum().backward()
    assert sorted(calls) == sorted([0, 1] * forwards)
    calls.clear()
    with torch.no_grad():
        model(batch_of([1, 5, 9, 4]))
    assert calls == [0, 1]


def test_initial_weights_are_normal_of_the_asked_width_with_zero_biases_and_unit_norms():
    torch.manual_seed(0)
    objective = MaskedLM(small_config(vocab_size=500, hidden_size=128, intermediate_size=256), None, 2)
    for name, parameter in objective.named_parameters():
        if parameter.ndim == 2:
            # The mean of n draws has deviation 0.02 / sqrt(n), their standard deviation 0.02 / sqrt(2 n); 4.5 of each.
            n = parameter.numel()
            assert abs(float(parameter.detach().mean())) < 4.5 * 0.02 / n**0.5, name
            assert abs(float(parameter.detach().std()) - 0.02) < 4.5 * 0.02 / (2 * n) ** 0.5, name
        elif name.endswith("norm.weight"):
            assert torch.equal(parameter, torch.ones_like(parameter)), name
        else:
            assert name.endswith("bias") and not parameter.any(), name


def test_a_seed_decides_the_initial_weights():
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in BertModel(small_config()).parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_the_number_of_parameters_of_bert_base_is_the_published_one():
    # Devlin et al. 2019 round to 110 M; google-bert/bert-base-uncased has 109,482,240 with its pooler.
    with torch.device("meta"):
        model = BertModel(ModelConfig(30522, 768, 12, 12, 3072))
    assert sum(parameter.numel() for parameter in model.parameters()) == 109_482_240


def test_frozen_parts_know_no_gradient_and_no_dropout():
    model = BertModel(small_config(num_hidden_layers=3, hidden_dropout_prob=0.5))
    model.freeze(2)
    model.train()
    runs = [model(batch_of([1, 5, 9, 4])).hidden_states for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*([*states[:3]] for states in runs), strict=True))
    assert not torch.equal(runs[0][3], runs[1][3])
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {
        n
        for n, _ in model.named_parameters()
        if n.startswith(("embeddings.", "encoder.layers.0.", "encoder.layers.1."))
    }
    assert not runs[0][2].requires_grad and runs[0][3].requires_grad


def test_a_parameters_depth_counts_from_the_top():
    model = BertModel(small_config(num_hidden_layers=12))
    named = ("pooler.weight", "encoder.layers.11.attention.output.bias", "encoder.layers.2.attention_norm.weight")
    assert [model.depth(f"bert.{name}") for name in (*named, "embeddings.token.weight")] == [1, 1, 10, 13]
    assert model.depth("head.weight") == 0
