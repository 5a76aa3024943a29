"""Tokenizers others wrote, and files that are none."""

import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend

from bert.errors import UserError
from bert.tokenizer import Tokenizer
from bert.tokenizer_files import load

PIECES = ["the", "cat", "sat", "##s", "Seoul", "서울", "##은", "漢", "é", ",", "."]
CHARACTERS = sorted(set("".join(PIECES).replace("#", "")))
VOCABULARY = ["[PAD]", *(f"[unused{n}]" for n in range(3)), "[UNK]", "[CLS]", "[SEP]", "[MASK]", *PIECES]
VOCABULARY += [c for c in CHARACTERS if c not in PIECES] + [f"##{c}" for c in CHARACTERS if f"##{c}" not in PIECES]
LINES = ["the cat, sats.", "Seoul seoul 서울은", "漢é x", "the [MASK] sat [SEP]", ""]


def vocab_txt(folder: Path, tokens: list[str] = VOCABULARY, **described) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    if described:
        (folder / "tokenizer_config.json").write_text(json.dumps(described))
    return folder


def changed(folder: Path, small_tokenizer: Tokenizer, change) -> Path:
    """A tokenizer.json with something done to it."""
    described = json.loads(small_tokenizer.backend.to_str())
    change(described)
    (folder / "tokenizer.json").write_text(json.dumps(described))
    return folder


def fault_of(path: Path, capfd) -> str:
    with pytest.raises(UserError) as raised:
        load(path)
    said = capfd.readouterr()
    assert "\n" not in str(raised.value) and (said.out, said.err) == ("", "")
    return str(raised.value)


@pytest.mark.parametrize(
    "described",
    [{"do_lower_case": False}, {"do_lower_case": True}, {"do_lower_case": False, "tokenize_chinese_chars": False}],
    ids=str,
)
def test_a_vocab_txt_is_read_as_transformers_reads_it(described, tmp_path):
    from transformers import BertTokenizer

    ours = load(vocab_txt(tmp_path / "v", **described))
    theirs = BertTokenizer.from_pretrained(tmp_path / "v")
    for line in LINES:
        assert ours.encode(line) == theirs(line)["input_ids"], line
        pair = theirs(line, "the cat")
        saved = Backend.from_str(ours.backend.to_str()).encode(line, "the cat")
        assert (saved.ids, saved.type_ids) == (pair["input_ids"], pair["token_type_ids"])


@settings(max_examples=100)
@given(line=st.text(st.sampled_from("theca ts.,Seoul서울은漢é[]MASK\t\n가"), max_size=30))
def test_any_line_has_the_ids_that_transformers_gives_it(line, tmp_path_factory):
    from transformers import BertTokenizer

    folder = tmp_path_factory.getbasetemp() / "any_line"
    if not folder.is_dir():
        vocab_txt(folder, do_lower_case=False)
        _READ.update(ours=load(folder), theirs=BertTokenizer.from_pretrained(folder))
    assert _READ["ours"].encode(line) == _READ["theirs"](line)["input_ids"]


_READ: dict = {}


def test_ids_of_a_vocab_txt_are_its_lines_and_unused_ones_replace_nothing(tmp_path):
    tokenizer = load(vocab_txt(tmp_path / "v"))
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.vocab_size) == (0, 4, 5, len(VOCABULARY))
    assert tokenizer.ordinary_ids.tolist() == list(range(8, len(VOCABULARY)))


def test_how_a_tokenizer_json_is_made_of_an_older_kind_is_said(tmp_path):
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(UserError, match=r"no such file: .*tokenizer\.json'\. transformers writes one: AutoTokenizer"):
        load(tmp_path)
    (tmp_path / "vocab.json").unlink()
    with pytest.raises(UserError, match=r"no such file: .*tokenizer\.json'\.$"):
        load(tmp_path)


def test_a_vocabulary_without_capitals_lower_cases_where_nothing_says_so(tmp_path):
    cased = load(vocab_txt(tmp_path / "cased"))
    uncased = load(vocab_txt(tmp_path / "uncased", [t for t in VOCABULARY if "S" not in t or t[0] == "["]))
    assert cased.encode("The") != cased.encode("the")
    assert uncased.encode("The") == uncased.encode("the")


def test_a_vocab_txt_stands_behind_a_tokenizer_json(small_tokenizer, tmp_path):
    changed(vocab_txt(tmp_path / "v"), small_tokenizer, lambda described: None)
    assert load(tmp_path / "v").fingerprint == small_tokenizer.fingerprint


@pytest.mark.parametrize("file", ["tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize("form", [str, lambda token: {"content": token, "lstrip": False}])
def test_special_tokens_may_have_other_names(file, form, tmp_path):
    renamed = [{"[CLS]": "<cls>", "[MASK]": "<mask>"}.get(token, token) for token in VOCABULARY]
    folder = vocab_txt(tmp_path / "v", renamed)
    (folder / file).write_text(json.dumps({"cls_token": form("<cls>"), "mask_token": form("<mask>")}))
    tokenizer = load(folder)
    assert (tokenizer.cls_id, tokenizer.mask_token) == (5, "<mask>")
    assert tokenizer.encode("the <mask>") == [5, 8, 7, 6]
    tokenizer.save(tmp_path, 16)
    assert load(tmp_path).special_tokens == tokenizer.special_tokens


def test_a_role_that_no_token_has_is_named(tmp_path):
    folder = vocab_txt(tmp_path / "v", ["[PAD]", "[UNK]", "[CLS]", "a"])
    with pytest.raises(UserError, match=r"^init: the vocabulary has no \[SEP\], \[MASK\]\.$"):
        load(folder, "init")


def test_two_tokens_with_one_id_are_named(small_tokenizer, tmp_path, capfd):
    changed(tmp_path, small_tokenizer, lambda d: d["model"]["vocab"].update(zebra=7))
    said = fault_of(tmp_path, capfd)
    assert "gives one id to several tokens: 7 to " in said and "'zebra'" in said


@pytest.mark.parametrize("number", [2**31, 2**32 - 1])
def test_an_id_far_beyond_the_vocabulary_is_named(number, small_tokenizer, tmp_path, capfd):
    changed(tmp_path, small_tokenizer, lambda d: d["model"]["vocab"].update(zebra=number))
    assert f"gives 'zebra' the id {number}, in a vocabulary of" in fault_of(tmp_path, capfd)


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "BAAAAP////8="}},
        {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
        {"model": {"type": "Unigram", "unk_id": None, "vocab": [["a", -1.0], ["b", -2.0]]}},
    ],
    ids=["parsing", "normalising", "splitting", "unknown"],
)
def test_a_tokenizer_that_panics_the_library_is_one_line(change, small_tokenizer, tmp_path, capfd):
    changed(tmp_path, small_tokenizer, lambda described: described.update(change))
    assert "is not a tokenizer: " in fault_of(tmp_path, capfd)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"model": 1}', '{"model": {"vocab": {"a": "b"}}}'])
def test_a_file_that_is_no_tokenizer_is_one_line(content, tmp_path, capfd):
    (tmp_path / "tokenizer.json").write_text(content)
    assert "is not a tokenizer: " in fault_of(tmp_path, capfd)


def test_a_file_that_is_not_utf8_is_one_line(tmp_path, capfd):
    (tmp_path / "vocab.txt").write_bytes(b"[PAD]\n\xff\xfe")
    assert "is not a tokenizer: not UTF-8" in fault_of(tmp_path, capfd)


def test_a_tokenizer_config_that_is_no_json_is_one_line(tmp_path, capfd):
    folder = vocab_txt(tmp_path / "v")
    (folder / "tokenizer_config.json").write_text("{")
    assert "tokenizer_config.json: not JSON" in fault_of(folder, capfd)


@pytest.mark.parametrize("where", ["added_tokens.json", "tokenizer_config.json"])
def test_tokens_added_to_a_vocab_txt_are_read(where, tmp_path):
    from transformers import BertTokenizer

    folder, size = vocab_txt(tmp_path / "v", do_lower_case=False), len(VOCABULARY)
    if where == "added_tokens.json":
        (folder / where).write_text(json.dumps({"[E1]": size + 1, "covid": size}))
    else:
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
        decoder = {str(size): {"content": "covid"} | flags, str(size + 1): {"content": "[E1]"} | flags}
        (folder / where).write_text(json.dumps({"do_lower_case": False, "added_tokens_decoder": decoder}))
    ours = load(folder)
    assert ours.vocab_size == size + 2
    assert ours.encode("the covid [E1] cat") == [5, 8, size, size + 1, 9, 6]
    if where == "added_tokens.json":
        assert BertTokenizer.from_pretrained(folder)("the covid [E1] cat")["input_ids"] == [5, 8, size, size + 1, 9, 6]


def test_an_added_token_with_an_id_of_another_is_refused(tmp_path):
    folder = vocab_txt(tmp_path / "v", do_lower_case=False)
    (folder / "added_tokens.json").write_text(json.dumps({"covid": 3}))
    with pytest.raises(UserError, match="adds 'covid' with the id 3, which is not the next"):
        load(folder)


@pytest.mark.parametrize("lower", [False, True])
def test_where_the_two_files_differ_about_case_bert_s_settings_win_as_in_transformers(lower, tmp_path):
    from transformers import AutoTokenizer

    cased = load(vocab_txt(tmp_path / "v", do_lower_case=not lower))
    cased.save(tmp_path, 32)
    described = json.loads((tmp_path / "tokenizer_config.json").read_text())
    described |= {"tokenizer_class": "BertTokenizer", "do_lower_case": lower}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(described))
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert load(tmp_path).encode("Seoul The")[1:-1] == theirs("Seoul The", add_special_tokens=False)["input_ids"]


def test_a_vocab_txt_may_name_its_unknown_token_and_must_have_it(tmp_path, capfd):
    renamed = ["<unk>" if token == "[UNK]" else token for token in VOCABULARY]
    assert load(vocab_txt(tmp_path / "v", renamed, unk_token="<unk>", do_lower_case=False)).encode("zzz")[1] == 4
    assert "is not a tokenizer: " in fault_of(vocab_txt(tmp_path / "w", renamed, do_lower_case=False), capfd)


def marked(folder: Path, small_tokenizer: Tokenizer) -> Tokenizer:
    """A tokenizer with two special tokens for texts to contain, from a folder of transformers."""

    def add(described: dict) -> None:
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        described["added_tokens"] += [
            {"id": small_tokenizer.vocab_size + n, "content": token, "special": True} | flags
            for n, token in enumerate(("[E1]", "[/E1]"))
        ]

    return load(changed(folder, small_tokenizer, add))


def test_further_special_tokens_are_found_in_a_text_and_those_in_a_role_are_text(small_tokenizer, tmp_path):
    tokenizer, size = marked(tmp_path, small_tokenizer), small_tokenizer.vocab_size
    for again in (tokenizer, pickle.loads(pickle.dumps(tokenizer))):
        ids = again.encode_lines(["[E1] the [/E1] [SEP]"]).ids.tolist()
        assert ids[0] == size and size + 1 in ids and again.sep_id not in ids
        assert {size, size + 1} <= {*again.special_ids.tolist()} and not {size, size + 1} & {
            *again.ordinary_ids.tolist()
        }
    tokenizer.save(tmp_path, 16)
    saved = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    assert [token["special"] for token in saved if token["content"] in ("[E1]", "[/E1]")] == [True, True]
    assert load(tmp_path).encode_lines(["[E1] the"]).ids.tolist() == tokenizer.encode_lines(["[E1] the"]).ids.tolist()
    assert small_tokenizer.markers == []


@pytest.mark.parametrize("file", ["tokenizer_config.json", "config.json"])
@pytest.mark.parametrize("name", ["BertJapaneseTokenizer", "KoBertTokenizer", "RobertaTokenizer"])
def test_a_vocab_txt_that_is_read_otherwise_is_refused(name, file, tmp_path, capfd):
    folder = vocab_txt(tmp_path / "v")
    (folder / file).write_text(json.dumps({"tokenizer_class": name}))
    assert f"'{folder}' is for {name}, which splits texts in its own way" in fault_of(folder, capfd)


@pytest.mark.parametrize("name", ["BertTokenizer", "BertTokenizerFast", "ElectraTokenizerFast", None])
def test_a_vocab_txt_that_is_read_as_bert_s_is_not(name, tmp_path):
    assert load(vocab_txt(tmp_path / "v", do_lower_case=False, tokenizer_class=name)).encode("the cat")


def test_pieces_of_sentencepiece_are_no_wordpieces(tmp_path, capfd):
    tokens = [*VOCABULARY[:8], "\u2581the", "\u2581cat", "s"]
    assert "has SentencePiece's pieces" in fault_of(vocab_txt(tmp_path / "v", tokens), capfd)
