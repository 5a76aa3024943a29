import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert.sentence_splitter import split_sentences

TEXT = st.text(st.sampled_from(list('ab A가。！？.!?…"”)( \n\r\t\u2028 1')) | st.characters(), max_size=60)


@pytest.mark.parametrize(
    "text, sentences",
    [
        ("It rained. We left! Why? So…  And on.", ["It rained.", "We left!", "Why?", "So…", "And on."]),
        ("비가 왔다. 우리는 갔다! 왜요? 음… 그래.", ["비가 왔다.", "우리는 갔다!", "왜요?", "음…", "그래."]),
        ("这是一。这是二！“是吗？”他问。", ["这是一。", "这是二！", "“是吗？”", "他问。"]),
        ('He said "Stop." Then (yes.) he left.', ['He said "Stop."', "Then (yes.) he left."]),
        ("“좋아.” 그는 말했다. (끝.) 다음", ["“좋아.”", "그는 말했다.", "(끝.)", "다음"]),
        ("one\ntwo\r\n\n three", ["one", "two", "three"]),
        ("", []),
        (" \n\t ", []),
    ],
)
def test_a_sentence_ends_after_its_marks_and_their_closing_quotes_and_at_a_newline(text, sentences):
    assert split_sentences(text) == sentences


@pytest.mark.parametrize(
    "sentence",
    [
        "Use a list, e.g. this one, i.e. [1, 2].",
        "Dr. Smith met Mrs. Jones vs. Prof. Kim.",
        "J. R. R. Tolkien met the U.S. Navy.",
        "See No. 5 and Fig. 3 on pp. 4 to 9.",
        "Pi is 3.14 and not 3.2 at all.",
        "Bread, milk, etc. were sold by Ito et al. in May.",
        "2017. 8. 25. 에 만났다.",
        "1. The first of the list.",
        "가. 첫째 항목입니다.",
        '"What?" he asked.',
        "Well... perhaps not.",
        "www.example.com and a.b.c stay.",
    ],
)
def test_abbreviations_initials_numbers_and_enumerators_end_nothing(sentence):
    assert split_sentences(sentence) == [sentence]


def test_a_word_that_only_abbreviates_before_a_number_ends_a_sentence_elsewhere():
    assert split_sentences("No. I was born in 1999. It was May. 5 p.m. It was.") == [
        "No.",
        "I was born in 1999.",
        "It was May.",
        "5 p.m.",
        "It was.",
    ]


def test_marks_without_a_word_stay_with_their_sentence():
    assert split_sentences("그래요 . 네 . . . !") == ["그래요 .", "네 . . . !"]
    assert split_sentences("... ...") == ["... ..."]


@given(TEXT)
def test_nothing_but_white_space_is_lost_and_sentences_come_stripped(text):
    sentences = split_sentences(text)
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(sentence == sentence.strip() != "" and "\n" not in sentence for sentence in sentences)


@given(TEXT)
def test_a_sentence_is_not_split_again_into_other_words(text):
    whole = text.replace("。", ".").replace("！", "!").replace("？", "?")  # those split without white space
    assert " ".join(split_sentences(whole)).split() == whole.split()


@pytest.mark.parametrize("piece", [".", ". ", "a. ", "e.g. ", "1. ", '."', "。"])
def test_a_long_run_of_marks_takes_time_in_proportion(piece):
    split_sentences(piece * 200_000)  # hours, were it quadratic
