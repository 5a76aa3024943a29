"""Words added to a vocabulary."""

import pytest
import torch
from tokenizers import Tokenizer as Backend

from bert import tokenizer as tokenizers
from bert.added_words import add_words, grow
from bert.config import ModelConfig
from bert.errors import UserError
from bert.tokenizer import Tokenizer, TokenizerConfig
from bert.tokenizer_files import load
from pretrain.objectives.masked_lm import MaskedLM


@pytest.fixture
def words(tmp_path):
    def write(text: str):
        (tmp_path / "words.txt").write_text(text, encoding="utf-8")
        return tmp_path / "words.txt"

    return write


def test_added_words_are_whole_and_all_other_ids_stay(small_tokenizer, words, capsys):
    tokenizer, pieces = add_words(small_tokenizer, words("sundog\n\nroofcat\ncat\n"), "tokenizer.add")
    size = small_tokenizer.vocab_size
    assert capsys.readouterr().out.endswith("2 words added, 1 already in the vocabulary\n")
    assert tokenizer.encode_text("sundog roofcat").ids == [size, size + 1]
    assert pieces == [small_tokenizer.encode_text(word).ids for word in ("sundog", "roofcat")]
    assert all(len(old) > 1 for old in pieces)
    old, new = small_tokenizer.backend.get_vocab(), tokenizer.backend.get_vocab()
    assert {token: number for token, number in new.items() if number < size} == old
    assert tokenizer.special_tokens == small_tokenizer.special_tokens


def test_tokens_that_were_added_to_the_vocabulary_before_keep_their_ids(small_tokenizer, words, tmp_path):
    backend = Backend.from_str(small_tokenizer.backend.to_str())
    backend.add_tokens(["covid"])
    before = Tokenizer(backend)
    size = small_tokenizer.vocab_size
    assert before.encode_text("covid").ids == [size]
    tokenizer, pieces = add_words(before, words("sundog\ncovid\n"), "tokenizer.add")
    assert len(pieces) == 1
    assert tokenizer.encode_text("covid sundog").ids == [size, size + 1]
    tokenizer.save(tmp_path, 0)
    assert load(tmp_path / "tokenizer.json").encode_text("covid sundog").ids == [size, size + 1]


def test_a_word_is_added_as_the_vocabulary_sees_it(words):
    lower = tokenizers.train(["the sun and the dog"] * 3, TokenizerConfig(vocab_size=100, lowercase=True))
    tokenizer, pieces = add_words(lower, words("SunDog"), "tokenizer.add")
    assert len(pieces) == 1
    assert tokenizer.encode_text("sundog").ids == tokenizer.encode_text("SUNDOG").ids == [lower.vocab_size]


def test_a_line_that_is_no_single_word_is_named_with_its_place(small_tokenizer, words):
    file = words("sundog\nsun-dog\ntwo words\n")
    with pytest.raises(UserError) as raised:
        add_words(small_tokenizer, file, "tokenizer.add")
    assert raised.value.messages == (
        f"tokenizer.add: {file}:2: 'sun-dog' is 3 words to the tokenizer, not 1.",
        f"tokenizer.add: {file}:3: 'two words' is 2 words to the tokenizer, not 1.",
    )


def test_a_file_that_is_not_there_is_named(small_tokenizer, tmp_path):
    with pytest.raises(UserError, match=r"^tokenizer.add: no such file: '.*none.txt'\.$"):
        add_words(small_tokenizer, tmp_path / "none.txt", "tokenizer.add")


@pytest.mark.parametrize("spare", [0, 1, 5])
def test_new_rows_are_the_means_of_the_old_pieces(spare, small_tokenizer, unsettled):
    size = small_tokenizer.vocab_size
    model = unsettled(MaskedLM(ModelConfig(size + spare, 8, 1, 2, 8, 12), small_tokenizer, 0))
    table, bias = model.bert.embeddings.token.weight.clone(), model.masked_lm_head.bias.clone()
    grow(model, size, [[5, 6], [7, 8, 9]])
    rows = max(size + 2, size + spare)
    assert (
        model.bert.config.vocab_size
        == rows
        == len(model.masked_lm_head.bias)
        == len(model.bert.embeddings.token.weight)
    )
    torch.testing.assert_close(model.bert.embeddings.token.weight[size], table[[5, 6]].mean(0))
    torch.testing.assert_close(model.bert.embeddings.token.weight[size + 1], table[[7, 8, 9]].mean(0))
    torch.testing.assert_close(
        model.masked_lm_head.bias[size : size + 2], torch.stack([bias[5:7].mean(), bias[7:10].mean()])
    )
    assert torch.equal(model.bert.embeddings.token.weight[:size], table[:size])
    assert torch.equal(model.bert.embeddings.token.weight[size + 2 :], table[size + 2 :])
    assert all(parameter.requires_grad for parameter in model.parameters())
