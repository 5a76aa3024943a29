import pytest

from bert.errors import UserError, refuse_if
from bert.registry import did_you_mean, lookup

TABLE = {"token": 1, "whole_word": 2, "span": 3}


def test_a_known_name_gives_its_entry():
    assert lookup(TABLE, "span", "masking.strategy") == 3


def test_an_unknown_name_lists_the_choices_and_the_closest():
    with pytest.raises(UserError) as raised:
        lookup(TABLE, "whole_words", "masking.strategy")
    expected = "masking.strategy: no 'whole_words'; one of token, whole_word, span (did you mean whole_word?)."
    assert str(raised.value) == expected


def test_a_name_far_from_all_gets_no_suggestion():
    assert did_you_mean("xyz", TABLE) == ""
    with pytest.raises(UserError, match=r"^a: no 'xyz'; one of token, whole_word, span\.$"):
        lookup(TABLE, "xyz", "a")


def test_several_faults_are_one_error_of_a_line_each():
    with pytest.raises(UserError) as raised:
        refuse_if(["a: 1.", "b: 2."])
    assert (str(raised.value), raised.value.messages) == ("a: 1.\nb: 2.", ("a: 1.", "b: 2."))


def test_no_fault_is_no_error():
    assert refuse_if([]) is None
