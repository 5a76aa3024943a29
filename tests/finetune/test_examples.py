import pytest

from bert.errors import UserError
from finetune.config import DataConfig, TaskConfig
from finetune.examples import labels_of, read
from finetune.features import character_tags

CLASSIFICATION, NER = TaskConfig(), TaskConfig(name="ner")


@pytest.fixture
def file(tmp_path):
    def write(text: str, name: str = "data.tsv"):
        path = tmp_path / name
        path.write_bytes(text.encode())
        return path

    return write


def read_rows(path, task=CLASSIFICATION, labels=None, **data):
    return read(path, task, DataConfig(**data), "data.train", labels)


def test_a_ragged_row_is_named_with_its_file_and_line(file):
    path = file("text\tlabel\ngood\t1\nbad\n")
    with pytest.raises(UserError) as raised:
        read_rows(path)
    assert raised.value.messages[0] == f"{path}:3: 1 columns, but line 1 has 2 (text, label)."


def test_rows_in_are_rows_used_and_rows_refused(file):
    found = read_rows(file("text\tlabel\ngood\t1\nbad\n\t0\nfine\t0\n"), on_bad_row="skip")
    assert (found.rows, len(found.used), len(found.refused)) == (4, 2, 2)


def test_an_unknown_column_lists_those_there_are_and_the_closest(file):
    with pytest.raises(
        UserError, match=r"data\.tsv:1: no column 'label'; it has 'text', 'labels' \(did you mean labels\?\)"
    ):
        read_rows(file("text\tlabels\na\tb\n"))


def test_columns_go_by_number_where_there_is_no_header(file):
    found = read_rows(file("7\tgood\t1\n8\tbad\t0\n"), text="2", label="3")
    assert [(e.text, e.label) for e in found.used] == [("good", "1"), ("bad", "0")]


def test_a_label_that_training_never_saw_is_refused(file):
    with pytest.raises(UserError, match=r"data\.tsv:2: the label 'yes' is not in the training data \(no\)"):
        read_rows(file("text\tlabel\na\tyes\n"), labels=["no"])


def test_a_file_with_no_rows_is_refused(file):
    with pytest.raises(UserError, match="no row in"):
        read_rows(file("text\tlabel\n"))


def test_a_byte_that_is_not_utf8_is_named(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_bytes(b"text\tlabel\na\t1\n\xff\t1\n")
    with pytest.raises(UserError, match=r"x\.tsv:3: byte 0xff at column 1 is not UTF-8"):
        read_rows(path)


def test_quoted_commas_and_line_ends_are_text_in_csv(file):
    found = read_rows(file('text,label\n"a, ""b""\nc",1\nd,0\n', "x.csv"))
    assert [(e.line, e.text) for e in found.used] == [(2, 'a, "b"\nc'), (4, "d")]


def test_an_array_of_objects_gives_the_line_of_each(file):
    found = read_rows(file('[\n  {"text": "a",\n   "label": 1},\n  {"text": "b", "label": 0}\n]\n', "x.json"))
    assert [(e.line, e.text, e.label) for e in found.used] == [(2, "a", "1"), (4, "b", "0")]


def test_a_tag_that_breaks_the_scheme_is_named_with_its_line(file):
    with pytest.raises(UserError, match=r"x\.tsv:2: I-PS after O: in IOB2 an entity begins with B-PS"):
        read_rows(file("a\tO\nb\tI-PS\n", "x.tsv"), NER)


def test_iob1_is_read_as_what_it_means(file):
    found = read_rows(file("a\tI-PS\nb\tB-PS\nc\tO\n"), TaskConfig(name="ner", scheme="iob1"))
    assert found.used[0].tags == ["B-PS", "B-PS", "O"]


def test_an_entity_with_a_space_in_it_is_one_range_of_characters(file):
    found = read_rows(file("## a comment\n서\tB-LC\n울\tI-LC\n \tI-LC\n역\tI-LC\n에\tO\n"), NER)
    example = found.used[0]
    assert (example.text, example.entities) == ("서울 역에", {(0, 4, "LC")})
    assert character_tags(len(example.text), example.entities) == ["B-LC", "I-LC", "I-LC", "I-LC", "O"]


def test_an_entity_that_begins_on_a_space_begins_after_it(file):
    example = read_rows(file("##\n에\tO\n \tB-PS\n김\tI-PS\n"), NER).used[0]
    assert example.entities == {(2, 3, "PS")}


def test_words_are_put_together_with_a_space_between(file):
    example = read_rows(file("New\tB-LC\nYork\tI-LC\n.\tO\n", "x.conll"), NER).used[0]
    assert (example.text, example.entities) == ("New York .", {(0, 8, "LC")})


def test_the_label_set_of_tags_begins_with_o_and_holds_both_tags_of_each_type(file):
    found = read_rows(file("a\tB-PS\nb\tB-LC\n", "x.conll"), NER)
    assert labels_of(found.used, TaskConfig(name="ner")) == ["O", "B-LC", "I-LC", "B-PS", "I-PS"]


def test_entities_on_spaces_are_counted(file):
    found = read_rows(file("##\n에\tO\n \tB-PS\n김\tI-PS\n \tB-LC\n서\tO\n"), NER)
    assert (found.trimmed, found.used[0].entities) == (2, {(2, 3, "PS")})
    assert "2 entities begin or end on a space" in found.in_words("data.eval")


def test_texts_that_are_in_both_files_are_counted(file):
    train = read_rows(file("text\tlabel\na\t1\nb\t0\n", "train.tsv"))
    held_out = read_rows(file("text\tlabel\nb\t1\nb\t0\nc\t0\n", "eval.tsv"))
    assert train.shared_with(held_out) == 2


def test_a_column_that_is_there_twice_is_refused(file):
    with pytest.raises(UserError, match=r"data\.tsv:1: the column 'label' is there 2 times"):
        read_rows(file("text\tlabel\tlabel\na\t1\t0\n"))
