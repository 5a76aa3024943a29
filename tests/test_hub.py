import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from bert import hub
from bert.config import ModelConfig
from bert.encoder import Encoder
from bert.errors import UserError
from bert.hub import names
from bert.hub.files import StoredTensor
from bert.model import BertModel
from bert.packed import PackedBatch
from pretrain.objectives.masked_lm import MaskedLM

LABELS = {"BertForPreTraining": 2, "BertForMaskedLM": 0}


@pytest.fixture
def objective(small_tokenizer, unsettled):
    """Builds a small objective with random weights: with sentence labels or without."""

    def build(sentence_labels: int, seed: int = 0, **sizes) -> MaskedLM:
        torch.manual_seed(seed)
        shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 20}
        shape |= {"vocab_size": small_tokenizer.vocab_size, "max_position_embeddings": 24, "pad_token_id": 0}
        return unsettled(MaskedLM(ModelConfig(**shape | sizes), small_tokenizer, sentence_labels), seed).eval()

    return build


@pytest.fixture
def exported(objective, tmp_path) -> Path:
    objective(2).export(tmp_path)
    return tmp_path


def rewrite(folder: Path, change) -> None:
    """Change the tensors of model.safetensors."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def fault_of(action) -> str:
    with pytest.raises(UserError) as raised:
        action()
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("architecture", LABELS)
@pytest.mark.parametrize("auto", ["AutoModelForPreTraining", "AutoModelForMaskedLM"])
def test_transformers_opens_an_export_with_no_key_missing_and_none_left_over(architecture, auto, objective, tmp_path):
    import transformers

    ours = objective(LABELS[architecture])
    ours.export(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [architecture]
    theirs, info = getattr(transformers, auto).from_pretrained(tmp_path, output_loading_info=True)
    keys = {name: sorted(found) for name, found in info.items() if found}
    if auto == "AutoModelForPreTraining" and architecture == "BertForMaskedLM":  # not its class: a head is new
        keys.pop("missing_keys")
    if auto == "AutoModelForMaskedLM" and architecture == "BertForPreTraining":  # not its class: a head is not used
        assert all("pooler" in name or "seq_relationship" in name for name in keys.pop("unexpected_keys"))
    assert keys == {}
    inputs = {"input_ids": torch.tensor([[2, 9, 11, 7, 3], [2, 8, 3, 0, 0]])}
    inputs["attention_mask"] = (inputs["input_ids"] > 0).long()
    with torch.no_grad():
        expected = theirs.eval()(**inputs)
        hidden = ours.bert(PackedBatch.from_padded(**inputs)).last_hidden_state
        logits = ours.masked_lm_head(hidden, ours.bert.embeddings.token.weight)
    expected_logits = expected.logits if "logits" in expected else expected.prediction_logits
    torch.testing.assert_close(logits, expected_logits[inputs["attention_mask"].bool()], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", LABELS)
def test_the_class_named_in_the_config_has_a_place_for_every_key_and_needs_no_other(architecture, objective, tmp_path):
    import transformers

    objective(LABELS[architecture]).export(tmp_path)
    _, info = getattr(transformers, architecture).from_pretrained(tmp_path, output_loading_info=True)
    assert {name: found for name, found in info.items() if found} == {}


def test_transformers_reads_text_as_the_same_ids(exported, small_tokenizer):
    from transformers import AutoTokenizer

    text = "the cat sat on [MASK] mats, didn't it?"
    encoded = AutoTokenizer.from_pretrained(exported)(text)
    assert encoded["input_ids"] == small_tokenizer.encode(text)
    assert list(encoded) == ["input_ids", "token_type_ids", "attention_mask"]


@pytest.mark.parametrize("sentence_labels", [0, 2])
def test_export_and_restore_give_every_bit_back(sentence_labels, objective, tmp_path):
    before, after = objective(sentence_labels), objective(sentence_labels, seed=1)
    before.export(tmp_path)
    after.restore(tmp_path)
    assert all(torch.equal(tensor, after.state_dict()[name]) for name, tensor in before.state_dict().items())
    (tmp_path / "again").mkdir()
    after.export(tmp_path / "again")
    for name in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_what_transformers_saves_is_taken_up_bit_by_bit(objective, transformers_twin, tmp_path, capfd):
    ours = objective(2)
    transformers_twin(ours).save_pretrained(tmp_path)
    again = objective(2, seed=1)
    assert hub.load_weights(tmp_path, again).unused == []
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in ours.state_dict().items())
    config, described = hub.load_config(tmp_path)
    assert (config, described["architectures"]) == (ours.bert.config, ["BertForPreTraining"])


def test_the_tied_matrix_is_saved_once_and_the_fused_one_in_three(exported):
    names = set(load_file(exported / "model.safetensors"))
    assert not any("decoder" in name or "query_key_value" in name for name in names)
    assert "bert.embeddings.word_embeddings.weight" in names and "cls.predictions.bias" in names
    parts = {f"bert.encoder.layer.1.attention.self.{part}.bias" for part in ("query", "key", "value")}
    assert parts <= names


def test_the_fused_matrix_is_query_key_and_value_in_this_order():
    ours = {"bert.encoder.layers.0.attention.query_key_value.weight": torch.arange(12.0).view(6, 2)}
    theirs = hub.to_transformers(ours)
    prefix = "bert.encoder.layer.0.attention.self"
    assert {name: tensor.tolist() for name, tensor in theirs.items()} == {
        f"{prefix}.query.weight": [[0, 1], [2, 3]],
        f"{prefix}.key.weight": [[4, 5], [6, 7]],
        f"{prefix}.value.weight": [[8, 9], [10, 11]],
    }
    assert [names.our_name(name) for name in theirs] == list(ours) * 3
    assert list(names.pieces_of(*ours.popitem())) == list(theirs)


@pytest.mark.parametrize(
    "prefix", ["generator.encoder.layers", "generator.encoder.layer", "generator.bert.encoder.layer"]
)
def test_what_is_not_the_encoder_keeps_its_names_both_ways(prefix):
    ours = {
        f"{prefix}.0.attention.query_key_value.weight": torch.zeros(6, 2),
        f"{prefix}.0.attention.self.query.weight": torch.zeros(2, 2),
        f"{prefix}.0.attention.self.query_key_value.bias": torch.zeros(6),
    }
    assert list(hub.to_transformers(ours)) == [names.our_name(name) for name in ours] == list(ours)


def test_layers_keep_their_numbers_beyond_the_ninth():
    ours = {f"bert.encoder.layers.{layer}.attention_norm.bias": torch.tensor([layer]) for layer in (1, 10, 11)}
    theirs = hub.to_transformers(ours)
    assert set(theirs) == {f"bert.encoder.layer.{layer}.attention.output.LayerNorm.bias" for layer in (1, 10, 11)}
    assert [names.our_name(name) for name in theirs] == list(ours)


def test_the_config_holds_the_sizes_and_is_read_back(exported, objective):
    config, described = hub.load_config(exported)
    assert config == objective(2).bert.config
    expected = {"model_type": "bert", "hidden_act": "gelu", "tie_word_embeddings": True, "pad_token_id": 0}
    assert {name: described[name] for name in expected} == expected


class Companion(nn.Module):
    """An encoder, and a second one with a number of its own that no class of transformers has a place for."""

    def __init__(self, config: ModelConfig, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.bert = BertModel(config, pooler=False)
        self.generator = nn.ModuleDict({"encoder": Encoder(replace(config, hidden_size=8, intermediate_size=8))})
        self.generator.register_parameter("scale", nn.Parameter(torch.randn(())))


@pytest.fixture
def companions(objective, tmp_path):
    """Two of them with different weights; the first one's in the folder, its second encoder beside."""
    config = objective(0).bert.config
    hub.save_config(tmp_path, config, "BertModel")
    first, other = Companion(config, 1), Companion(config, 2)
    hub.save_weights(tmp_path, first, beside=("generator.",))
    return first, other


def test_what_lies_beside_is_not_in_transformers_file_and_every_bit_of_it_comes_back(companions, tmp_path):
    from transformers import BertModel as TheirBertModel

    first, other = companions
    beside = {name: tensor for name, tensor in first.state_dict().items() if name.startswith("generator.")}
    assert len(beside) == 2 * 12 + 1 and beside["generator.scale"].shape == ()
    assert load_file(tmp_path / "heads.safetensors").keys() == beside.keys()
    assert not any("generator" in name for name in load_file(tmp_path / "model.safetensors"))
    _, info = TheirBertModel.from_pretrained(tmp_path, add_pooling_layer=False, output_loading_info=True)
    assert {name: found for name, found in info.items() if found} == {}
    report = hub.load_weights(tmp_path, other, beside=("generator.",))
    assert report.in_words() == "encoder loaded; new: nothing; not used: nothing"
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in first.state_dict().items())


def test_what_lies_beside_may_be_new_altogether_but_not_half_of_it(companions, tmp_path):
    first, other = companions
    file, kept = tmp_path / "heads.safetensors", other.generator.scale.clone()
    beside = load_file(file)
    save_file({name: tensor for name, tensor in beside.items() if name != "generator.scale"}, file)
    fault = fault_of(lambda: hub.load_weights(tmp_path, other, ("generator.",), beside=("generator.",)))
    assert fault == f"{file}: no 'generator.scale' among its weights."
    file.unlink()
    fault = fault_of(lambda: hub.load_weights(tmp_path, other, beside=("generator.",)))
    assert fault == f"'{tmp_path}' has no heads.safetensors, which holds the rest of its weights."
    report = hub.load_weights(tmp_path, other, ("generator.",), beside=("generator.",))
    assert report.in_words() == "encoder loaded; new: generator; not used: nothing"
    assert torch.equal(other.generator.scale, kept)
    assert torch.equal(other.bert.embeddings.token.weight, first.bert.embeddings.token.weight)


def test_what_lies_beside_and_is_not_needed_is_told(companions, objective, tmp_path):
    report = hub.load_weights(tmp_path, objective(0), ("masked_lm_head.",))
    assert report.in_words() == "encoder loaded; new: masked_lm_head; not used: generator"


def test_who_may_read_the_config_may_read_the_weights(companions, tmp_path):
    modes = {(tmp_path / name).stat().st_mode for name in ("config.json", "model.safetensors", "heads.safetensors")}
    assert len(modes) == 1


def test_a_half_precision_file_fills_a_full_precision_model(exported, objective):
    before = load_file(exported / "model.safetensors")
    rewrite(exported, lambda tensors: tensors.update({name: t.half() for name, t in tensors.items()}))
    after = objective(2, seed=1)
    after.restore(exported)
    assert {p.dtype for p in after.parameters()} == {torch.float32}
    name = "cls.predictions.bias"
    assert torch.equal(after.masked_lm_head.bias.detach(), before[name].half().float())


def test_names_without_a_place_are_told(exported, objective):
    rewrite(exported, lambda tensors: tensors.update({"cls.extra.weight": torch.zeros(1)}))
    assert hub.load_weights(exported, objective(2)).unused == ["cls.extra.weight"]


def test_what_may_be_absent_keeps_its_values(exported, objective):
    rewrite(exported, lambda tensors: [tensors.pop(name) for name in list(tensors) if name.startswith("cls.seq")])
    after = objective(2, seed=1)
    kept = after.sentence_head.classifier.weight.clone()
    assert hub.load_weights(exported, after, may_be_new=("sentence_head.",)) == hub.LoadReport(["sentence_head."], [])
    assert torch.equal(after.sentence_head.classifier.weight, kept)
    assert torch.equal(after.bert.pooler.weight, objective(2).bert.pooler.weight)


def test_a_missing_parameter_is_named(exported, objective):
    rewrite(exported, lambda tensors: tensors.pop("bert.pooler.dense.bias"))
    assert fault_of(lambda: objective(2).restore(exported)) == (
        f"{exported}: no 'bert.pooler.dense.bias' among its weights."
    )


def test_wrong_shapes_are_named_all_of_them(exported, objective):
    with pytest.raises(UserError) as raised:
        objective(2, max_position_embeddings=30, intermediate_size=21, num_hidden_layers=1).restore(exported)
    layer = "bert.encoder.layer.0"
    assert [message.split(": ", 1)[1] for message in raised.value.messages] == [
        "'bert.embeddings.position_embeddings.weight' is (24, 16), but the model's is (30, 16).",
        f"'{layer}.intermediate.dense.weight' is (20, 16), but the model's is (21, 16).",
        f"'{layer}.intermediate.dense.bias' is (20,), but the model's is (21,).",
        f"'{layer}.output.dense.weight' is (16, 20), but the model's is (16, 21).",
    ]


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_torn_weights_file_is_one_line(keep, exported, objective):
    file = exported / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    assert fault_of(lambda: objective(2).restore(exported)).startswith(f"{file}: not readable as weights: ")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_one_line(number, exported, objective):
    name = "bert.encoder.layer.0.attention.self.key.weight"
    rewrite(exported, lambda tensors: tensors[name].fill_(number))
    said = fault_of(lambda: objective(2).restore(exported))
    assert said.startswith(f"'{exported}': '{name}' holds numbers that are not finite.")


def test_weights_that_are_replaced_while_they_are_read_are_refused(exported, objective, monkeypatch):
    file, copied = exported / "model.safetensors", []

    def copy_to(tensor: StoredTensor, target: torch.Tensor) -> None:
        if len(copied) == 3:
            other = exported / "other"
            other.write_bytes(file.read_bytes())
            other.replace(file)
        copied.append(target)

    monkeypatch.setattr(StoredTensor, "copy_to", copy_to)
    said = fault_of(lambda: objective(2).restore(exported))
    assert said == f"'{exported}': its weights were replaced while they were read; start again."


def test_a_file_that_is_no_safetensors_is_one_line(exported, objective):
    (exported / "model.safetensors").write_text("<html>not found</html>" * 10)
    assert "not readable as weights" in fault_of(lambda: objective(2).restore(exported))


def test_a_file_with_a_query_and_no_key_is_one_line(exported, objective):
    name = "bert.encoder.layer.0.attention.self.key.weight"
    rewrite(exported, lambda tensors: tensors.pop(name))
    assert name in fault_of(lambda: objective(2).restore(exported))


def test_query_and_key_of_different_widths_are_one_line(exported, objective):
    name = "bert.encoder.layer.0.attention.self.key.weight"
    rewrite(exported, lambda tensors: tensors.update({name: torch.zeros(16, 8)}))
    fault_of(lambda: objective(2).restore(exported))


def test_a_folder_without_weights_or_config_says_which_is_missing(exported, objective):
    (exported / "model.safetensors").unlink()
    expected = f"'{exported}' is not a model folder: it has no model.safetensors."
    assert fault_of(lambda: objective(2).restore(exported)) == expected
    (exported / "config.json").unlink()
    expected = f"'{exported}' is not a model folder: it has no config.json."
    assert fault_of(lambda: hub.load_config(exported)) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[]", "model_type is None, not one of bert, roberta"),
        ('{"model_type": "gpt2"}', "model_type is 'gpt2', not one of bert, roberta, xlm-roberta, camembert, electra."),
        ('{"model_type": "electra", "hidden_size": 8}', "embedding_size is 128, but this token table is as wide as"),
        ('{"model_type": "bert", "hidden_size": 8}', "no vocab_size, num_hidden_layers, num_attention_heads"),
    ],
)
def test_a_config_that_is_no_bert_s_is_one_line(text, said, exported):
    (exported / "config.json").write_text(text)
    assert said in fault_of(lambda: hub.load_config(exported))


@pytest.mark.parametrize(
    "change",
    [{"hidden_act": "relu"}, {"position_embedding_type": "relative_key"}, {"is_decoder": True}],
    ids=lambda change: next(iter(change)),
)
def test_a_model_that_computes_otherwise_is_refused(change, exported):
    file = exported / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert next(iter(change)) in fault_of(lambda: hub.load_config(exported))


def test_a_size_that_is_no_number_is_one_line(exported):
    file = exported / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"hidden_size": "16"}))
    assert "hidden_size" in fault_of(lambda: hub.load_config(exported))


def test_norms_named_as_in_the_first_release_are_taken_up(exported, objective):
    def rename(tensors: dict) -> None:
        for name in [name for name in tensors if "LayerNorm" in name]:
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            tensors[old] = tensors.pop(name)

    rewrite(exported, rename)
    after = objective(2, seed=1)
    after.restore(exported)
    assert torch.equal(after.bert.embeddings.norm.weight, objective(2).bert.embeddings.norm.weight)
