import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

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


def test_a_stray_inside_tag_belongs_to_no_entity():
    assert metrics.spans_of(["I-PS", "B-PS", "I-LC", "O", "B-LC", "I-LC"]) == {(1, 2, "PS"), (4, 6, "LC")}


def test_a_confusion_matrix_has_the_gold_down():
    assert metrics.confusion("aab", "abb", "ab") == [[1, 1], [0, 1]]
