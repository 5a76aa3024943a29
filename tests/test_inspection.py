"""embed and attention: files of vectors, numbers and pictures."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bert import Bert
from bert.config import ModelConfig
from bert.errors import UserError
from bert.inspection.attention import AttentionConfig, in_words, show_attention
from bert.inspection.embed import EmbedConfig, check, combined, embed, pieces_of_words, pooled

TEXTS = ["the cat sat", "rain", "", "a dog in the sun, zq"]


@pytest.fixture
def folder(small_tokenizer, unsettled, tmp_path) -> Path:
    torch.manual_seed(0)
    unsettled(Bert(ModelConfig(small_tokenizer.vocab_size, 8, 2, 2, 12, 24), small_tokenizer)).save_pretrained(
        tmp_path / "model"
    )
    return tmp_path


@pytest.fixture
def embedded(folder, capsys):
    """What embed writes for TEXTS with these options, and what it says."""

    def run(name: str, texts: list[str] = TEXTS, **options):
        (folder / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
        places = {"input": str(folder / "texts.txt"), "output": str(folder / name), "checkpoint": str(folder / "model")}
        embed(EmbedConfig(**places | {"device": "cpu", "batch_size": 3} | options))
        written = folder / name
        rows = written.read_text(encoding="utf-8").splitlines() if name.endswith("jsonl") else []
        return (np.load(written) if name.endswith("npy") else list(map(json.loads, rows))), capsys.readouterr().out

    return run


# By hand: two layers of three tokens, width 2.
STATES = torch.tensor([[[1.0, 2], [3, 4], [5, 6]], [[10.0, 20], [30, 40], [50, 60]]])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"layers": [-1]}, [[10, 20], [30, 40], [50, 60]]),
        ({"layers": [0, 1]}, [[11, 22], [33, 44], [55, 66]]),
        ({"layers": [0, 1], "combine": "concat"}, [[1, 2, 10, 20], [3, 4, 30, 40], [5, 6, 50, 60]]),
        ({"layers": [1, 0], "combine": "concat"}, [[10, 20, 1, 2], [30, 40, 3, 4], [50, 60, 5, 6]]),
        ({"layers": [0, 1], "combine": "weighted_sum", "weights": [2.0, 0.1]}, [[3, 6], [9, 12], [15, 18]]),
    ],
)
def test_layers_are_combined_as_asked(options, expected):
    assert combined(STATES, EmbedConfig("", "", **options)).tolist() == pytest.approx(np.array(expected))


@pytest.mark.parametrize(("pooling", "expected"), [("mean", [4, 5]), ("max", [5, 6]), ("cls", [1, 2])])
def test_pooling_leaves_out_what_is_not_inside(pooling, expected):
    assert pooled(STATES[0], torch.tensor([False, True, True]), pooling).tolist() == expected


def test_pieces_stand_by_their_words():
    assert pieces_of_words([None, 0, 0, 1, None]) == [(1, 3), (3, 4)]
    assert pieces_of_words([None, None]) == []


def test_an_array_has_a_row_for_each_line_whatever_the_batches(embedded, folder):
    array, said = embedded("v.npy")
    assert (array.shape, array.dtype) == ((4, 8), np.float32)
    assert (
        said
        == f"4 texts, vectors of 8 numbers: {folder}/v.npy; 1 without tokens, so a vector of [CLS] and [SEP] alone\n"
    )
    alone, _ = embedded("w.npy", batch_size=1)
    np.testing.assert_allclose(array, alone, atol=1e-6)
    bert = Bert.from_pretrained(folder / "model")
    expected = bert.encode("the cat sat")[0].hidden_states[-1][1:-1].mean(0)
    np.testing.assert_allclose(array[0], expected, atol=1e-6)


def test_lines_hold_tokens_and_words_with_their_vectors(embedded, folder):
    sentences, _ = embedded("v.jsonl", pooling="cls")
    tokens, _ = embedded("t.jsonl", unit="token")
    words, _ = embedded("w.jsonl", unit="word")
    assert [row["text"] for row in sentences] == TEXTS
    for sentence, token in zip(sentences, tokens, strict=True):
        assert sentence["tokens"] == token["tokens"]
        assert sentence["vector"] == pytest.approx(token["vectors"][0], abs=1e-6)
    assert words[0]["words"] == ["the", "cat", "sat"]
    assert words[3]["words"] == ["a", "dog", "in", "the", "sun", ",", "zq"]
    assert words[2] == {"text": "", "words": [], "vectors": []}
    assert [len(row["vectors"]) for row in words] == [len(row["words"]) for row in words]


def test_a_text_too_long_is_named_unless_it_may_be_cut(embedded, folder):
    long = "the " * 30
    said = r"texts.txt:2: 32 tokens, but the model reads 24 at most\. --max_length truncates texts\.$"
    with pytest.raises(UserError, match=said):
        embedded("v.npy", ["rain", long])
    assert not list(folder.glob("*v.npy*"))
    array, said = embedded("v.npy", ["the " * 8, long], max_length=10)
    assert said.endswith("1 cut to 10 tokens\n")
    np.testing.assert_allclose(array[0], array[1], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"output": "v.txt"}, "output: 'v.txt', but its name must end in .npy or .jsonl"),
        ({"unit": "word"}, "unit=word needs a .jsonl"),
        ({"unit": "token", "output": "v.jsonl", "pooling": "max"}, "pooling: 'max' was given, but it belongs to"),
        ({"layers": []}, "layers: none given"),
        ({"weights": [1.0]}, "weights are for weighted_sum"),
        ({"combine": "weighted_sum"}, "weights: None, but combine=weighted_sum"),
        ({"combine": "weighted_sum", "weights": [1.0, 2.0]}, "weights: 2 of them, for 1 layer"),
        ({"batch_size": 0}, "batch_size: 0"),
        ({"max_length": 2}, "max_length: 2"),
    ],
)
def test_what_cannot_be_is_refused_by_name(options, said):
    (fault,) = check(replace(EmbedConfig("x.txt", "v.npy"), **options))
    assert said in fault


def test_a_layer_that_is_not_there_and_an_empty_file_are_refused(embedded, folder):
    with pytest.raises(UserError, match=r"^layers: 3, but the model has 2: 0 to 2, or -1 to -3\.$"):
        embedded("v.npy", layers=[3])
    (folder / "empty.txt").touch()
    with pytest.raises(UserError, match=r"^input: '.*empty.txt' has no line"):
        embedded("v.npy", input=str(folder / "empty.txt"))
    with pytest.raises(UserError, match=r"^input: no such file"):
        embedded("v.npy", input=str(folder / "none.txt"))
    (folder / "bytes.txt").write_bytes(b"ok\n\xff\n")
    with pytest.raises(UserError, match=r"^.*bytes.txt:2: byte 0xff at column 1 is not UTF-8"):
        embedded("v.npy", input=str(folder / "bytes.txt"))


# Attention


@pytest.mark.parametrize(("chosen", "shape"), [({}, (2, 2)), ({"layer": 1}, (1, 2)), ({"layer": 0, "head": 1}, (1, 1))])
def test_attention_is_drawn_and_written_down(chosen, shape, folder, capsys):
    picture = folder / "pictures" / "a.png"
    show_attention(AttentionConfig("the cat", "rain", str(folder / "model"), output=str(picture), **chosen))
    numbers = json.loads((picture.parent / "a.attention.json").read_text())
    found = np.array(numbers["attentions"])
    assert numbers["tokens"] == ["[CLS]", "the", "cat", "[SEP]", "rain", "[SEP]"]
    assert found.shape == (*shape, 6, 6)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    (one,) = Bert.from_pretrained(folder / "model", "eager").encode("the cat", "rain")
    np.testing.assert_allclose(found, one.attentions[numbers["layers"]][:, numbers["heads"]], atol=1e-6)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert str(picture) in capsys.readouterr().out


@pytest.mark.parametrize("name", ["texts.csv", "texts.TSV", "texts.jsonl"])
def test_a_file_that_is_not_a_text_a_line_is_not_embedded_as_one(name):
    (said,) = check(EmbedConfig(input=name, output="vectors.npy"))
    assert said.startswith(f"input: '{name}' is ") and said.endswith("a file with one text per line is needed.")


def test_where_each_token_looks_is_said_in_words():
    said = in_words(["a", "b"], torch.tensor([[0.0, 1.0], [0.5, 0.5]])).splitlines()
    assert [line.split() for line in said] == [
        ["a", "->", "b", "100.0%", "spread", "over", "1.0", "tokens"],
        ["b", "->", "a", "50.0%", "spread", "over", "2.0", "tokens"],
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layer": 2}, "layer: 2, but the model has 2, counted from 0"),
        ({"head": -1}, "head: -1, but the model has 2, counted from 0"),
        ({"output": "a.txt"}, "output: 'a.txt', but its name must end in .png, .svg or .pdf"),
        ({"text": "the " * 30}, "text: 32 tokens, but the model reads 24 at most"),
    ],
)
def test_attention_that_cannot_be_shown_is_refused(options, said, folder):
    config = AttentionConfig("rain", None, str(folder / "model"), output=str(folder / "a.png"))
    with pytest.raises(UserError, match=said):
        show_attention(replace(config, **options))
