from dataclasses import replace

import pytest

from bert.errors import UserError
from finetune.config import DataConfig, TaskConfig
from finetune.examples import read
from finetune.features import character_tags
from finetune.tasks import kind_of

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
    assert raised.value.messages[0] == f"{path}:3: 1 column, but line 1 has 2 (text, label)."
    assert raised.value.messages[1] == "data.train: data.on_bad_row=skip leaves out rows like these."


def test_a_file_without_a_good_row_is_not_advised_to_be_left_out(file):
    with pytest.raises(UserError) as raised:
        read_rows(file("text\tlabel\n" + "good\t7\n" * 12), labels=["0", "1"])
    assert len(raised.value.messages) == 11
    assert raised.value.messages[-1].startswith("data.train: no row up to there can be used; data.format, data.text")


def test_rows_in_are_rows_used_and_rows_refused(file):
    found = read_rows(file("text\tlabel\ngood\t1\nbad\n\t0\nfine\t0\n"), on_bad_row="skip")
    assert (found.rows, len(found.used), len(found.refused)) == (4, 2, 2)
    assert "WARNING" not in found.in_words("data.eval")


def test_rows_left_out_for_a_label_that_training_lacks_are_warned_of(file):
    found = read_rows(file("text\tlabel\ngood\t1\nodd\t2\nfine\t0\n"), on_bad_row="skip", labels=["0", "1"])
    assert found.in_words("data.eval").splitlines()[-1] == (
        "data.eval: WARNING: 1 row has a label that the training data lacks; scores are over the others, and so too "
        "high"
    )


@pytest.mark.parametrize(
    ("name", "content", "blank"),
    [
        ("data.tsv", "\ntext\tlabel\na\t1\n\nb\t0\n\n", 3),
        ("data.csv", 'text,label\n"a\n\nb",1\n\nb,0\n', 1),  # not the one in quotation marks
        ("data.jsonl", '\n{"text": "a", "label": 1}\n \n{"text": "b", "label": 0}\n', 2),
        ("data.jsonl", '{"text": "a", "label": 1}\n{"text": "b", "label": 0}\n', 0),
    ],
)
def test_blank_lines_are_no_rows_but_counted(file, name, content, blank):
    found = read_rows(file(content, name))
    assert (found.rows, len(found.used), len(found.refused), found.passed_over.total()) == (2, 2, 0, blank)
    said = {0: "", 1: "; 1 blank line passed over", 2: "; 2 blank lines passed over", 3: "; 3 blank lines passed over"}
    assert found.in_words("data.train") == f"data.train: {found.path}: 2 rows, 2 used, 0 refused{said[blank]}"


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
    assert kind_of(NER).labels(found.used, NER) == ["O", "B-LC", "I-LC", "B-PS", "I-PS"]


def test_entities_on_spaces_are_counted(file):
    found = read_rows(file("##\n에\tO\n \tB-PS\n김\tI-PS\n \tB-LC\n서\tO\n"), NER)
    assert (found.trimmed, found.used[0].entities) == (2, {(2, 3, "PS")})
    assert "2 entities begin or end with a space" in found.in_words("data.eval")
    found = read_rows(file("##\n \tB-PS\n김\tI-PS\n"), NER)
    assert found.in_words("data.eval").endswith(
        "0 refused; 1 comment passed over; 1 entity begins or ends with a space, which is trimmed"
    )


def test_tags_that_continue_nothing_are_repaired_and_counted_where_that_is_asked_for(file):
    content = "a\tB-LC\nb\tI-PS\nc\tI-PS\n\nd\tI-LC\ne\tB-LC\nf\tO\n"
    with pytest.raises(UserError, match=r":2: I-PS after B-LC: .*\(task.scheme=iob1 or iob2_repaired allow this\)"):
        read_rows(file(content, "x.conll"), NER)
    found = read_rows(file(content, "x.conll"), replace(NER, scheme="iob2_repaired"))
    assert [example.tags for example in found.used] == [["B-LC", "B-PS", "I-PS"], ["B-LC", "B-LC", "O"]]
    assert found.in_words("data.train").endswith("; 2 I- tags that continue nothing were made B-")
    one = read_rows(file("a\tI-LC\n", "x.conll"), replace(NER, scheme="iob2_repaired"))
    assert one.in_words("data.train").endswith("; 1 I- tag that continues nothing was made B-")
    with pytest.raises(UserError, match="'E-LC' is not a tag"):
        read_rows(file("a\tE-LC\n", "x.conll"), replace(NER, scheme="iob2_repaired"))


def test_texts_that_are_in_both_files_are_counted(file):
    train = read_rows(file("text\tlabel\na\t1\nb\t0\n", "train.tsv"))
    held_out = read_rows(file("text\tlabel\nb\t1\nb\t0\nc\t0\n", "eval.tsv"))
    assert train.shared_with(held_out) == 2


def test_a_column_that_is_there_twice_is_refused(file):
    with pytest.raises(UserError, match=r"data\.tsv:1: the column 'label' occurs 2 times"):
        read_rows(file("text\tlabel\tlabel\na\t1\t0\n"))


@pytest.mark.parametrize(
    ("name", "quoting", "text"),
    [
        ("x.csv", "auto", 'say "yes"'),
        ("x.csv", "on", 'say "yes"'),
        ("x.csv", "off", '"say ""yes"""'),
        ("x.tsv", "auto", '"say ""yes"""'),
        ("x.tsv", "on", 'say "yes"'),
        ("x.tsv", "off", '"say ""yes"""'),
    ],
)
def test_quotation_marks_enclose_fields_in_csv_and_are_text_in_tsv_unless_asked_otherwise(file, name, quoting, text):
    apart = "\t" if name == "x.tsv" else ","
    found = read_rows(file(f'text{apart}label\n"say ""yes"""{apart}1\n', name), quoting=quoting)
    assert found.used[0].text == text


def test_a_quoted_field_of_a_tsv_may_hold_tabs_and_line_ends(file):
    found = read_rows(file('text\tlabel\n"a\tb\nc"\t1\nd\t0\n'), quoting="on")
    assert [(e.line, e.text) for e in found.used] == [(2, "a\tb\nc"), (4, "d")]


def test_a_quotation_mark_left_open_is_named_with_the_line_it_opens_in(file):
    path = file('text,label\na,1\n"b,0\nc,1\n', "x.csv")
    with pytest.raises(UserError, match=r"x\.csv:3: not CSV: .* \(is a quotation mark left open\? with quoting off"):
        read_rows(path)


def test_a_field_may_be_as_long_as_a_book(file):
    book = "long " * 100_000
    assert read_rows(file(f"text,label\n{book},1\n", "x.csv")).used[0].text == book.strip()


def test_text_and_label_apart_by_a_tab_without_a_header_are_columns_1_and_2(file):
    found = read_rows(file("a good film\t1\nso bad\t0\n"), text="1", label="2")  # NeMo's text classification
    assert [(e.line, e.text, e.label) for e in found.used] == [(1, "a good film", "1"), (2, "so bad", "0")]


CONLL_2003 = "-DOCSTART- -X- O O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\nBRUSSELS NNP B-NP B-LOC\n"


def test_conll_is_the_first_column_and_the_last_unless_their_numbers_are_given(file):
    path = file(CONLL_2003, "x.conll")
    assert [e.tags for e in read_rows(path, NER).used] == [["B-ORG", "O"], ["B-LOC"]]
    found = read_rows(path, NER, text="2", label="3").used
    assert [(e.line, e.text, e.tags) for e in found] == [(3, "NNP VBZ", ["B-NP", "B-VP"]), (6, "NNP", ["B-NP"])]


def test_a_column_that_a_line_lacks_is_named_with_its_line(file):
    path = file("EU NNP B-ORG\nrejects O\n", "x.conll")
    with pytest.raises(UserError, match=r"x\.conll:2: no column 3; the line has 2\."):
        read_rows(path, NER, label="3")
    with pytest.raises(UserError, match=r"x\.conll:2: 2 columns, but line 1 has 3\."):
        read_rows(path, NER)


def test_a_word_with_a_no_break_space_in_it_is_one_word(file):
    example = read_rows(file("10\u00a0000 B-QT\nwon O\n", "x.conll"), NER).used[0]
    assert (example.text, example.entities) == ("10\u00a0000 won", {(0, 6, "QT")})


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("x.conll", {"text": "word"}, "data.text: 'word', but columns of conll have no names; give numbers, from 1."),
        ("x.conll", {"label": "0"}, "data.label: '0', but columns of conll have no names; give numbers, from 1."),
        (
            "x.conll",
            {"quoting": "off"},
            "data.quoting: 'off' was given, but it belongs to data.format=tsv, csv; this is conll.",
        ),
        (
            "x.klue",
            {"format": "klue", "label": "2"},
            "data.label: '2' was given, but it belongs to data.format=tsv, csv, jsonl, json, conll, word_lists, "
            "character_lists; this is klue.",
        ),
        (
            "x.jsonl",
            {"quoting": "on"},
            "data.quoting: 'on' was given, but it belongs to data.format=tsv, csv; this is jsonl.",
        ),
    ],
)
def test_an_option_that_does_not_belong_to_the_format_is_refused_by_name(file, name, options, said):
    with pytest.raises(UserError) as raised:
        read_rows(file("a\tO\n", name), CLASSIFICATION if name == "x.jsonl" else NER, **options)
    assert raised.value.messages == (said,)


@pytest.mark.parametrize("ending", ["jsonl", "json"])
def test_lists_in_json_lines_are_words_or_with_spaces_among_them_characters(file, ending):
    words = '{"id": 1, "tokens": ["New", "York", "won"], "ner_tags": ["B-LC", "I-LC", "O"]}\n'
    (one,) = read_rows(file(words, f"words.{ending}"), NER).used
    assert (one.text, one.entities, one.line) == ("New York won", {(0, 8, "LC")}, 1)
    characters = '\n{"sentence": "서울 밤", "tokens": ["서", "울", " ", "밤"], "tags": ["B-LC", "I-LC", "O", "O"]}\n'
    found = read_rows(file(characters, f"characters.{ending}"), NER, label="tags")
    (one,) = found.used
    assert (one.text, one.entities, one.line) == ("서울 밤", {(0, 2, "LC")}, 2)
    assert (found.rows, found.passed_over.total()) == (1, 1)


def test_a_first_row_without_units_or_a_space_does_not_tell_words_from_characters(file):
    rows = ['{"tokens": [], "ner_tags": []}', "{", '{"tokens": ["a", "b"], "ner_tags": ["O", "B-X"]}']
    space = '{"tokens": ["a", " ", "b"], "ner_tags": ["O", "O", "B-X"]}'
    for more, texts in (([], ["a b"]), ([space], ["ab", "a b"])):
        found = read_rows(file("\n".join(rows + more), "data.jsonl"), NER, on_bad_row="skip")
        assert ([one.text for one in found.used], len(found.refused)) == (texts, 2)


def test_json_lines_without_lists_are_a_table_which_has_no_tags(file):
    for content in ('{"text": "a", "ner_tags": [1, 2]}\n', "{\n", "\n"):
        with pytest.raises(UserError, match=r"data\.format: jsonl holds rows, but task\.name=ner needs one of conll"):
            read_rows(file(content, "data.jsonl"), NER)


def read_nemo(file, texts: str, labels: str, **options):
    file(labels, "labels_train.txt")
    return read_rows(file(texts, "text_train.txt"), NER, **options)


def test_words_and_their_tags_may_lie_in_a_file_each(file):
    found = read_nemo(file, "New York is big\n\nEU won\n", "B-LOC I-LOC O O\n\nB-ORG O\n")
    assert (found.rows, found.passed_over) == (2, {"blank line": 1})
    assert [(e.line, e.text, e.entities) for e in found.used] == [
        (1, "New York is big", {(0, 8, "LOC")}),
        (3, "EU won", {(0, 2, "ORG")}),
    ]


def test_another_number_of_words_than_of_tags_is_a_fault_of_both_files(file, tmp_path):
    with pytest.raises(UserError) as raised:
        read_nemo(file, "a b\nc d\n", "O O\nO\n")
    assert raised.value.messages[0] == (
        f"{tmp_path}/text_train.txt:2: 2 words, but {tmp_path}/labels_train.txt:2 has 1 tag."
    )


@pytest.mark.parametrize(
    ("texts", "labels", "longer", "shorter"), [("a\nb\n", "O\n", "text", "labels"), ("a\n", "O\nO\n", "labels", "text")]
)
def test_another_number_of_lines_is_a_fault_of_both_files(file, tmp_path, texts, labels, longer, shorter):
    with pytest.raises(UserError) as raised:
        read_nemo(file, texts, labels)
    assert raised.value.messages == (
        f"{tmp_path}/{longer}_train.txt:2: '{tmp_path}/{shorter}_train.txt' has no such line; it ends before.",
    )


def test_a_tag_that_breaks_the_scheme_is_named_with_its_place_in_the_other_file(file, tmp_path):
    with pytest.raises(UserError) as raised:
        read_nemo(file, "a b\nc d\n", "O O\nO I-PS\n")
    assert raised.value.messages[0].startswith(
        f"{tmp_path}/text_train.txt:2: tag 2 of {tmp_path}/labels_train.txt:2: I-PS after O: in IOB2"
    )


def test_texts_whose_tags_are_not_beside_them_are_refused(file, tmp_path):
    with pytest.raises(UserError, match=r"text_train\.txt:1: its tags are needed beside it, in '.*labels_train\.txt'"):
        read_rows(file("a b\n", "text_train.txt"), NER, format="nemo")
    with pytest.raises(UserError, match=r"other\.txt:1: its tags .* a file with `labels` for `text` in its name"):
        read_rows(file("a b\n", "other.txt"), NER, format="nemo")


def test_where_the_tags_lie_is_no_part_of_what_is_learned(file):
    one = read_nemo(file, "the cat\n", "O B-A\n").used[0]
    other = read_rows(file("the O\ncat B-A\n", "x.conll"), NER).used[0]
    assert repr(one) == repr(other)


@pytest.mark.parametrize("number", ["1_5", "nan", "inf", "five", "1,5"])
def test_what_is_no_finite_number_is_refused(file, number):
    with pytest.raises(UserError, match=rf":2: the column 'label' holds '{number}', not a finite number"):
        read_rows(file(f"text\tlabel\na\t{number}\n"), TaskConfig(name="regression"))


def test_a_table_that_was_written_with_quotes_is_told_how_to_be_read(file):
    with pytest.raises(UserError, match=r"""no column 'text'; it has '"text"', .*quoting=on"""):
        read_rows(file('"text"\t"label"\n"a"\t"0"\n'))
    with pytest.raises(UserError, match=r":2: 3 columns, but .*; one begins with a quotation mark: data.quoting=on"):
        read_rows(file('text\tlabel\n"a\tb"\t0\n'))


def test_tags_of_another_scheme_name_it(file):
    with pytest.raises(UserError, match=r"'E-LC' is not a tag; O, B-TYPE, I-TYPE are \(task.scheme=iobes has such"):
        read_rows(file("a B-LC\nb E-LC\n", "x.conll"), NER)


def test_null_is_called_null(file):
    with pytest.raises(UserError, match=r":1: the field 'text' holds null, not text or a number"):
        read_rows(file('{"text": null, "label": 1}\n', "x.jsonl"))


@pytest.mark.parametrize("row", ['{"text": "x", "label": NaN}', '{"text": NaN, "label": "good"}'])
def test_what_pandas_writes_for_a_missing_value_is_neither_a_class_nor_a_text(file, row):
    with pytest.raises(UserError, match=r":1: the field '(label|text)' holds nan, which stands for a missing value"):
        read_rows(file(f"{row}\n", "x.jsonl"))


def test_a_header_in_the_middle_as_of_joined_files_is_no_row(file):
    path = file("text,label\na,0\n\ufefftext,label\nb,1\n", "x.csv")
    found = read_rows(path, on_bad_row="skip")
    assert [(e.text, e.label) for e in found.used] == [("a", "0"), ("b", "1")]
    assert found.refused == [f"{path}:3: the header of line 1 again, as where files were joined."]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.csv", "text;label\na, b;1\n", "semicolons: save it with commas"),
        ("x.csv", "text\tlabel\na\t1\n", "tabs: that is the format tsv"),
        ("x.tsv", "text,label\na,1\n", "commas: that is the format csv"),
    ],
)
def test_another_separator_is_named(file, name, content, said):
    with pytest.raises(UserError, match=f":1: no column 'label'; .*Its columns seem to be separated by {said}"):
        read_rows(file(content, name))


def test_a_file_of_lone_carriage_returns_is_told_so_and_not_repeated_in_the_message(file):
    with pytest.raises(UserError, match=r":1: a carriage return inside the line; lines end in LF or CRLF\.$"):
        read_rows(file("text\tlabel\rgood\t1\rbad\t0\r"))


COMMENTED = "# id 5239\tdomain=en\nthe _ _ O\nEU _ _ B-ORG\n\n# text = a\n# sent_id = 2\n#\t_\t_\tO\n1 _ _ O\n"


def test_comments_before_a_sentence_are_no_words_and_the_word_that_looks_like_one_is(file):
    found = read_rows(file(COMMENTED, "x.conll"), NER)
    assert [(e.line, e.text) for e in found.used] == [(2, "the EU"), (7, "# 1")]
    assert found.in_words("data.eval").endswith(": 2 rows, 2 used, 0 refused; 3 comments passed over")
    found = read_rows(file("#\tO\n1\tO\n\n# http://a.b [2009-10-17]\na\tB-X\n", "x.conll"), NER)
    assert [e.text for e in found.used] == ["# 1", "a"]
    found = read_rows(file(COMMENTED, "x.conll"), NER, label="4")
    assert [e.tags for e in found.used] == [["O", "B-ORG"], ["O", "O"]]
    assert read_rows(file("#id=5 O\n#b B-X\n", "x.conll"), NER).used[0].text == "#id=5 #b"
    for line in ("#\tPER", "#covid\tPER"):
        with pytest.raises(UserError, match=r":1: 'PER' is not a tag"):
            read_rows(file(f"{line}\n", "x.conll"), NER)


def test_a_space_behind_a_tag_makes_no_other_type(file):
    for name, content in (("x.conll", "EU\tB-ORG \nwon\tO\n"), ("x.klue", "E\tB-ORG \nU\tO\n")):
        (example,) = read_rows(file(content, name), NER, format=name[2:]).used
        assert example.tags == ["B-ORG", "O"]


def test_classes_that_are_whole_numbers_are_in_their_order(file):
    rows = [f"t\t{n}\n" for n in (10, 2, 0, 1)]
    found = read_rows(file("text\tlabel\n" + "".join(rows))).used
    assert kind_of(CLASSIFICATION).labels(found, CLASSIFICATION) == ["0", "1", "2", "10"]
    others = [replace(found[0], label=label) for label in ("10", "2", "02")]
    assert kind_of(CLASSIFICATION).labels(others, CLASSIFICATION) == ["02", "10", "2"]


def test_a_label_that_only_looks_like_a_known_one_is_told_apart(file):
    decomposed = "\u1100\u1173\u11bc\u110c\u1165\u11bc"
    with pytest.raises(UserError) as raised:
        read_rows(file(f"text\tlabel\na\t{decomposed}\n"), labels=["긍정", "부정"])
    assert r"it looks like '\uae0d\uc815', but is '\u1100\u1173\u11bc" in str(raised.value)
