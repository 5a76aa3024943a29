"""The rules of the demonstration's labels, by hand."""

import pytest

from finetune import builtin_labels


def marked(sentence: str) -> list[tuple[str, str]]:
    rows = "".join(builtin_labels._tagged([sentence])).split("\n")
    return [tuple(row.split("\t")) for row in rows if row and not row.endswith("\tO")]


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("Raises ValueError, or returns None.", [("ValueError", "B-EXCEPTION"), ("None", "B-CONSTANT")]),
        ("Use len(x) if the list is long.", [("len", "B-FUNCTION")]),
        ('The "with" statement works with any list object.', [("with", "B-KEYWORD"), ("list", "B-TYPE")]),
        ("See os.path and the json module (or the file).", [("os", "B-MODULE"), ("json", "B-MODULE")]),
        ("Return this. Print the time, any type or object.", []),
    ],
)
def test_names_count_where_the_text_marks_them_as_code(sentence, expected):
    assert marked(sentence) == expected


def test_a_subject_is_that_of_the_words_a_document_uses_most():
    document = "The thread holds a lock.\nA lock of another thread waits.\nIt reads a file."
    rows = list(builtin_labels._topics([document, "Nothing here.\nAt all."]))
    assert rows == ["text\tlabel\n", "The thread holds a lock. A lock of another thread waits.\tconcurrency\n"]
