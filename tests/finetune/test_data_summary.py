"""What is said of the training data before training, counted by hand."""

from pathlib import Path

import pytest

from finetune.data_summary import (
    alike_in_words,
    asked_windows_in_words,
    classes_in_words,
    cut_in_words,
    cut_questions_in_words,
    entities_in_words,
    header_in_words,
    in_words,
    left_out_in_words,
    lengths_in_words,
    lengths_of,
    line_ends_in_words,
    measurements_in_words,
    no_token_in_words,
    numbers_in_words,
    numbers_of,
    one_number_in_words,
    percentile,
    questions_in_words,
    quoted_in_words,
    repeated_in_words,
    unknown_in_words,
    windows_in_words,
)
from finetune.example_kinds import Labelled, Question, Tagged
from finetune.examples import Examples
from finetune.features import Feature, of_labelled, of_questions, of_tagged


def labelled(*labels: str) -> list[Labelled]:
    return [Labelled(line, "text", None, label) for line, label in enumerate(labels, 2)]


def tagged(*tags: str) -> Tagged:
    """Words of a letter each."""
    text = " ".join("abcdefgh"[: len(tags)])
    return Tagged(1, text, [(2 * n, 2 * n + 1) for n in range(len(tags))], list(tags))


def feature(example: int, length: int, cut: int = 0, repeated: int = 2) -> Feature:
    return Feature(example, [0] * length, [0] * length, cut, (), repeated)


def test_labels_are_named_by_share_the_most_frequent_first():
    assert classes_in_words(labelled("b", "a", "b", "c")) == "labels: b 2 (50.0%), a 1 (25.0%), c 1 (25.0%)"


def test_of_many_labels_eight_are_named_and_the_rest_counted():
    labels = [name for number, name in enumerate("abcdefghij") for _ in range(10 - number)]  # a 10, b 9, ... j 1: 55
    said = classes_in_words(labelled(*labels))
    assert said.startswith("labels: a 10 (18.2%), b 9 (16.4%), ")
    assert said.endswith(", h 3 (5.5%) and 2 more, the rarest j 1")


def test_scores_are_numbers_and_said_by_their_spread():
    said = numbers_in_words(labelled("1.0", "2", "3.0", "5.0"))  # mean 11/4; squares 1 + 4 + 9 + 25 = 39
    assert said == "labels: numbers from 1 to 5, mean 2.750, deviation 1.479"  # sqrt(39/4 - 7.5625)


@pytest.mark.parametrize("labels", [["0", "1"], ["1.5", "good"], ["1.5", "nan"], ["-1", "+1"]])
def test_whole_numbers_and_words_are_names(labels):
    assert numbers_of(labels) is None


def test_entities_are_counted_by_type_and_sentences_without_any_too():
    examples = [tagged("B-PS", "I-PS", "O", "B-LC"), tagged("O", "O"), tagged("B-PS", "B-PS", "O")]
    assert entities_in_words(examples[:1]).endswith("; 0 of 1 sentence have none")
    assert entities_in_words(examples) == "entities: 4: PS 3 (75.0%), LC 1 (25.0%); 1 of 3 sentences has none"


def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed():
    assert [percentile(range(1, 11), share) for share in (50, 90, 91, 99, 100)] == [5, 9, 10, 10, 10]
    assert percentile([7], 50) == 7


def test_lengths_are_those_of_whole_texts_with_special_tokens():
    # The first is cut by 4; the second is read in three windows, each with [CLS] and [SEP], the last of which shares 3
    # tokens with the one before; none of the third.
    features = [feature(0, 8, cut=4), feature(1, 8), feature(1, 8), feature(1, 8, repeated=5)]
    assert lengths_of(3, features) == [12, 2 + 6 + 6 + 3, 0]


def test_lengths_are_said_by_percentile():
    said = lengths_in_words(list(range(1, 201)))
    assert said == "median 100 tokens; 90% have at most 180, 99% 198, the longest 200"


def test_what_cutting_loses_is_a_share_of_the_cut_texts_tokens():
    features = [feature(0, 8), feature(1, 8, cut=2), feature(2, 8, cut=6)]  # 8 of 24
    assert cut_in_words(features, 8) == "2 texts are cut to data.max_length=8, losing 33.3% of their tokens"
    assert cut_in_words(features[:1], 8) is None
    twice = [feature(0, 8, cut=8), feature(0, 8, cut=8)]
    assert cut_in_words(twice, 8) == "1 text is cut to data.max_length=8, losing 50.0% of their tokens"


def test_texts_in_several_sequences_are_counted_with_these():
    features = [feature(0, 8), feature(1, 8), feature(1, 4), feature(2, 8), feature(2, 8), feature(2, 3)]
    said = windows_in_words(features, 8)
    assert said == "2 texts are longer than data.max_length=8 and read in 5 sequences"
    assert windows_in_words(features[:1], 8) is None
    asked = "2 questions with their contexts are longer than data.max_length=8 and read in 5 sequences"
    assert asked_windows_in_words(features, 8, most=8) == asked
    one = "1 question with its context is longer than data.max_length=8 and read in 2 sequences"
    assert asked_windows_in_words(features[:3], 8, most=512) == one  # one of two is not more than half
    assert asked_windows_in_words(features[:1], 8, most=512) is None


def test_longer_sequences_are_advised_where_most_questions_have_several_and_the_model_can_read_them():
    features = [feature(0, 8), feature(1, 8), feature(1, 4), feature(2, 8), feature(2, 8), feature(2, 3)]  # 2 of 3
    said = {
        (length, most): asked_windows_in_words(features, length, most).partition("; ")[2]
        for length, most in ((128, 512), (128, 256), (256, 256), (384, 512))
    }
    assert said == {
        (128, 512): "--data.max_length 384 would read more of them whole",
        (128, 256): "--data.max_length 256 would read more of them whole",
        (256, 256): "",
        (384, 512): "",
    }


def test_texts_without_a_token_are_counted():
    assert no_token_in_words(2, [feature(0, 8), feature(1, 2)]) == "1 text has no tokens at all"
    assert no_token_in_words(3, [feature(0, 8), feature(1, 2)]) == "2 texts have no tokens at all"
    assert no_token_in_words(1, [feature(0, 8)]) is None
    of_pairs = [Feature(n, [0] * length, [0] * (length - 1) + [1]) for n, length in enumerate((3, 4))]
    assert no_token_in_words(2, of_pairs) == "1 text has no tokens at all"


def test_texts_of_several_lines_are_counted_and_the_longest_is_named():
    examples = [Labelled(2, "a\nb", None, "1"), Labelled(4, "a", None, "1"), Labelled(5, "a\nb\nc", None, "1")]
    assert line_ends_in_words(examples) == "2 texts are several lines long; the one at line 5 has 3"
    assert line_ends_in_words(examples[1:2]) is None


def test_classes_that_are_one_number_are_named_and_numbers_are_classes_all_the_same():
    assert one_number_in_words(["0", "0.0", "1", "1.0", "x"]) == (
        "WARNING: different classes, but the same number: '0' and '0.0'; '1' and '1.0'"
    )
    assert one_number_in_words(["0", "1", "x"]) is None
    assert classes_in_words(labelled("1.0", "2.0", "1.0")) == "labels: 1.0 2 (66.7%), 2.0 1 (33.3%)"


def test_classes_that_are_measurements_are_doubted():
    assert measurements_in_words(["0.5", "1.25", "3.0"], 4) == (
        "WARNING: 3 classes in 4 rows, all of them numbers: is this task.name=regression?"
    )
    assert measurements_in_words(["0.5", "1.25", "3.0"], 7) is None  # ratings
    assert measurements_in_words(["1", "2"], 2) is None and measurements_in_words(["a", "1.5"], 2) is None


def test_texts_that_occur_more_than_once_are_counted_and_those_with_different_labels_too():
    rows = [("a", "1"), ("b", "1"), ("a", "2"), ("c", "1"), ("b", "1.0"), ("b", "1")]
    examples = [Labelled(line, text, None, label) for line, (text, label) in enumerate(rows, 2)]
    assert repeated_in_words(examples) == "2 texts occur more than once, with different labels"
    assert repeated_in_words(examples, numbers=True) == "2 texts occur more than once, 1 of them with different labels"
    assert repeated_in_words(examples[:3]) == "1 text occurs more than once, with different labels"
    assert repeated_in_words([examples[1], examples[5]]) == "1 text occurs more than once, always with the same label"
    assert repeated_in_words(examples[:2]) is None


def test_pairs_occur_more_than_once_where_both_texts_are_the_same():
    pairs = [Labelled(2, "a", "b", "x"), Labelled(3, "a", "c", "x"), Labelled(4, "a", "b", "x")]
    assert repeated_in_words(pairs) == "1 pair of texts occurs more than once, always with the same label"
    assert repeated_in_words(pairs[:2]) is None


def test_classes_that_look_alike_are_named():
    assert alike_in_words(["Good", "good", "pos\u200b", "pos", "bad"]) == (
        "WARNING: different classes, but they look alike: 'Good' and 'good'; 'pos\\u200b' and 'pos'"
    )
    assert alike_in_words(["good", "bad"]) is None


def test_texts_that_a_writer_has_quoted_are_counted():
    texts = ['"he said ""no"""', '"', 'plain "words"', '"both ends"']
    said = quoted_in_words([Labelled(line, text, None, "1") for line, text in enumerate(texts, 2)])
    assert said.startswith("2 texts are in quotation marks, which are read as text; if the file uses quoting")
    assert quoted_in_words([Labelled(2, "plain", None, "1")]) is None


def test_what_the_vocabulary_lacks_is_said(pieces):
    used = [Labelled(2, "the unknowable cat", None, "1")]  # [CLS] the [UNK] cat [SEP]: 1 token of 5, 10 letters of 16
    said = unknown_in_words(used, of_labelled(used, pieces, 8), pieces)
    assert said == "WARNING: 62.50% of the texts' characters become [UNK] (20.00% of the tokens)"
    used = [Labelled(2, "the cat", None, "1")]
    assert unknown_in_words(used, of_labelled(used, pieces, 8), pieces) is None


def test_only_texts_that_lack_something_are_tokenised_again(pieces, monkeypatch):
    used = [Labelled(2, "the cat", "a snark", "1"), Labelled(3, "the cat", "a cat", "1")]
    features, again = of_labelled(used, pieces, 12), []
    monkeypatch.setattr(type(pieces), "encode_text", spied(type(pieces).encode_text, again))
    said = unknown_in_words(used, features, pieces)  # 5 letters of 6 + 6 + 4, 1 token of 7 + 7
    assert said == "WARNING: 31.25% of the texts' characters become [UNK] (7.14% of the tokens)"
    assert again == ["the cat", "a snark"]


def spied(encode_text, seen: list[str]):
    def encode(self, text: str, *rest):
        seen.append(text)
        return encode_text(self, text, *rest)

    return encode


def test_characters_that_carry_tags_are_lost_one_at_a_time(pieces):
    used = [Tagged(1, "a \u2603a", [(0, 1), (2, 3), (3, 4)], ["O", "O", "O"])]  # [CLS] a [UNK] a [SEP]
    said = unknown_in_words(used, of_tagged(used, pieces, 8, "character"), pieces, "character")
    assert said == "WARNING: 33.33% of the texts' characters become [UNK] (20.00% of the tokens)"


def test_a_context_of_several_questions_is_one_text(pieces):
    # Three times [CLS] dog [SEP] the cat [UNK] [SEP]; dog, the and cat have nine letters.
    used = [Question(n, str(n), "dog", "the cat \u2603", ((4, 7),)) for n in (1, 2, 3)]
    said = unknown_in_words(used, of_questions(used, pieces, 16), pieces)
    assert said == "WARNING: 10.00% of the texts' characters become [UNK] (14.29% of the tokens)"


def test_a_file_of_reviews_in_words(pieces):
    used = [Labelled(2, "a good film", None, "good"), Labelled(3, "a very very very very bad film", None, "bad")]
    said = in_words(Examples(Path("x.tsv"), used, 2, []), of_labelled(used, pieces, 8), 8, pieces, ["bad", "good"])
    assert said == [
        "data.train: labels: bad 1 (50.0%), good 1 (50.0%)",
        "data.train: lengths: median 5 tokens; 90% have at most 9, 99% 9, the longest 9",
        "data.train: 1 text is cut to data.max_length=8, losing 11.1% of their tokens",
    ]


def test_a_file_of_sentences_in_words(pieces):
    used = [Tagged(1, "the cat sat on a mat", [(4, 7)], ["B-ANIMAL"])]
    said = in_words(Examples(Path("x.conll"), used, 1, []), of_tagged(used, pieces, 6, "wordpiece"), 6, pieces, ["O"])
    assert said == [
        "data.train: entities: 1: ANIMAL 1 (100.0%); 0 of 1 sentence have none",
        "data.train: lengths: median 8 tokens; 90% have at most 8, 99% 8, the longest 8",
        "data.train: 1 text is longer than data.max_length=6 and read in 2 sequences",
    ]


def test_questions_are_counted_with_their_texts_and_those_without_an_answer():
    examples = [
        Question(1, "a", "?", "text", ((0, 4),)),
        Question(2, "b", "?", "text", ()),
        Question(3, "c", "?", "other", ((0, 1), (1, 2))),
    ]
    assert questions_in_words(examples) == "questions: 3 about 2 contexts; 1 (33.3%) have no answer"


def test_a_file_of_questions_in_words(pieces):
    """Two questions about one context: what is counted and measured is said."""
    # [CLS] dog [SEP] the cat sat on a mat [SEP]: 10 tokens; at 8 at most, four pieces of the context at a time.
    used = [Question(n, str(n), "dog", "the cat sat on a mat", ((4, 7),)) for n in (1, 2)]
    said = in_words(
        Examples(Path("x.json"), used, 2, []), of_questions(used, pieces, 8), 8, pieces, ["answer"], most=32
    )
    assert said == [
        "data.train: questions: 2 about 1 context; 0 (0.0%) have no answer",
        "data.train: lengths of questions with their contexts: median 10 tokens; 90% have at most 10, 99% 10, the "
        "longest 10",
        "data.train: 2 questions with their contexts are longer than data.max_length=8 and read in 4 sequences; "
        "--data.max_length 32 would read more of them whole",
    ]


def test_questions_that_are_cut_are_counted_once_however_many_windows_they_have():
    features = [feature(0, 8, cut=2), feature(0, 8, cut=2), feature(1, 8)]
    assert cut_questions_in_words(features, 8) == "1 question is cut to half of data.max_length=8"
    assert cut_questions_in_words(features[2:], 8) is None


def test_what_is_left_out_is_of_texts_or_of_questions():
    cut = [feature(0, 8, cut=8), feature(0, 8, cut=8)]
    texts = Examples(Path("a.tsv"), [Labelled(1, "text", None, "x")], 1, [])
    asked = Examples(Path("a.json"), [Question(1, "q", "why", "a text", ())], 1, [])
    assert left_out_in_words(texts, cut[:1], 8) == "1 text is cut to data.max_length=8, losing 50.0% of their tokens"
    assert left_out_in_words(asked, cut, 8) == "1 question is cut to half of data.max_length=8"  # in two windows
    assert left_out_in_words(texts, [feature(0, 8)], 8) is None


def test_a_label_of_the_first_line_alone_is_taken_for_the_name_of_a_column():
    rows = [Labelled(1, "text", None, "label"), Labelled(2, "a", None, "x"), Labelled(3, "b", None, "x")]
    assert header_in_words(rows) == (
        "WARNING: line 1 is read as a row, and no other has its label 'label': if it is a header, name the columns "
        "instead of numbering them, such as data.label=label"
    )
    numbers = [Labelled(n + 1, "a", None, f"{n}.5") for n in range(3)]
    assert header_in_words(numbers) is None and header_in_words(rows[:1]) is None
    assert header_in_words(rows[1:]) is None and header_in_words([rows[0], rows[0]]) is None
