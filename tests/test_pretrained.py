import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bert import Bert
from bert.config import ModelConfig
from bert.errors import UserError
from bert.inspection.fill_mask import FillMaskConfig, print_filled
from bert.packed import PackedBatch
from bert.pretrained import fill_mask
from pretrain.objectives.masked_lm import MaskedLM

ROOT = Path(__file__).parent.parent


def untrained(tokenizer, sentence_labels: int = 2) -> MaskedLM:
    torch.manual_seed(0)
    return MaskedLM(ModelConfig(tokenizer.vocab_size, 8, 1, 2, 8, 12), tokenizer, sentence_labels).eval()


@pytest.fixture
def objective(small_tokenizer) -> MaskedLM:
    return untrained(small_tokenizer)


@pytest.fixture
def sure_of(objective):
    """Lets the model say these tokens with these odds everywhere: its transform is silenced, its bias speaks."""

    def teach(odds: dict[str, float]) -> MaskedLM:
        with torch.no_grad():
            objective.masked_lm_head.norm.weight.zero_()
            objective.masked_lm_head.bias.fill_(-1e9)
            for token, odd in odds.items():
                number = objective.tokenizer.backend.token_to_id(token)
                objective.masked_lm_head.bias[number] = torch.tensor(odd).log()
        return objective

    return teach


def test_candidates_come_best_first_with_the_model_s_probabilities(sure_of):
    objective = sure_of({"cat": 1.0, "dog": 5.0, "sun": 2.0})
    (candidates,) = fill_mask(objective, "the [MASK] sat", top=2)
    assert [(c.token, round(c.probability, 6)) for c in candidates] == [("dog", 0.625), ("sun", 0.25)]


def test_each_mask_has_its_own_candidates_from_left_to_right(objective):
    text = "the [MASK] sat on the [MASK]"
    two = fill_mask(objective, text, top=3)
    assert len(two) == 2
    ids = torch.tensor([objective.tokenizer.encode(text)])
    with torch.no_grad():
        hidden = objective.bert(PackedBatch.from_padded(ids)).last_hidden_state
        logits = objective.masked_lm_head(hidden, objective.bert.embeddings.token.weight)
    places = (ids[0] == objective.tokenizer.mask_id).nonzero().flatten()
    for place, candidates in zip(places, two, strict=True):
        expected = logits[place].softmax(-1).topk(3)
        assert [objective.tokenizer.token(int(n)) for n in expected.indices] == [c.token for c in candidates]
        torch.testing.assert_close(expected.values, torch.tensor([c.probability for c in candidates]))


def test_no_more_candidates_are_shown_than_there_are_tokens(objective):
    (candidates,) = fill_mask(objective, "[MASK]", top=10**6)
    assert len(candidates) == objective.tokenizer.vocab_size
    assert sum(candidate.probability for candidate in candidates) == pytest.approx(1.0)


def test_a_text_without_a_mask_is_refused(objective):
    with pytest.raises(UserError, match=r"^text: no \[MASK\] in 'the mask sat'\.$"):
        fill_mask(objective, "the mask sat", top=1)


@pytest.mark.parametrize("text", [["[MASK]"], ("[MASK]",), None, 7])
def test_what_is_not_one_text_is_refused(objective, text):
    with pytest.raises(UserError, match=rf"^text: {re.escape(repr(text))} is not a text; masks are filled in one text"):
        fill_mask(objective, text, top=1)


def test_a_model_in_training_answers_without_dropout_and_stays_in_training(small_tokenizer):
    bert = Bert(ModelConfig(small_tokenizer.vocab_size, 8, 1, 2, 8, 12, hidden_dropout_prob=0.9), small_tokenizer)
    assert bert.training
    first, second = (bert.encode("the cat")[0].hidden_states for _ in range(2))
    assert torch.equal(first, second)
    assert bert.fill_mask("the [MASK]") == bert.fill_mask("the [MASK]")
    assert all(module.training for module in bert.modules())
    bert.eval().encode("the cat")
    assert not bert.training


def test_a_text_longer_than_the_position_table_is_refused(objective):
    assert len(fill_mask(objective, "[MASK]" + " the" * 9, top=1)) == 1  # with [CLS] and [SEP]: 12
    with pytest.raises(UserError, match=r"^text: 13 tokens, but the model reads 12 at most\.$"):
        fill_mask(objective, "[MASK]" + " the" * 10, top=1)


@pytest.mark.parametrize("sentence_labels", [0, 2])
def test_a_loaded_model_says_what_the_saved_one_said(sentence_labels, small_tokenizer, tmp_path):
    before = untrained(small_tokenizer, sentence_labels)
    before.export(tmp_path)
    after = Bert.from_pretrained(tmp_path)
    assert not after.training
    assert after.fill_mask("the [MASK] sat") == fill_mask(before, "the [MASK] sat", 5)


@pytest.mark.parametrize("sentence_labels", [0, 2])
def test_what_is_saved_again_is_the_same_file(sentence_labels, small_tokenizer, tmp_path):
    untrained(small_tokenizer, sentence_labels).export(tmp_path)
    Bert.from_pretrained(tmp_path).save_pretrained(tmp_path / "again")
    for name in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


@pytest.mark.parametrize("sentence_labels", [0, 2])
def test_through_transformers_and_back_no_bit_changes(sentence_labels, small_tokenizer, tmp_path, capfd):
    from transformers import AutoModelForMaskedLM, AutoModelForPreTraining, AutoTokenizer

    untrained(small_tokenizer, sentence_labels).export(tmp_path)
    auto = AutoModelForPreTraining if sentence_labels else AutoModelForMaskedLM
    auto.from_pretrained(tmp_path).save_pretrained(tmp_path / "theirs")
    AutoTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path / "theirs")
    Bert.from_pretrained(tmp_path / "theirs").save_pretrained(tmp_path / "ours")
    before, after = load_file(tmp_path / "model.safetensors"), load_file(tmp_path / "ours" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_every_layer_is_given_for_each_text_as_if_it_stood_alone(objective, tmp_path):
    objective.export(tmp_path)
    bert = Bert.from_pretrained(tmp_path, attention="eager")
    texts = ["the cat", "a mat in the sun", "rain"]
    for text, one in zip(texts, bert.encode(texts), strict=True):
        (alone,) = bert.encode(text)
        size = len(one.ids)
        assert one.tokens[0] == "[CLS]" and one.tokens[-1] == "[SEP]"
        assert (one.hidden_states.shape, one.attentions.shape) == ((2, size, 8), (1, 2, size, size))
        torch.testing.assert_close(one.attentions.sum(-1), torch.ones(1, 2, size))
        torch.testing.assert_close(one.hidden_states, alone.hidden_states)
        torch.testing.assert_close(one.attentions, alone.attentions)
        torch.testing.assert_close(one.pooled, alone.pooled)


def test_pieces_know_their_text_and_their_word(small_tokenizer, tmp_path):
    untrained(small_tokenizer).export(tmp_path)
    bert = Bert.from_pretrained(tmp_path)
    (one,) = bert.encode("the zebra", "a cat")
    texts = {0: "the zebra", 1: "a cat"}
    for token, segment, offsets in zip(one.tokens, one.segments, one.offsets, strict=True):
        if offsets is not None and token != "[UNK]":
            assert texts[segment][slice(*offsets)] == token.removeprefix("##")
    specials = [place for place, offsets in enumerate(one.offsets) if offsets is None]
    assert [one.tokens[place] for place in specials] == ["[CLS]", "[SEP]", "[SEP]"]
    assert [one.words[place] for place in specials] == [None] * 3
    assert one.segments == [0] * (specials[1] + 1) + [1] * (len(one.ids) - specials[1] - 1)


def test_a_mask_in_a_text_is_the_mask(objective, tmp_path):
    objective.export(tmp_path)
    (one,) = Bert.from_pretrained(tmp_path).encode("the [MASK]")
    assert one.tokens == ["[CLS]", "the", "[MASK]", "[SEP]"]


def test_other_special_tokens_in_a_text_are_text(objective, tmp_path):
    objective.export(tmp_path)
    bert = Bert.from_pretrained(tmp_path)
    (one,) = bert.encode("a [SEP] [CLS]")
    assert [one.tokens.count(token) for token in ("[CLS]", "[SEP]")] == [1, 1]
    assert one.ids[1:-1] == bert.tokenizer.encode_text("a [SEP] [CLS]").ids


def test_a_text_too_long_for_the_model_is_named(objective, tmp_path):
    objective.export(tmp_path)
    bert = Bert.from_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"^texts: 2: 14 tokens, but the model reads 12 at most\.$"):
        bert.encode(["a", "a " * 12])
    with pytest.raises(UserError, match=r"^text_pairs: 1 of them, for 2 texts\.$"):
        bert.encode(["a", "a"], ["a"])
    with pytest.raises(UserError, match=r"^text_pairs: 0 of them, for 1 text\.$"):
        bert.encode(["a"], [])
    with pytest.raises(UserError, match=r"^texts: \('a', 'b'\) is not a text; the second texts of pairs go into"):
        bert.encode([("a", "b")])
    with pytest.raises(UserError, match=r"^text_pairs: None is not a text"):
        bert.encode(["a", "a"], ["a", None])
    with pytest.raises(UserError, match=r"^top: -1, but it must be at least 1\.$"):
        bert.fill_mask("[MASK]", -1)
    assert bert.encode([]) == []


def test_a_text_is_cut_by_its_tokens_and_says_by_how_many(objective, tmp_path):
    objective.export(tmp_path)
    bert = Bert.from_pretrained(tmp_path)
    with pytest.raises(UserError, match="max_length: 1, but it must be at least 3"):
        bert.encode("a cat", max_length=1)
    cut, whole = bert.encode(["a cat sat on a mat", "a cat"], max_length=4)
    assert (cut.tokens, cut.cut, whole.cut) == (["[CLS]", "a", "cat", "[SEP]"], 4, 0)
    torch.testing.assert_close(cut.hidden_states, whole.hidden_states)


def test_an_encoder_alone_can_be_asked_for_vectors_and_not_for_words(small_tokenizer, tmp_path):
    config = ModelConfig(small_tokenizer.vocab_size, 8, 1, 2, 8, 12)
    Bert(config, small_tokenizer, masked_lm=False, sentence=False).save_pretrained(tmp_path)
    bert = Bert.from_pretrained(tmp_path)
    assert bert.encode("the cat")[0].pooled.shape == (8,)
    with pytest.raises(UserError, match=r"^fill_mask: this model has no masked-LM head\.$"):
        bert.fill_mask("[MASK]")
    with pytest.raises(UserError, match=r"^fill_mask: this model has no masked-LM head\.$"):
        print_filled(FillMaskConfig("[MASK]", str(tmp_path)))
    from transformers import AutoModel

    _, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())


def test_candidates_are_printed_mask_by_mask(sure_of, tmp_path, capsys):
    sure_of({"cat": 1.0, "dog": 3.0}).export(tmp_path)
    print_filled(FillMaskConfig("[MASK] and [MASK]", str(tmp_path), top=2))
    row = "   75.0%  dog\n   25.0%  cat\n"
    assert capsys.readouterr().out == f"[MASK] 1\n{row}[MASK] 2\n{row}"


def test_showing_no_candidate_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"^top: 0, but it must be at least 1\.$"):
        print_filled(FillMaskConfig("[MASK]", str(tmp_path), top=0))


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"^from_pretrained: no such folder: '.*/nowhere'\.$"):
        Bert.from_pretrained(tmp_path / "nowhere")


def test_a_missing_tokenizer_is_blamed_on_the_checkpoint(objective, tmp_path):
    objective.export(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"^checkpoint: no such file: '.*tokenizer.json'"):
        Bert.from_pretrained(tmp_path, argument="checkpoint")


@pytest.mark.parametrize("rows", [20, 2000])
def test_a_tokenizer_of_another_size_than_the_table_is_refused(rows, small_tokenizer, tmp_path):
    MaskedLM(ModelConfig(rows, 8, 1, 2, 8, 12), small_tokenizer, 2).export(tmp_path)
    size = small_tokenizer.vocab_size
    with pytest.raises(UserError, match=f"a tokenizer of {size} tokens and a model of {rows}; they do not belong"):
        Bert.from_pretrained(tmp_path)


def test_rows_that_only_pad_the_table_are_no_candidates(small_tokenizer, tmp_path):
    MaskedLM(ModelConfig(small_tokenizer.vocab_size + 7, 8, 1, 2, 8, 12), small_tokenizer, 0).export(tmp_path)
    (candidates,) = Bert.from_pretrained(tmp_path).fill_mask("[MASK]", 10**6)
    assert len(candidates) == small_tokenizer.vocab_size
    assert 0.9 < sum(candidate.probability for candidate in candidates) < 1


def test_the_example_of_the_readme_runs(objective, tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    objective.export(tmp_path / "runs" / "mine")
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
