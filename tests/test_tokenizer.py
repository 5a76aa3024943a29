import hashlib
import pickle
import random
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from bert.errors import UserError
from bert.tokenizer import SPECIAL_TOKENS, Tokenizer, TokenizerConfig, check, train
from bert.tokenizer_files import load

KOREAN = [
    "모델은 문장을 읽고 다음 문장을 예측한다.",
    "한국어 말뭉치로 토크나이저를 학습했다.",
    "단어의 일부가 가려지면 모델이 그것을 맞힌다.",
]
ENGLISH = ["The model reads a sentence and predicts the next one.", "Café déjà vu, naïve résumé: COVID-19!", "the café"]
LINES = [*KOREAN, *ENGLISH] * 3

TRICKY = [
    "",
    " ",
    "모델은 BERT를 2018년에(구글) 배웠다.",
    unicodedata.normalize("NFD", "한국어 문장 café"),
    "tab\tand\u00a0no-break\u3000wide space",
    "汉字没有空格 and かなカナ",
    "emoji 😀👨\u200d👩\u200d👧 and flags 🇰🇷!",
    "a" * 150 + " b",
    "C++ isn't 3.14% of x_y-z... «quoted» “curly”",
    "the literal [mask] and [ MASK ]",
    "zero\u200bwidth\ufeff\x00\x07 control",
    "ㅋㅋㅋ ㅠㅠ 앍힣",
    "x\u0301y\u0323",  # accents that have no composed letter
    "trailing   spaces   ",
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train(LINES, TokenizerConfig(vocab_size=400))


@pytest.fixture(scope="module")
def plain() -> Tokenizer:
    """Lower-case, without accents."""
    return train(LINES, TokenizerConfig(vocab_size=400, lowercase=True, strip_accents=True))


def pieces(tokenizer: Tokenizer, line: str) -> list[str]:
    return [tokenizer.token(number) for number in tokenizer.encode_lines([line]).ids]


def words(tokenizer: Tokenizer, line: str) -> list[str]:
    """The pieces put together where no word starts, without their ## marks."""
    encoded, found = tokenizer.encode_lines([line]), []
    for number, start in zip(encoded.ids, encoded.word_starts, strict=True):
        piece = tokenizer.token(number)
        if start:
            found.append(piece)
        else:
            found[-1] += piece.removeprefix("##")
    return found


# Text as it is read.


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("which", ["tokenizer", "plain"])
def test_hangul_is_composed_however_it_comes_in(which, form, request):
    line = unicodedata.normalize(form, KOREAN[0])
    text = "".join(words(request.getfixturevalue(which), line))
    assert text == KOREAN[0].replace(" ", "")
    assert all("가" <= character <= "힣" or character == "." for character in text)


def test_case_and_accents_are_kept_by_default(tokenizer):
    assert words(tokenizer, "Café The the café déjà") == ["Café", "The", "the", "café", "déjà"]


def test_case_and_accents_go_when_that_is_asked_for(plain):
    assert words(plain, "CAFÉ The DÉJÀ") == ["cafe", "the", "deja"]


@pytest.mark.parametrize(
    "config, expected",
    [
        (TokenizerConfig(vocab_size=400, lowercase=True), ["café", "naïve"]),
        (TokenizerConfig(vocab_size=400, strip_accents=True), ["Cafe", "naive"]),
    ],
)
def test_case_and_accents_are_two_choices(config, expected):
    assert words(train(LINES, config), "Café naïve") == expected


def test_punctuation_and_chinese_characters_are_words_of_their_own(tokenizer):
    encoded = tokenizer.encode_lines(["모델은(문장) 汉字"])
    text = ["모델은", "(", "문장", ")", "汉", "字"]
    assert encoded.word_starts.sum() == len(text)


@pytest.mark.parametrize("line", TRICKY)
def test_words_start_where_the_pre_tokenizer_says_so(tokenizer, line):
    backend = Backend.from_str(tokenizer.backend.to_str())
    backend.encode_special_tokens = True
    split = backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(line))
    encoded = tokenizer.encode_lines([line])
    assert encoded.word_starts.sum() == len(split)
    assert [word for word in words(tokenizer, line) if word != "[UNK]"] == [
        word for (word, _), got in zip(split, words(tokenizer, line), strict=True) if got != "[UNK]"
    ]


def test_a_word_of_more_than_100_characters_is_one_unknown_token(tokenizer):
    assert pieces(tokenizer, "a" * 101) == ["[UNK]"]
    assert "[UNK]" not in pieces(tokenizer, "a" * 100)


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_a_special_token_written_in_the_text_is_text(tokenizer, token):
    encoded = tokenizer.encode_lines([f"the {token} model"])
    assert not set(encoded.ids.tolist()) & set(tokenizer.special_ids.tolist()) - {tokenizer.unk_id}
    assert encoded.word_starts.sum() == 5  # the, [, the name, ], model


def test_a_mask_in_a_question_to_the_model_is_the_mask(tokenizer):
    ids = tokenizer.encode("the [MASK] reads")
    assert ids[0] == tokenizer.cls_id
    assert ids[-1] == tokenizer.sep_id
    assert ids.count(tokenizer.mask_id) == 1


def test_questions_and_lines_do_not_disturb_each_other(tokenizer):
    line, question = tokenizer.encode_lines(["a [MASK] b"]).ids.tolist(), tokenizer.encode("a [MASK] b")
    assert tokenizer.encode_lines(["a [MASK] b"]).ids.tolist() == line
    assert tokenizer.encode("a [MASK] b") == question
    assert tokenizer.mask_id not in line


@given(st.lists(st.sampled_from(TRICKY) | st.text(max_size=12), max_size=8))
def test_lines_are_encoded_each_for_itself(tokenizer, lines):
    together = tokenizer.encode_lines(lines)
    alone = [tokenizer.encode_lines([line]) for line in lines]
    assert together.lengths.tolist() == [len(one.ids) for one in alone]
    assert together.ids.tolist() == [number for one in alone for number in one.ids]
    assert together.word_starts.tolist() == [start for one in alone for start in one.word_starts]
    assert all(one.word_starts[0] for one in alone if len(one.ids))


def test_no_lines_are_no_tokens(tokenizer):
    encoded = tokenizer.encode_lines([])
    assert (encoded.ids.tolist(), encoded.word_starts.tolist(), encoded.lengths.tolist()) == ([], [], [])


def test_ids_become_text_again(tokenizer):
    for line in (*KOREAN, ENGLISH[0]):
        decoded = tokenizer.decode(tokenizer.encode_lines([line]).ids.tolist())
        assert decoded.replace(" ", "") == line.replace(" ", "")
    assert tokenizer.decode([tokenizer.mask_id]) == "[MASK]"


# The vocabulary.


def test_special_tokens_have_the_first_five_ids(tokenizer):
    ids = (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id)
    assert ids == (0, 1, 2, 3, 4)
    assert [tokenizer.token(number) for number in ids] == list(SPECIAL_TOKENS)
    assert tokenizer.special_ids.tolist() == [0, 1, 2, 3, 4]


def test_ordinary_ids_are_all_the_others(tokenizer):
    assert tokenizer.ordinary_ids.tolist() == list(range(5, tokenizer.vocab_size))


def word_level(tokens: list[str]) -> Backend:
    backend = Backend(models.WordLevel({token: number for number, token in enumerate(tokens)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return backend


def test_ordinary_ids_leave_out_unused_and_added_special_tokens_wherever_they_are():
    backend = word_level(["text", "[unused0]", "[SEP]", "[CLS]", "more", "[MASK]", "[UNK]", "[PAD]", "[unused17]"])
    backend.add_special_tokens(["[SPEAKER]"])
    backend.add_tokens([AddedToken("BTS", normalized=False)])
    tokenizer = Tokenizer(backend)
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id) == (
        7,
        6,
        3,
        2,
        5,
    )
    assert tokenizer.special_ids.tolist() == [2, 3, 5, 6, 7, 9]
    assert tokenizer.ordinary_ids.tolist() == [0, 4, 10]
    assert tokenizer.vocab_size == 11


def test_the_size_counts_gaps_in_the_ids():
    backend = Backend(models.WordLevel({token: 10 * n for n, token in enumerate(SPECIAL_TOKENS)}, unk_token="[UNK]"))
    assert Tokenizer(backend).vocab_size == 41


def test_the_vocabulary_is_as_large_as_asked_for_where_there_is_enough_text():
    rng = random.Random(0)
    lines = [" ".join("".join(rng.choices("abcdefgh", k=6)) for _ in range(20)) for _ in range(200)]
    assert train(lines, TokenizerConfig(vocab_size=300)).vocab_size == 300


def test_characters_beyond_the_most_frequent_become_unknown():
    lines = ["a a a a b b b c"] * 10
    tokenizer = train(lines, TokenizerConfig(vocab_size=100, max_characters=2))
    assert pieces(tokenizer, "a b c") == ["a", "b", "[UNK]"]


def test_a_piece_seen_too_seldom_gets_no_entry():
    lines = ["often"] * 4 + ["seldom"] * 3
    by_frequency = [
        set(train(lines, TokenizerConfig(vocab_size=200, min_frequency=n)).backend.get_vocab()) for n in (3, 4)
    ]
    assert {"often", "seldom"} <= by_frequency[0]
    assert {"often"} == {"often", "seldom"} & by_frequency[1]


@pytest.mark.parametrize("size", [0, 5, 99])
def test_a_vocabulary_too_small_is_refused(size):
    faults = check(TokenizerConfig(vocab_size=size))
    assert faults == [f"tokenizer.vocab_size: {size}, but it must be at least 100."]


def test_training_again_gives_the_same_vocabulary():
    rng = random.Random(0)
    lines = [" ".join("".join(rng.choices("abcdefgh", k=6)) for _ in range(20)) for _ in range(50)]
    vocabularies = [train(lines, TokenizerConfig(vocab_size=300)).backend.get_vocab() for _ in range(3)]
    assert vocabularies[0] == vocabularies[1] == vocabularies[2]


# Sentences of documents.


def bytes_with_their_space(text: str) -> Tokenizer:
    """As GPT-2 and RoBERTa have it: a piece holds the space before it."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        [text] * 3, trainers.BpeTrainer(special_tokens=list(SPECIAL_TOKENS), initial_alphabet=alphabet)
    )
    return Tokenizer(backend)


def test_of_bytes_a_sentence_has_the_ids_that_it_has_behind_another():
    made = bytes_with_their_space("The cat sat. The dog ran. 서울")
    encoded = made.encode_documents([["The cat sat.", "The dog ran."], ["서울", "The cat"]])
    assert (
        encoded.ids.tolist() == made.encode_text("The cat sat. The dog ran.").ids + made.encode_text("서울 The cat").ids
    )
    words = [made.token(number) for number, begins in zip(encoded.ids, encoded.word_starts, strict=True) if begins]
    assert words[:4] == ["The", "Ġcat", "Ġsat", "."] and words[4] == "ĠThe"
    assert made.fingerprint != hashlib.sha256(made.backend.to_str().encode()).hexdigest()


def test_elsewhere_a_sentence_has_its_own_ids(tokenizer):
    alone = [number for line in LINES for number in tokenizer.encode_lines([line]).ids.tolist()]
    assert tokenizer.encode_documents([LINES[:2], LINES[2:]]).ids.tolist() == alone
    assert tokenizer.fingerprint == hashlib.sha256(tokenizer.backend.to_str().encode()).hexdigest()
    marked = Backend(models.Unigram([("[UNK]", 0.0), ("\u2581a", -1.0), ("a", -2.0), ("\u2581", -3.0)], 0, False))
    marked.add_special_tokens(list(SPECIAL_TOKENS))
    marked.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    assert Tokenizer(marked).between_sentences == ""


# Saving and loading.


@pytest.mark.parametrize("which", ["tokenizer", "plain"])
def test_transformers_reads_a_saved_tokenizer_with_the_same_ids(which, request, tmp_path):
    from transformers import AutoTokenizer

    ours = request.getfixturevalue(which)
    ours.save(tmp_path, max_length=64)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for line in [*TRICKY, *LINES]:
        expected = [ours.cls_id, *ours.encode_lines([line]).ids.tolist(), ours.sep_id]
        assert theirs(line)["input_ids"] == expected == ours.encode(line)
    assert theirs("the [MASK]")["input_ids"] == ours.encode("the [MASK]")
    assert (theirs.mask_token_id, theirs.pad_token_id, theirs.model_max_length) == (4, 0, 64)


def test_transformers_gives_pairs_their_segments(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.save(tmp_path, max_length=64)
    pair = AutoTokenizer.from_pretrained(tmp_path)(KOREAN[0], KOREAN[1])
    a, b = (tokenizer.encode_lines([line]).ids.tolist() for line in KOREAN[:2])
    assert pair["input_ids"] == [2, *a, 3, *b, 3]
    assert pair["token_type_ids"] == [0] * (len(a) + 2) + [1] * (len(b) + 1)


def test_a_saved_tokenizer_loads_from_its_folder_and_from_its_file(tokenizer, tmp_path):
    tokenizer.save(tmp_path, max_length=64)
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        assert load(path).fingerprint == tokenizer.fingerprint


def test_a_loaded_tokenizer_neither_pads_nor_truncates(tokenizer, tmp_path):
    backend = Backend.from_str(tokenizer.backend.to_str())
    backend.enable_padding(length=50)
    backend.enable_truncation(4)
    backend.save(str(tmp_path / "tokenizer.json"))
    assert load(tmp_path).encode_lines([KOREAN[0]]).ids.tolist() == tokenizer.encode_lines([KOREAN[0]]).ids.tolist()


def test_the_fingerprint_changes_with_what_is_read_and_with_nothing_else(tokenizer, plain, tmp_path):
    before = tokenizer.fingerprint
    tokenizer.encode_lines(LINES)
    tokenizer.encode("[MASK]")
    tokenizer.save(tmp_path, max_length=64)
    assert tokenizer.fingerprint == before != plain.fingerprint


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"tokenizer\.path: no such file: '.*missing\.json'"):
        load(tmp_path / "missing.json")
    with pytest.raises(UserError, match=r"tokenizer\.path: no such file: '.*tokenizer\.json'"):
        load(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", "[PAD]\n[UNK]\n", '{"version": "1.0", "model": {"type": "Other"}}'])
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(UserError, match=r"tokenizer\.path: '.*tokenizer\.json' is not a tokenizer: "):
        load(tmp_path)


def test_a_vocabulary_without_the_special_tokens_is_refused_by_all_their_names(tmp_path):
    word_level(["[UNK]", "[CLS]", "text"]).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match=r"tokenizer\.path: the vocabulary has no \[PAD\], \[SEP\], \[MASK\]\."):
        load(tmp_path)


@given(line=st.text(st.sampled_from("# 가서a울.#\t-漢é"), max_size=25))
def test_pieces_tell_where_words_begin_just_as_the_pre_tokenizer_does(tokenizer, line):
    quick = tokenizer.encode_lines([line, line])
    assert tokenizer._begins_word is not None
    encoding = tokenizer.encode_text(line)
    words = encoding.word_ids
    starts = [place == 0 or words[place] != words[place - 1] for place in range(len(words))]
    assert quick.ids.tolist() == encoding.ids * 2
    assert quick.word_starts.tolist() == starts * 2


def test_another_pre_tokenizer_is_asked_for_its_word_numbers():
    vocabulary = {token: number for number, token in enumerate([*SPECIAL_TOKENS, "a", "##a"])}
    backend = Backend(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = Tokenizer(backend)
    encoded = tokenizer.encode_lines(["##a a aa"])
    assert [tokenizer.token(number) for number in encoded.ids] == ["##a", "a", "a", "##a"]
    assert encoded.word_starts.tolist() == [True, True, True, False]


def test_threads_may_encode_at_the_same_time(tokenizer):
    """As a served model does, one request in each thread: [MASK] must stay a mask in one and text in the other."""
    lines = [" ".join(["the cat sat on the mat"] * 50)] * 200

    def encode(number: int) -> int:
        return len(tokenizer.encode("the [MASK] cat") if number % 4 == 0 else tokenizer.encode_lines(lines).ids)

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(encode, range(24)))) == 2


def test_a_copy_takes_special_tokens_in_a_text_for_text_too(tokenizer, tmp_path):
    """Loader workers get a copy."""
    lines = ["the [MASK] cat"]
    expected = tokenizer.encode_lines(lines).ids.tolist()
    assert tokenizer.mask_id not in expected
    tokenizer.save(tmp_path, 8)
    for copy in (pickle.loads(pickle.dumps(tokenizer)), deepcopy(tokenizer), tokenizer):
        assert copy.encode_lines(lines).ids.tolist() == expected
        assert copy.mask_id in copy.encode(lines[0])
