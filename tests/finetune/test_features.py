"""Alignment: labels go by the offsets of the tokenizer. The pieces are cut by hand."""

import unicodedata
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers

from bert.tokenizer import SPECIAL_TOKENS, Tokenizer, TokenizerConfig, train
from finetune.example_kinds import Labelled, Question, Tagged
from finetune.features import (
    Window,
    character_tags,
    of_labelled,
    of_questions,
    of_tagged,
    pack,
    tags_of_units,
    windows,
)
from finetune.metrics import spans_of
from finetune.tasks.ner import entities_of
from finetune.tasks.question_answering import answer_tokens
from finetune.units import UNITS


def tokens(feature, tokenizer) -> list[str]:
    return [tokenizer.token(number) for number in feature.token_ids]


def texts(units, text) -> list[str]:
    return [text[start:end] for _, start, end in units]


def test_pieces_carry_their_place_in_the_text(pieces):
    ids, units = UNITS["wordpiece"]("서울시에  갔다.", pieces)
    assert [pieces.token(number) for number in ids] == ["서울", "##시", "##에", "갔", "##다", "."]
    assert units == [(0, 0, 2), (1, 2, 3), (2, 3, 4), (3, 6, 7), (4, 7, 8), (5, 8, 9)]


def test_a_text_that_is_put_together_before_it_is_cut_keeps_its_own_places(pieces):
    decomposed = "\u1109\u1165\u110b\u116e\u11af ran"  # the jamo of 서울: NFC makes five code points two
    ids, units = UNITS["wordpiece"](decomposed, pieces)
    assert [pieces.token(number) for number in ids] == ["서울", "ran"]
    assert texts(units, decomposed) == [decomposed[:5], "ran"]


def test_a_mask_in_the_text_is_text(pieces):
    for name, unit in UNITS.items():
        ids, _ = unit("the [MASK] sat", pieces)
        assert pieces.mask_id not in ids, name


def test_characters_are_tokens_of_their_own_and_spaces_are_none(pieces):
    ids, units = UNITS["character"]("서울 갔다", pieces)
    assert [pieces.token(number) for number in ids] == ["서", "##울", "갔", "##다"]
    assert units == [(0, 0, 1), (1, 1, 2), (2, 3, 4), (3, 4, 5)]


def test_a_character_that_the_vocabulary_never_sees_is_no_unit(pieces):
    ids, units = UNITS["character"]("서\u200b울", pieces)
    assert [pieces.token(number) for number in ids] == ["서", "##울"]
    assert units == [(0, 0, 1), (1, 2, 3)]


def test_a_character_that_is_known_only_as_a_beginning_is_taken_as_that(pieces):
    ids, _ = UNITS["character"]("갔갔", pieces)
    assert [pieces.token(number) for number in ids] == ["갔", "갔"]


def test_each_chinese_character_is_a_word_as_the_normaliser_has_it():
    text = "北京大学 abc京b"
    made = train([text] * 3, TokenizerConfig(vocab_size=60))
    ids, units = UNITS["character"](text, made)
    assert [made.token(number) for number in ids] == ["北", "京", "大", "学", "a", "##b", "##c", "京", "b"]
    assert [start for _, start, _ in units] == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert ids[:4] == made.encode(text)[1:5]  # as pieces have them


def test_a_word_stands_on_its_first_piece_and_reaches_to_the_next_space(pieces):
    text = "서울시에 갔다. the"
    ids, units = UNITS["word"](text, pieces)
    assert [pieces.token(ids[place]) for place, _, _ in units] == ["서울", "갔", "the"]
    assert texts(units, text) == ["서울시에", "갔다.", "the"]


def test_a_word_of_which_the_tokenizer_leaves_nothing_carries_no_tag(pieces):
    text = "the \u200b\ufffd cat"
    _, units = UNITS["word"](text, pieces)
    assert texts(units, text)[0] == "the" and texts(units, text)[-1] == "cat"


@pytest.mark.parametrize("unit", UNITS)
@given(text=st.text(alphabet="서울시에갔다 the.[]\u0301\u1109\u1165é漢\t", max_size=30))
def test_units_are_apart_in_order_and_on_their_own_tokens(pieces, unit, text):
    ids, units = UNITS[unit](text, pieces)
    assert all(0 <= place < len(ids) for place, _, _ in units)
    places = [place for place, _, _ in units]
    assert places == sorted(set(places))
    ends = [0, *(end for _, _, end in units)]
    assert all(before <= start < end for before, (_, start, end) in zip(ends, units, strict=False))


def test_a_piece_that_straddles_an_entity_s_end_takes_the_tag_of_its_beginning():
    entities = [(0, 1, "LC")]  # 서 alone, of 서울시에
    assert tags_of_units(entities, [(0, 0, 2), (1, 2, 3), (2, 3, 4)]) == ["B-LC", "O", "O"]


def test_a_piece_that_straddles_an_entity_s_beginning_does_not_begin_it():
    assert tags_of_units([(1, 4, "LC")], [(0, 0, 2), (1, 2, 3), (2, 3, 4)]) == ["O", "I-LC", "I-LC"]


def test_neighbouring_entities_of_one_type_stay_apart():
    characters = character_tags(4, {(0, 2, "PS"), (2, 4, "PS")})
    assert characters == ["B-PS", "I-PS", "B-PS", "I-PS"]
    assert spans_of(characters) == {(0, 2, "PS"), (2, 4, "PS")}


@given(st.lists(st.sampled_from(["O", "B-A", "I-A", "B-B", "I-B"]), min_size=1, max_size=12))
def test_tagging_every_character_right_gives_back_the_entities(tags):
    tags = ["O" if t[0] == "I" and (p[2:] != t[2:]) else t for p, t in zip(["O", *tags], tags, strict=False)]
    entities = spans_of(tags)
    units = [(place, place, place + 1) for place in range(len(tags))]
    assert tags_of_units(sorted(entities), units) == character_tags(len(tags), entities)
    assert entities_of(units, tags_of_units(sorted(entities), units)) == entities


def test_a_predicted_stray_inside_tag_begins_an_entity():
    units = [(0, 0, 2), (1, 3, 5), (2, 6, 8)]
    assert entities_of(units, ["O", "I-PS", "I-LC"]) == {(3, 5, "PS"), (6, 8, "LC")}


def test_a_long_text_is_read_in_windows_and_each_unit_tagged_where_it_is_most_central(pieces):
    text = "the cat sat on a mat"
    found = of_tagged([Tagged(1, text, [], None)], pieces, 6, "wordpiece")
    assert [tokens(feature, pieces) for feature in found] == [
        ["[CLS]", "the", "cat", "sat", "on", "[SEP]"],
        ["[CLS]", "sat", "on", "a", "mat", "[SEP]"],
    ]
    # sat is the third of four in the first window, and the first in the second; on is the other way round.
    assert [texts(feature.units, text) for feature in found] == [["the", "cat", "sat"], ["on", "a", "mat"]]
    assert [[place for place, _, _ in feature.units] for feature in found] == [[1, 2, 3], [2, 3, 4]]


def test_windows_without_overlap_lie_side_by_side():
    assert windows(5, 9) == [Window(0, 5, range(5))]
    found = windows(10, 4, overlap=0)
    assert [(w.start, w.end, w.central) for w in found] == [
        (0, 4, range(0, 4)),
        (4, 8, range(4, 7)),
        (6, 10, range(7, 10)),  # the last one ends with the text, and shares 6 and 7
    ]


@given(st.integers(1, 200), st.integers(1, 40), st.integers(0, 40))
def test_every_token_is_central_in_one_window_and_nowhere_more_so(length, room, overlap):
    found = windows(length, room, overlap)
    assert [token for window in found for token in window.central] == list(range(length))

    def to_edge(token: int, window: Window) -> float:
        """How many tokens it sees on the side where it sees fewer; an end of the text is no edge."""
        left = token - window.start if window.start else length
        right = window.end - 1 - token if window.end < length else length
        return min(left, right) if window.start <= token < window.end else -1

    for window in found:
        assert window.end - window.start == min(room, length)
        assert all(to_edge(t, window) >= max(to_edge(t, other) for other in found) for t in window.central)


def asked(text: str, question: str = "the cat", *answers: tuple[int, int]) -> Question:
    return Question(1, "q", question, text, answers)


def test_a_question_stands_before_each_window_of_its_text(pieces):
    found = of_questions([asked("a mat sat on the dog", "cat")], pieces, 8)
    assert [tokens(feature, pieces) for feature in found] == [
        ["[CLS]", "cat", "[SEP]", "a", "mat", "sat", "on", "[SEP]"],
        ["[CLS]", "cat", "[SEP]", "sat", "on", "the", "dog", "[SEP]"],
    ]
    assert found[1].segment_ids == [0, 0, 0, 1, 1, 1, 1, 1]
    assert found[1].units == ((3, 6, 9), (4, 10, 12), (5, 13, 16), (6, 17, 20))


def test_a_long_question_is_cut_and_leaves_half_of_the_sequence_to_the_text(pieces):
    (found,) = of_questions([asked("a mat", "the cat sat on the dog")], pieces, 8)
    assert tokens(found, pieces) == ["[CLS]", "the", "cat", "[SEP]", "a", "mat", "[SEP]"]
    assert found.cut == 4


def test_an_answer_is_told_by_the_tokens_that_cover_it_where_the_window_holds_it_whole(pieces):
    text = "a mat sat on the dog"
    whole, second = of_questions([asked(text, "cat")], pieces, 8)
    assert answer_tokens(whole, ((2, 9),)) == (4, 5)  # mat sat
    assert answer_tokens(whole, ((3, 5),)) == (4, 4)  # "at", inside mat
    assert answer_tokens(whole, ((10, 16),)) == (0, 0)  # on the: the window ends before
    assert answer_tokens(second, ((10, 16),)) == (4, 5)
    assert answer_tokens(second, ((2, 9),)) == (0, 0)
    assert answer_tokens(second, ()) == (0, 0)


def test_the_middle_of_a_word_longer_than_a_sequence_makes_none(pieces):
    text = "서울" + "시" * 9 + " cat"  # 1 + 9 pieces, and one
    found = of_tagged([Tagged(1, text, [], None)], pieces, 6, "word")
    assert [texts(feature.units, text) for feature in found] == [["서울" + "시" * 9], ["cat"]]


def test_of_a_pair_the_longer_text_is_cut_first(pieces):
    pair = Labelled(1, "the cat sat on a mat", "dog ran", "1")
    found = of_labelled([pair], pieces, 9)[0]
    assert tokens(found, pieces) == ["[CLS]", "the", "cat", "sat", "on", "[SEP]", "dog", "ran", "[SEP]"]
    assert (found.segment_ids, found.cut) == ([0] * 6 + [1] * 3, 2)
    other = of_labelled([Labelled(1, "dog ran", "the cat sat on a mat", "1")], pieces, 9)[0]
    assert tokens(other, pieces) == ["[CLS]", "dog", "ran", "[SEP]", "the", "cat", "sat", "on", "[SEP]"]


def test_two_long_texts_are_cut_to_one_length(pieces):
    found = of_labelled([Labelled(1, "the cat sat on a mat", "the dog ran on a mat", "1")], pieces, 9)[0]
    assert tokens(found, pieces) == ["[CLS]", "the", "cat", "sat", "[SEP]", "the", "dog", "ran", "[SEP]"]


def test_a_batch_knows_which_tokens_stand_for_units(pieces):
    examples = [Tagged(1, "서울시에 갔다", [], None), Tagged(2, "the cat", [], None)]
    batch = pack(of_tagged(examples, pieces, 8, "word"))
    assert batch.cu_seqlens.tolist() == [0, 7, 11]  # [CLS] 서울 ##시 ##에 갔 ##다 [SEP] and [CLS] the cat [SEP]
    assert batch.position_ids.tolist() == [*range(7), *range(4)]
    assert batch.targets["tag_index"].tolist() == [1, 4, 8, 9]
    assert batch.targets["cu_units"].tolist() == [0, 2, 4]
    assert batch.max_seqlen == 7  # not more than a text has, whatever there is room for: a GPU attends over so many
    marked = batch.token_ids.index_select(0, batch.targets["tag_index"])
    assert torch.equal(marked, torch.tensor([pieces.backend.token_to_id(t) for t in ("서울", "갔", "the", "cat")]))


def byte_level() -> Tokenizer:
    """Every character in its UTF-8 bytes, a piece each; the space before a word is a piece too."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {token: number for number, token in enumerate([*SPECIAL_TOKENS, *sorted(alphabet)])}
    backend = Backend(models.BPE(vocabulary, [], unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return Tokenizer(backend)


def metaspace() -> Tokenizer:
    """Words with the space before them, and characters."""
    words = [*SPECIAL_TOKENS, "\u2581서울", "에", "나는", "산다", "\u2581", *"나는서울에산다"]
    pieces = [(word, 0.0 if len(word) > 1 else -5.0) for word in dict.fromkeys(words)]
    backend = Backend(models.Unigram(pieces, 1, False))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    return Tokenizer(backend)


def jamo() -> Tokenizer:
    """A vocabulary whose cleaning takes Hangul apart."""
    letters = sorted(set(unicodedata.normalize("NFD", "나는서울에산다")))
    tokens = [*SPECIAL_TOKENS, *letters, *(f"##{letter}" for letter in letters)]
    backend = Backend(models.WordPiece({token: number for number, token in enumerate(tokens)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return Tokenizer(backend)


@pytest.mark.parametrize("make", [byte_level, metaspace, jamo], ids=lambda make: make.__name__)
def test_pieces_smaller_or_larger_than_a_character_tag_each_character_once(make):
    text, entities = "나는 서울에 산다", {(3, 5, "LOC")}
    _, units = UNITS["wordpiece"](text, make())
    assert all(start < end and text[start:end] == text[start:end].strip() for _, start, end in units)
    assert all(before[2] <= after[1] for before, after in pairwise(units))
    assert "".join(text[start:end] for _, start, end in units) == text.replace(" ", "")
    assert entities_of(units, tags_of_units(sorted(entities), units)) == entities


def test_a_word_is_represented_by_its_first_piece_though_that_includes_the_space_before_it():
    ids, units = UNITS["word"]("나는 서울에 산다", tokenizer := metaspace())
    said = [
        (tokenizer.token(ids[place]), text)
        for (place, *_), text in zip(units, texts(units, "나는 서울에 산다"), strict=True)
    ]
    assert said == [("나는", "나는"), ("\u2581서울", "서울에"), ("산다", "산다")]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_character_written_as_several_is_one_unit(form):
    tokenizer = train(["서울에 갔다 café"] * 3, TokenizerConfig(vocab_size=60))
    text = unicodedata.normalize(form, "서울 é")
    ids, units = UNITS["character"](text, tokenizer)
    assert [tokenizer.token(number) for number in ids] == ["서", "##울", tokenizer.token(ids[2])]
    assert [unicodedata.normalize("NFC", said) for said in texts(units, text)] == ["서", "울", "é"]
    assert tokenizer.unk_id not in ids[:2]


@pytest.mark.parametrize("word", ["नेहरू", "กระบี่", "café"])
def test_marks_that_an_uncased_tokenizer_strips_belong_to_their_word(word):
    tokenizer = train([word, "x"] * 3, TokenizerConfig(vocab_size=60, lowercase=True, strip_accents=True))
    _, units = UNITS["wordpiece"](f"{word} x", tokenizer)
    assert units[-2][2] == len(word)


def test_what_is_not_composed_is_a_unit_for_each_code_point():
    tokenizer = train(["ก่อน น้ำ"] * 3, TokenizerConfig(vocab_size=60))  # Thai tone marks stand alone
    assert texts(UNITS["character"]("ก่อน", tokenizer)[1], "ก่อน") == list("ก่อน")


@given(
    first=st.integers(1, 9),
    second=st.integers(1, 9),
    most=st.integers(8, 16),
)
def test_a_pair_too_long_keeps_the_tokens_that_transformers_keeps(first, second, most, pieces):
    backend = Backend.from_str(pieces.backend.to_str())
    backend.enable_truncation(most, strategy="longest_first")
    a, b = " ".join(["the"] * first), " ".join(["sat"] * second)
    (feature,) = of_labelled([Labelled(1, a, b, None)], pieces, most)
    theirs = backend.encode(a, b)
    assert (feature.token_ids, feature.segment_ids) == (theirs.ids, theirs.type_ids)
