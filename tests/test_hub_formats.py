"""What others saved: old names, bare encoders, pickles, parts, other families; folders that are not what they say."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bert import Bert, hub
from bert.config import ModelConfig
from bert.errors import UserError
from bert.hub import fetch as fetching
from bert.hub.folder import open_folder
from finetune.config import TaskConfig
from finetune.tasks.classification import Classification
from pretrain.objectives.masked_lm import MaskedLM

TEXT = "the cat sat on a mat"


@pytest.fixture
def ours(small_tokenizer, unsettled) -> MaskedLM:
    torch.manual_seed(0)
    return unsettled(MaskedLM(ModelConfig(small_tokenizer.vocab_size, 8, 2, 2, 12, 20), small_tokenizer, 2)).eval()


@pytest.fixture
def folder(ours, tmp_path) -> Path:
    ours.export(tmp_path)
    return tmp_path


def rewrite(folder: Path, change, name: str = "model.safetensors") -> None:
    """The folder's tensors, changed, under another name."""
    tensors = change(load_file(folder / "model.safetensors"))
    (folder / "model.safetensors").unlink()
    save_file(tensors, folder / name) if name.endswith("safetensors") else torch.save(tensors, folder / name)


def states(model, text: str = TEXT) -> torch.Tensor:
    return model.encode(text)[0].hidden_states


def expected(ours) -> torch.Tensor:
    bert = Bert(ours.bert.config, ours.tokenizer)
    bert.load_state_dict(ours.state_dict())
    return states(bert.eval())


def fault_of(action) -> str:
    with pytest.raises(UserError) as raised:
        action()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def bare(tensors: dict) -> dict:
    """An encoder's alone, as BertModel saves them."""
    return {n.removeprefix("bert."): t for n, t in tensors.items() if n.startswith("bert.")}


def first_release(tensors: dict) -> dict:
    return {
        n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
        for n, t in tensors.items()
    }


def with_buffers(tensors: dict) -> dict:
    """As versions before 4.31 saved them: positions, and the tied decoder a second time."""
    table = tensors["bert.embeddings.word_embeddings.weight"].clone()
    return tensors | {
        "bert.embeddings.position_ids": torch.arange(20)[None],
        "cls.predictions.decoder.weight": table,
        "cls.predictions.decoder.bias": tensors["cls.predictions.bias"].clone(),
    }


@pytest.mark.parametrize("change", [bare, first_release, with_buffers], ids=lambda change: change.__name__)
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_older_names_and_files_are_taken_up_bit_by_bit(name, change, ours, folder):
    rewrite(folder, change, name)
    assert torch.equal(states(Bert.from_pretrained(folder)), expected(ours))


def test_a_decoder_bias_alone_is_the_bias(ours, folder):
    name = "cls.predictions.bias"
    rewrite(folder, lambda t: {("cls.predictions.decoder.bias" if n == name else n): v for n, v in t.items()})
    assert torch.equal(Bert.from_pretrained(folder).masked_lm_head.bias, ours.masked_lm_head.bias)


@pytest.mark.parametrize("single", ["model.safetensors", "pytorch_model.bin"])
def test_weights_in_parts_are_taken_up_by_their_index(single, ours, folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    stem, ending = single.split(".")
    where = {n: f"{stem}-0000{place % 2 + 1}-of-00002.{ending}" for place, n in enumerate(tensors)}
    for part in set(where.values()):
        held = {n: t for n, t in tensors.items() if where[n] == part}
        save_file(held, folder / part) if ending == "safetensors" else torch.save(held, folder / part)
    (folder / f"{single}.index.json").write_text(json.dumps({"weight_map": where}))
    assert torch.equal(states(Bert.from_pretrained(folder)), expected(ours))
    (folder / sorted(set(where.values()))[1]).unlink()
    assert "names" in fault_of(lambda: Bert.from_pretrained(folder))


def test_the_first_format_of_torch_save_is_read_too(ours, folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert torch.equal(states(Bert.from_pretrained(folder)), expected(ours))


def test_a_pickle_that_runs_code_runs_none(folder, tmp_path):
    canary = tmp_path / "canary"

    class Trap:
        def __reduce__(self):
            return os.system, (f"touch {canary}",)

    (folder / "model.safetensors").unlink()
    for save in (
        lambda file: file.write_bytes(pickle.dumps({"weight": Trap()})),
        lambda file: torch.save(Trap(), file),
    ):
        save(folder / "pytorch_model.bin")
        assert "not readable as weights" in fault_of(lambda: Bert.from_pretrained(folder))
        assert not canary.exists()


def test_safetensors_go_before_a_pickle(ours, folder):
    (folder / "pytorch_model.bin").write_bytes(b"no weights at all")
    assert torch.equal(states(Bert.from_pretrained(folder)), expected(ours))


@pytest.mark.parametrize("content", [b"", b"PK", b"\x80\x02nonsense", b"<html>"])
def test_a_torn_pickle_is_one_line(content, folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(content)
    assert "pytorch_model.bin: not readable as weights" in fault_of(lambda: Bert.from_pretrained(folder))


def test_a_pickle_of_other_things_is_one_line(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"model": {"a": torch.zeros(1)}}, folder / "pytorch_model.bin")
    assert "holds a dict of things other than tensors" in fault_of(lambda: Bert.from_pretrained(folder))


def test_an_output_matrix_of_its_own_is_refused(folder):
    def untie(tensors: dict) -> dict:
        tensors = with_buffers(tensors)
        tensors["cls.predictions.decoder.weight"][3, 3] += 1
        return tensors

    rewrite(folder, untie)
    assert "the output matrix (cls.predictions.decoder.weight) is not the token table" in fault_of(
        lambda: Bert.from_pretrained(folder)
    )


def test_half_a_head_is_a_fault_and_no_new_head(ours, folder):
    rewrite(folder, lambda tensors: {n: t for n, t in tensors.items() if n != "cls.seq_relationship.bias"})
    assert fault_of(lambda: ours.start_from(folder)) == (f"{folder}: no 'cls.seq_relationship.bias' among its weights.")


def test_what_is_new_and_what_is_not_needed_is_said(ours, small_tokenizer, tmp_path):
    Bert(ours.bert.config, small_tokenizer, pooler=True, masked_lm=True, sentence=False).save_pretrained(tmp_path)
    assert ours.start_from(tmp_path) == "encoder loaded; new: pooler, sentence_head; not used: nothing"
    task = Classification(ours.bert.config, small_tokenizer, ["a", "b"], TaskConfig(), 16)
    assert task.start_from(tmp_path) == "encoder loaded; new: pooler, head; not used: masked_lm_head"
    task.export(tmp_path)
    said, warning = ours.start_from(tmp_path).splitlines()
    assert said == "encoder loaded; new: masked_lm_head, sentence_head; not used: head"
    assert warning.startswith("WARNING: that model has no masked-LM head")


def test_a_task_starts_from_another_task_with_a_head_of_its_own(ours, small_tokenizer, tmp_path):
    three = Classification(ours.bert.config, small_tokenizer, ["a", "b", "c"], TaskConfig(), 16)
    three.export(tmp_path)
    two = Classification(ours.bert.config, small_tokenizer, ["a", "b"], TaskConfig(), 16)
    assert two.start_from(tmp_path) == "encoder loaded; new: head; not used: head"
    assert torch.equal(two.bert.pooler.weight, three.bert.pooler.weight)


# RoBERTa


@pytest.fixture
def roberta(tmp_path):
    """A folder as transformers leaves it, with a byte-level tokenizer, and the model that lies there."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM

    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.train_from_iterator([TEXT] * 3, trainers.BpeTrainer(vocab_size=60, special_tokens=specials))
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    roles = {"bos_token": "<s>", "cls_token": "<s>", "sep_token": "</s>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", mask_token="<mask>", model_max_length=20, **roles
    )
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=backend.get_vocab_size(),
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=12,
        max_position_embeddings=22,
        type_vocab_size=1,
        pad_token_id=1,
        layer_norm_eps=1e-5,
    )
    model = RobertaForMaskedLM(config).eval()
    torch.nn.init.normal_(model.lm_head.bias)
    model.save_pretrained(tmp_path / "roberta")
    tokenizer.save_pretrained(tmp_path / "roberta")
    return tmp_path / "roberta", model, tokenizer


def test_a_roberta_computes_the_same_here_and_saved_as_a_bert(roberta, tmp_path, capfd):
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    folder, theirs, tokenizer = roberta
    inputs = tokenizer("the cat <mask> on", return_tensors="pt")
    with torch.no_grad():
        logits = theirs(**inputs).logits
        hidden = theirs(**inputs, output_hidden_states=True).hidden_states
    bert = Bert.from_pretrained(folder)
    (one,) = bert.encode("the cat <mask> on")
    assert one.ids == inputs["input_ids"][0].tolist()
    torch.testing.assert_close(one.hidden_states, torch.cat(hidden), atol=1e-5, rtol=1e-5)
    bert.save_pretrained(tmp_path / "bert")
    assert json.loads((tmp_path / "bert" / "config.json").read_text())["model_type"] == "bert"
    again, info = AutoModelForMaskedLM.from_pretrained(tmp_path / "bert", output_loading_info=True)
    assert not any(info.values())
    reread = AutoTokenizer.from_pretrained(tmp_path / "bert")("the cat <mask> on", return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(**reread).logits, logits, atol=1e-5, rtol=1e-5)
    candidates = bert.fill_mask("the cat <mask> on", 3)[0]
    place = (inputs["input_ids"][0] == tokenizer.mask_token_id).nonzero().item()
    assert [c.token for c in candidates] == tokenizer.convert_ids_to_tokens(logits[0, place].topk(3).indices)
    assert fault_of(lambda: bert.fill_mask("the [MASK]")).startswith("text: no <mask> in")


def test_a_roberta_gets_a_second_segment_like_its_first_and_offsets_without_the_space(roberta):
    bert = Bert.from_pretrained(roberta[0])
    table = bert.bert.embeddings.segment.weight
    assert table.shape == (2, 8) and torch.equal(table[0], table[1])
    assert bert.bert.config.max_position_embeddings == 20
    (one,) = bert.encode("a mat", "the cat")
    texts = {0: "a mat", 1: "the cat"}
    places = zip(one.segments, one.offsets, strict=True)
    pieces = [texts[segment][slice(*offsets)] for segment, offsets in places if offsets is not None]
    assert "".join(pieces) == "amatthecat"


# ELECTRA


@pytest.fixture
def electra(folder):
    """Makes the folder hold an ELECTRA of transformers with the same tokenizer."""

    def saved(name: str, **changes) -> torch.nn.Module:
        import transformers

        sizes = {"hidden_size": 8, "embedding_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
        sizes |= {"intermediate_size": 12, "max_position_embeddings": 20} | changes
        vocab_size = json.loads((folder / "config.json").read_text())["vocab_size"]
        torch.manual_seed(0)
        config = transformers.ElectraConfig(vocab_size=vocab_size, **sizes)
        model = getattr(transformers, name)(config).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        (folder / "model.safetensors").unlink()
        model.save_pretrained(folder)
        return model

    return saved


@pytest.mark.parametrize("name", ["ElectraModel", "ElectraForPreTraining", "ElectraForMaskedLM"])
def test_an_electra_s_encoder_computes_the_same_here(name, electra, folder):
    theirs, bert = electra(name), Bert.from_pretrained(folder)
    (one,) = bert.encode("the cat sat", "on a mat")
    inputs = {"input_ids": torch.tensor([one.ids]), "token_type_ids": torch.tensor([one.segments])}
    with torch.no_grad():
        hidden = getattr(theirs, "electra", theirs)(**inputs, output_hidden_states=True).hidden_states
    torch.testing.assert_close(one.hidden_states, torch.cat(hidden), atol=1e-5, rtol=1e-5)


def test_an_electra_s_generator_fills_masks_as_there(electra, folder):
    theirs, bert = electra("ElectraForMaskedLM"), Bert.from_pretrained(folder)
    ids = torch.tensor([bert.encode("the cat [MASK] on")[0].ids])
    with torch.no_grad():
        logits = theirs(ids).logits[0, (ids[0] == bert.tokenizer.mask_id).nonzero().item()]
    candidates = bert.fill_mask("the cat [MASK] on", 3)[0]
    torch.testing.assert_close(
        torch.tensor([candidate.probability for candidate in candidates]), logits.softmax(0).topk(3).values
    )


def test_an_electra_with_a_narrow_token_table_is_refused_by_its_size(electra, folder):
    electra("ElectraModel", embedding_size=4)
    assert fault_of(lambda: Bert.from_pretrained(folder)) == (
        f"{folder / 'config.json'}: embedding_size is 4, but this token table is as wide as hidden_size, 8."
    )


# Where it lies


def test_a_name_that_is_no_folder_is_asked_for_at_the_hub(ours, folder, monkeypatch):
    asked = []

    def snapshot_download(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns[-1]))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    opened = open_folder("someone/a-model", "init")
    assert (opened.path, asked) == (folder, [("someone/a-model", "model.safetensors.index.json")])
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    fetching.fetch("someone/a-model", "init")
    assert asked[1:] == [("someone/a-model", fetching._WEIGHTS[0][-1]), ("someone/a-model", fetching._WEIGHTS[1][-1])]


def test_a_repository_that_is_not_to_be_had_is_one_line():
    said = fault_of(lambda: fetching.fetch("someone/no-such-model", "init"))
    assert said.startswith(
        "init: no folder 'someone/no-such-model' here, and it cannot be fetched from the Hugging Face"
    )


@pytest.mark.parametrize("name", ["nowhere/at/all", "./nowhere", "runs/nothing", "a b", "none?"])
def test_what_can_only_be_a_path_is_not_asked_for(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    assert fault_of(lambda: fetching.fetch(name, "init")) == f"init: no such folder: '{name}'."


def test_all_weights_of_a_folder_have_a_name_of_ours(folder):
    assert hub.parameter_names(folder) == set(MaskedLM(*_sizes(folder)).state_dict())


def _sizes(folder: Path) -> tuple:
    opened = open_folder(str(folder), "init")
    return opened.config, opened.tokenizer, 2


def test_a_roberta_that_does_not_say_which_token_pads_has_roberta_s(roberta):
    folder, theirs, tokenizer = roberta
    described = json.loads((folder / "config.json").read_text())
    del described["pad_token_id"]
    (folder / "config.json").write_text(json.dumps(described))
    with torch.no_grad():
        expected = theirs.roberta(**tokenizer("the cat", return_tensors="pt")).last_hidden_state[0]
    (one,) = Bert.from_pretrained(folder).encode("the cat")
    torch.testing.assert_close(one.hidden_states[-1], expected, atol=1e-5, rtol=1e-5)
