import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score, precision_recall_fscore_support

from finetune import metrics

TAGS = ["O", "B-PS", "I-PS", "B-LC", "I-LC"]
SENTENCES = st.lists(
    st.integers(1, 12).flatmap(lambda n: st.tuples(*[st.lists(st.sampled_from(TAGS), min_size=n, max_size=n)] * 2)),
    min_size=1,
    max_size=5,
)


@given(SENTENCES)
def test_entities_are_those_of_seqeval_in_strict_mode(sentences):
    from seqeval.metrics import f1_score as seqeval_f1
    from seqeval.scheme import IOB2

    gold, predicted = [list(g) for g, _ in sentences], [list(p) for _, p in sentences]
    table = metrics.span_counts(
        [metrics.spans_of(t) for t in gold], [metrics.spans_of(t) for t in predicted], ["PS", "LC"]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = seqeval_f1(gold, predicted, mode="strict", scheme=IOB2, average="micro", zero_division=0)
    assert metrics.micro_f1(table) == pytest.approx(float(expected))


@given(st.integers(1, 30).flatmap(lambda n: st.tuples(*[st.lists(st.sampled_from("abc"), min_size=n, max_size=n)] * 2)))
def test_label_scores_are_those_of_scikit_learn(pair):
    gold, predicted = pair
    table, labels = metrics.label_counts(gold, predicted, "abc"), list("abc")
    for average, ours in (("macro", metrics.macro_f1), ("micro", metrics.micro_f1)):
        expected = f1_score(gold, predicted, labels=labels, average=average, zero_division=0)
        assert ours(table) == pytest.approx(expected)
    assert metrics.klue_macro_f1(table) == pytest.approx(
        f1_score(gold, predicted, labels=labels, average="macro", zero_division=1.0)
    )
    of_classes = precision_recall_fscore_support(gold, predicted, labels=labels, zero_division=0)
    for counts, *expected in zip(table.values(), *of_classes, strict=True):
        assert [counts.precision, counts.recall, counts.f1, counts.support] == pytest.approx(expected)


def test_a_stray_inside_tag_belongs_to_no_entity():
    assert metrics.spans_of(["I-PS", "B-PS", "I-LC", "O", "B-LC", "I-LC"]) == {(1, 2, "PS"), (4, 6, "LC")}


def test_a_confusion_matrix_has_the_gold_down():
    assert metrics.confusion("aab", "abb", "ab") == [[1, 1], [0, 1]]


NUMBERS = st.lists(st.tuples(*[st.integers(-50, 50).map(lambda n: n / 10)] * 2), min_size=2, max_size=30)


@given(NUMBERS)
def test_correlations_are_those_of_scipy(pairs):
    gold, predicted = zip(*pairs, strict=True)
    if len(set(gold)) == 1 or len(set(predicted)) == 1:
        assert metrics.pearson(gold, predicted) == pytest.approx(0.0, abs=1e-9)
        return
    assert metrics.pearson(gold, predicted) == pytest.approx(stats.pearsonr(gold, predicted).statistic, abs=1e-9)
    assert metrics.spearman(gold, predicted) == pytest.approx(stats.spearmanr(gold, predicted).statistic, abs=1e-9)


def test_answers_are_compared_without_case_articles_punctuation_and_spaces():
    assert metrics.normalised_answer(" The  Cat's, an  animal! ") == "cats animal"
    assert metrics.exact_match("the cat", ["Cat.", "dog"]) == 1.0
    assert metrics.exact_match("theatre", ["atre"]) == 0.0  # an article is a word


def test_an_answers_f1_is_that_of_its_best_gold_answer():
    # Predicted 3 words, 2 of them in the gold answer of 2: precision 2/3, recall 1, F1 4/5.
    assert metrics.answer_f1("black cat sleeps", ["dog", "black cat"]) == pytest.approx(4 / 5)
    assert metrics.answer_f1("cat cat", ["cat"]) == pytest.approx(2 / 3)  # each word counts as often as it is there
    assert metrics.answer_f1("", []) == 1.0 and metrics.answer_f1("cat", []) == 0.0
    assert metrics.answer_f1("", ["cat"]) == 0.0


def test_gold_answers_of_which_nothing_is_left_do_not_count():
    assert metrics.exact_match("", ["the", "cat"]) == 0.0 and metrics.answer_f1("", ["the", "cat"]) == 0.0
    assert metrics.exact_match("", ["the"]) == 1.0  # none is left: as if there were no answer


def test_korean_answers_are_compared_without_brackets_and_overlap_by_characters():
    same = metrics.exact_match("토지", ["《토지》"], metrics.normalised_korean_answer)
    assert (same, metrics.korean_answer_f1("토지", ["《토지》"])) == (1.0, 1.0)
    assert metrics.normalised_korean_answer(" The ‘a  b’, C. ") == "the a b c"  # articles stay
    # 이순신은 and 이순신: 3 of 4 characters, and 3 of 3.
    assert metrics.korean_answer_f1("이순신은", ["이순신"]) == pytest.approx(2 * 3 / 7)
    assert metrics.answer_f1("이순신은", ["이순신"]) == 0.0  # no word in common


def test_numbers_that_never_vary_have_no_correlation_however_they_round():
    assert metrics.pearson([0.1] * 21, [0.3] * 21) == 0.0
    assert metrics.spearman([1.0, 2.0], [0.3, 0.3]) == 0.0


def score_at(threshold: float, margins: list[float], answered: list[float], silent: list[float]) -> float:
    """The mean score where questions whose margin exceeds the threshold get no answer."""
    pairs = zip(margins, answered, silent, strict=True)
    return sum(s if margin > threshold else a for margin, a, s in pairs) / len(margins)


QUESTIONS = st.lists(
    st.tuples(
        st.one_of(st.integers(-5, 5).map(float), st.floats(-50, 50), st.just(float("inf"))),
        st.sampled_from([0.0, 1 / 3, 0.5, 1.0]),
        st.booleans(),
    ),
    min_size=1,
    max_size=9,
)


@given(QUESTIONS)
def test_the_best_threshold_is_the_best_of_all_even_as_it_is_printed(questions):
    margins, answered, has = (list(column) for column in zip(*questions, strict=True))
    answered = [score if h else 0.0 for score, h in zip(answered, has, strict=True)]
    silent = [float(not h) for h in has]
    best, threshold = metrics.best_threshold(margins, answered, silent)
    finite = sorted({margin for margin in margins if margin < float("inf")})
    every = [-1e9, *finite]  # a threshold at a margin answers its question, and so does any below the next margin
    assert best == pytest.approx(max(score_at(t, margins, answered, silent) for t in every))
    assert score_at(threshold, margins, answered, silent) == pytest.approx(best)
    if all(abs(threshold - margin) > 1e-4 for margin in finite):
        assert score_at(float(f"{threshold:.4f}"), margins, answered, silent) == pytest.approx(best)


def test_a_threshold_is_midway_between_margins_and_of_several_the_nearest_to_0():
    # Only the first question has an answer: -2 must be answered, and 1 and 4 must not.
    assert metrics.best_threshold([4.0, -2.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0]) == (1.0, -0.5)
    # Whether the question in the middle is answered, wrongly, or not makes no difference: -1.5 and 2 are equally good.
    assert metrics.best_threshold([-4.0, 1.0, 3.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]) == (2 / 3, -1.5)
    # All are to be answered, or none is: 0 does that where it is outside of the margins; else they are 1 away.
    assert metrics.best_threshold([-4.0, -2.0], [1.0, 1.0], [0.0, 0.0]) == (1.0, 0.0)
    assert metrics.best_threshold([2.0, 4.0], [0.0, 0.0], [1.0, 1.0]) == (1.0, 0.0)
    assert metrics.best_threshold([0.5, 4.0], [0.0, 0.0], [1.0, 1.0]) == (1.0, -0.5)
    assert metrics.best_threshold([-2.0, 0.25], [1.0, 1.0], [0.0, 0.0]) == (1.0, 1.25)
    # A text without tokens has no answer, whatever the threshold.
    assert metrics.best_threshold([float("inf")], [0.0], [1.0]) == (1.0, 0.0)


def test_scores_are_printed_with_four_decimals_and_a_threshold_with_six():
    printed = metrics.score_table({"best_f1": 2 / 3, "best_f1_threshold": -1.23456789})
    assert printed == "  best_f1            0.6667\n  best_f1_threshold  -1.234568"
