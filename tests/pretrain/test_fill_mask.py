import json

import pytest
import torch

from bert.config import ModelConfig
from bert.errors import UserError
from bert.packed import PackedBatch
from pretrain.fill_mask import FillMaskConfig, fill_mask, load, print_filled
from pretrain.objectives.masked_lm import MaskedLM


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


def test_a_text_longer_than_the_position_table_is_refused(objective):
    assert len(fill_mask(objective, "[MASK]" + " the" * 9, top=1)) == 1  # with [CLS] and [SEP]: 12
    with pytest.raises(UserError, match=r"^text: 13 tokens, but the model reads 12 at most\.$"):
        fill_mask(objective, "[MASK]" + " the" * 10, top=1)


@pytest.mark.parametrize("sentence_labels", [0, 2])
def test_a_loaded_model_says_what_the_saved_one_said(sentence_labels, small_tokenizer, tmp_path):
    before = untrained(small_tokenizer, sentence_labels)
    before.export(tmp_path)
    after = load(tmp_path)
    assert not after.training
    assert fill_mask(after, "the [MASK] sat", 5) == fill_mask(before, "the [MASK] sat", 5)


def test_a_model_without_a_masked_lm_head_is_refused_by_its_name(objective, tmp_path):
    objective.export(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"architectures": ["BertForTokenClassification"]}))
    with pytest.raises(UserError, match=r"^checkpoint: '.*' holds a BertForTokenClassification, which has"):
        load(tmp_path)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"^checkpoint: no such folder: '.*/nowhere'\.$"):
        load(tmp_path / "nowhere")


def test_candidates_are_printed_mask_by_mask(sure_of, tmp_path, capsys):
    sure_of({"cat": 1.0, "dog": 3.0}).export(tmp_path)
    print_filled(FillMaskConfig("[MASK] and [MASK]", str(tmp_path), top=2))
    row = "   75.0%  dog\n   25.0%  cat\n"
    assert capsys.readouterr().out == f"[MASK] 1\n{row}[MASK] 2\n{row}"


def test_showing_no_candidate_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"^top: 0, but it must be at least 1\.$"):
        print_filled(FillMaskConfig("[MASK]", str(tmp_path), top=0))


def test_a_missing_tokenizer_is_blamed_on_the_checkpoint(objective, tmp_path):
    objective.export(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"^checkpoint: "):
        load(tmp_path)


def test_a_tokenizer_larger_than_the_model_s_table_is_refused(objective, small_tokenizer, tmp_path):
    small = MaskedLM(ModelConfig(20, 8, 1, 2, 8, 12), small_tokenizer, 2)
    small.export(tmp_path)
    with pytest.raises(UserError):
        fill_mask(load(tmp_path), "rain fell on [MASK] roofs", 1)
