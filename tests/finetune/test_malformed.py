"""Files that are not what they should be, of every format: an error with file and line, or each row is counted."""

import csv
import io
import json
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert.errors import UserError
from finetune.config import DataConfig, TaskConfig
from finetune.example_kinds import Labelled
from finetune.examples import read
from finetune.formats import FORMATS

ROWS = [("서울 좋다", "good"), ("café is bad", "bad")]
"""Texts and labels; of a sentence, the first word is tagged B-LABEL and all others O."""

TABLES = [name for name, format_ in FORMATS.items() if format_.holds == "rows"]
TAGGED = ["conll", "klue", "nemo", "word_lists", "character_lists"]
TRIED = [*TABLES, *TAGGED]


def made(name: str, rows: list[tuple[str, str]]) -> list[str]:
    """A file of that format, in parts: a header, then each row with the line ends that follow it."""
    if name in ("tsv", "csv"):
        header = ["text\tlabel\n"] if name == "tsv" else ["text,label\n"]
        return header + [f"{text}\t{label}\n" if name == "tsv" else quoted(text, label) for text, label in rows]
    if name in ("json", "jsonl"):
        objects = [json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in rows]
        if name == "jsonl":
            return ["", *(f"{written}\n" for written in objects)]
        return ["[\n", *(f"{written},\n" for written in objects[:-1]), f"{objects[-1]}\n]\n"]
    if name in ("word_lists", "character_lists"):
        units = tagged if name == "word_lists" else characters
        lists = ([list(one) for one in zip(*units(row), strict=True)] for row in rows)
        objects = ({"id": 7, "tokens": tokens, "ner_tags": tags} for tokens, tags in lists)
        return ["", *(f"{json.dumps(one, ensure_ascii=False)}\n" for one in objects)]
    if name == "conll":
        return ["-DOCSTART-\tO\n\n", *("".join(f"{w}\t{t}\n" for w, t in tagged(row)) + "\n" for row in rows)]
    if name == "klue":
        return ["## a comment\n", *("".join(f"{c}\t{t}\n" for c, t in characters(row)) + "\n" for row in rows)]
    return ["", *(f"{text}\n" for text, _ in rows)]


def quoted(*fields: str) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(fields)
    return line.getvalue()


def tagged(row: tuple[str, str]) -> list[tuple[str, str]]:
    words = [word for word in row[0].split(" ") if word]
    return list(zip(words, [f"B-{row[1]}"] + ["O"] * (len(words) - 1), strict=True))


def characters(row: tuple[str, str]) -> list[tuple[str, str]]:
    return list(zip(row[0], [f"B-{row[1]}"] + ["O"] * (len(row[0]) - 1), strict=True))


def lists(units: str) -> str:
    """A line of a file of lists for "unit/tag unit/tag"."""
    tokens, tags = zip(*(unit.split("/") for unit in units.split()), strict=True)
    return json.dumps({"tokens": tokens, "ner_tags": tags}, ensure_ascii=False)


def labels_of_words(rows: list[tuple[str, str]]) -> str:
    return "".join(f"{' '.join(tag for _, tag in tagged(row))}\n" for row in rows)


def put(folder: Path, name: str, content: bytes, labels: bytes | None = None) -> Path:
    path = folder / ("text_train.txt" if name == "nemo" else f"data.{name}")
    path.write_bytes(content)
    if name == "nemo":
        (folder / "labels_train.txt").write_bytes(labels_of_words(ROWS).encode() if labels is None else labels)
    return path


def found_in(path: Path, on_bad_row: str = "skip", **options):
    """What is used and how many are refused; the message where the file as a whole is. Either names file and line."""
    name = "nemo" if path.name == "text_train.txt" else path.suffix[1:]
    task = TaskConfig(name="ner" if name in TAGGED else "classification")
    try:
        found = read(path, task, DataConfig(format=name, on_bad_row=on_bad_row, **options), "data.train")
    except UserError as error:
        assert re.search(rf"({re.escape(str(path))}|labels_train\.txt):\d+: ", str(error)), str(error)
        return str(error)
    assert all(re.match(rf"{re.escape(str(path))}:\d+: ", fault) for fault in found.refused), found.refused
    assert found.rows == len(found.used) + len(found.refused)
    return found


def learned(found) -> list[tuple[str, list[str]]]:
    """Texts and their labels, or tags."""
    assert not isinstance(found, str), found
    return [(e.text, [e.label] if isinstance(e, Labelled) else e.tags) for e in found.used]


def as_labelled(name: str, rows: list[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    units = {"conll": tagged, "nemo": tagged, "word_lists": tagged, "klue": characters, "character_lists": characters}
    return [(text, [label] if name in TABLES else [t for _, t in units[name]((text, label))]) for text, label in rows]


def test_every_format_is_tried():
    assert {*TRIED, "squad", "squad_rows"} == {*FORMATS}  # test_squad.py, test_squad_rows.py


# Cut short


PIECES = [*"a서é😀\"',:;{}[]#-\\ \ufeff", "a\u00a0b", "a\u2028", "\u0085a"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=8).map(lambda pieces: "x" + "".join(pieces))
MANY = st.lists(st.tuples(TEXTS, st.sampled_from(["a", "b"])), min_size=1, max_size=4)


def as_read(name: str, text: str) -> str:
    """Tables are read without spaces at the ends of a field, words with one between."""
    if name in TABLES:
        return text.strip()
    return text if name in ("klue", "character_lists") else " ".join(word for word in text.split(" ") if word)


@pytest.mark.parametrize("name", TRIED)
@given(data=st.data(), rows=MANY)
def test_a_file_that_was_cut_off_is_named_or_all_its_rows_are_counted(name, data, rows):
    parts = [part.encode() for part in made(name, rows)]
    whole = b"".join(parts)
    cut = data.draw(st.integers(0, len(whole) - 1))
    starts = [sum(map(len, parts[:number])) for number in range(1, len(parts))]
    with tempfile.TemporaryDirectory() as folder:
        path = put(Path(folder), name, whole, labels_of_words(rows).encode())
        assert learned(found_in(path)) == as_labelled(name, [(as_read(name, text), label) for text, label in rows])
        path.write_bytes(whole[:cut])
        found, strict = found_in(path), found_in(path, "error")
    if not isinstance(found, str):
        assert found.rows == sum(start < cut for start in starts)
        assert isinstance(strict, str) == bool(found.refused)


@given(data=st.data(), rows=MANY)
def test_tags_that_were_cut_off_are_named_or_all_sentences_are_counted(data, rows):
    whole = labels_of_words(rows).encode()
    cut = data.draw(st.integers(0, len(whole)))
    with tempfile.TemporaryDirectory() as folder:
        found = found_in(put(Path(folder), "nemo", "".join(made("nemo", rows)).encode(), whole[:cut]))
    assert isinstance(found, str) or found.rows == len(rows)


# Encodings and line ends


@pytest.mark.parametrize("name", TRIED)
@pytest.mark.parametrize("encoding", ["cp949", "utf-16", "utf-16-le", "utf-16-be", "latin-1"])
def test_another_encoding_is_an_error_with_file_and_line(name, encoding, tmp_path):
    rows = [(text, label) for text, label in ROWS if encoding != "latin-1" or text.isascii() or "é" in text]
    rows = [(text.replace("é", "e"), label) for text, label in rows] if encoding == "cp949" else rows
    found = found_in(put(tmp_path, name, "".join(made(name, rows)).encode(encoding)))
    assert isinstance(found, str)
    assert re.search(r":\d+: byte 0x[0-9a-f]{2} at column \d+ is not (UTF-8|text)", found)


@pytest.mark.parametrize("name", TRIED)
def test_a_zero_byte_is_an_error_with_file_and_line(name, tmp_path):
    content = "".join(made(name, ROWS)).encode().replace("é".encode(), b"\0")
    line = content[: content.index(b"\0")].count(b"\n") + 1
    assert f":{line}: byte 0x00 at column " in found_in(put(tmp_path, name, content))


@pytest.mark.parametrize("name", TRIED)
@pytest.mark.parametrize("change", ["CRLF", "BOM", "no last line end"])
def test_what_changes_nothing_that_is_read(name, change, tmp_path):
    content, labels = "".join(made(name, ROWS)), labels_of_words(ROWS)
    if change == "CRLF":
        content, labels = content.replace("\n", "\r\n"), labels.replace("\n", "\r\n")
    elif change == "BOM":
        content, labels = f"\ufeff{content}", f"\ufeff{labels}"
    else:
        content, labels = content.rstrip("\n"), labels.rstrip("\n")
    assert learned(found_in(put(tmp_path, name, content.encode(), labels.encode()))) == as_labelled(name, ROWS)


@pytest.mark.parametrize("name", TRIED)
def test_lines_that_end_in_a_lone_carriage_return_are_named_or_read(name, tmp_path):
    content, labels = "".join(made(name, ROWS)).replace("\n", "\r"), labels_of_words(ROWS).replace("\n", "\r")
    found = found_in(put(tmp_path, name, content.encode(), labels.encode()))
    if name == "json":  # to JSON it is a space like any other
        assert learned(found) == as_labelled(name, ROWS)
    else:
        assert isinstance(found, str) and ":1: " in found


@pytest.mark.parametrize("name", ["tsv", "csv"])
def test_a_lone_carriage_return_hides_no_row_of_a_table_without_a_header(name, tmp_path):
    content = "good\t1\rbad\t0\nfine\t1\n".replace("\t", "\t" if name == "tsv" else ",")
    found = found_in(put(tmp_path, name, content.encode()), "error", text="1", label="2")
    assert isinstance(found, str) and ":1: " in found


@pytest.mark.parametrize("name", TRIED)
def test_unicode_s_line_separators_are_text(name, tmp_path):
    rows = [("a\u2028b\u0085c\x0bd", "good"), ("e", "bad")]
    path = put(tmp_path, name, "".join(made(name, rows)).encode(), labels_of_words(rows).encode())
    assert learned(found_in(path)) == as_labelled(name, rows)


@pytest.mark.parametrize("name", TRIED)
def test_a_line_of_a_million_characters_is_read_whole(name, tmp_path):
    rows = [("긴 " * 500_000 + "글", "good"), ("e", "bad")]
    rows = rows if name != "klue" else [("긴" * 10_000, "good"), ("e", "bad")]
    path = put(tmp_path, name, "".join(made(name, rows)).encode(), labels_of_words(rows).encode())
    assert [len(text) for text, _ in learned(found_in(path))] == [len(text) for text, _ in rows]


# Nothing in them


@pytest.mark.parametrize("name", TRIED)
@pytest.mark.parametrize("content", [b"", b"\n", b"\n\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_an_error_with_file_and_line(name, content, tmp_path):
    found = found_in(put(tmp_path, name, content, content))
    assert ":1: not a JSON array of objects" in found if name == "json" else ":1: no row in the file." in found


@pytest.mark.parametrize("name", TRIED)
def test_a_header_alone_is_an_error_with_file_and_line(name, tmp_path):
    header = "[]" if name == "json" else made(name, ROWS)[0]
    assert ":1: no row in the file." in found_in(put(tmp_path, name, header.encode(), b""))


# Rows: (what the file is, how many are used, the lines that are refused and why); a text alone refuses the whole file.

ROWS_OF_TABLES = {
    "tsv, commas": ("tsv", "text,label\na,1\n", ":1: no column 'text'; it has 'text,label'"),
    "tsv, a comma once": ("tsv", "text\tlabel\na\t1\nb,0\n", (1, "3: 1 column, but line 1 has 2 (text, label)")),
    "tsv, spaces": ("tsv", "text\tlabel\na\t1\nb    0\n", (1, "3: 1 column, but line 1 has 2 (text, label)")),
    "tsv, a tab in the text": ("tsv", "text\tlabel\na\tb\t1\nc\t0\n", (1, "2: 3 columns, but line 1 has 2")),
    "tsv, a renamed column": (
        "tsv",
        "text\tlable\na\t1\n",
        ":1: no column 'label'; it has 'text', 'lable' (did you mean",
    ),
    "tsv, no label column": ("tsv", "text\na\n", ":1: no column 'label'"),
    "tsv, a column twice": ("tsv", "text\ttext\tlabel\na\tb\t1\n", ":1: the column 'text' occurs 2 times"),
    "tsv, no text": ("tsv", "text\tlabel\n \t1\nb\t0\n", (1, "2: the column 'text' is empty")),
    "tsv, no label": ("tsv", "text\tlabel\na\t\nb\t0\n", (1, "2: the column 'label' is empty")),
    "tsv, a line of spaces": ("tsv", "text\tlabel\na\t1\n  \nb\t0\n", (2, "3: 1 column")),
    "tsv, empty lines": ("tsv", "\ntext\tlabel\n\na\t1\n\nb\n", (1, "6: 1 column, but line 2 has 2")),
    "tsv, an open quotation mark": ("tsv", 'text\tlabel\n"a\t1\nb "c\t0\n', (2,)),
    "tsv, a carriage return": ("tsv", "text\tlabel\na\rb\t1\nc\t0\n", (1, "2: a carriage return inside the line")),
    "csv, tabs": ("csv", "text\tlabel\na\t1\n", ":1: no column 'text'; it has 'text\\tlabel'"),
    "csv, a tab once": ("csv", "text,label\na,1\nb\t0\n", (1, "3: 1 column, but line 1 has 2 (text, label)")),
    "csv, semicolons": ("csv", "text;label\na;1\n", ":1: no column 'text'; it has 'text;label'"),
    "csv, a comma in the text": ("csv", "text,label\na, b,1\nc,0\n", (1, "2: 3 columns, but line 1 has 2")),
    "csv, a column twice": ("csv", "text,label,label\na,1,0\n", ":1: the column 'label' occurs 2 times"),
    "csv, no label": ("csv", "text,label\na,\nb,0\n", (1, "2: the column 'label' is empty")),
    "csv, ragged after lines in quotes": ("csv", 'text,label\n"a\n\nb",1\nc\n', (1, "5: 1 column, but line 1 has 2")),
    "csv, quoted nothing": ("csv", 'text,label\n"",1\nb,0\n', (1, "2: the column 'text' is empty")),
    "csv, quotation marks inside": ("csv", 'text,label\na "b" c,1\nd",0\n', (2,)),
    "csv, an open quotation mark": ("csv", 'text,label\na,1\n"b,0\nc,1\n', ":3: not CSV: "),
    "csv, text after a quotation": ("csv", 'text,label\na,1\n"b" c,0\n', ":3: not CSV: "),
    "csv, a carriage return": ("csv", "text,label\na,1\nb\rc,1\n", ":3: not CSV: "),
    "csv, a quoted carriage return": ("csv", 'text,label\n"a\rb",1\nc,0\n', (2,)),
    "jsonl, cut": ("jsonl", '{"text": "a", "label": "1"}\n{"text": "b", "la\n', (1, "2: not a JSON object: ")),
    "jsonl, two on a line": (
        "jsonl",
        '{"text": "a", "label": 1}{"text": "b", "label": 0}\n',
        ":1: not a JSON object: ",
    ),
    "jsonl, an array": ("jsonl", '[{"text": "a", "label": 1}]\n', ":1: a JSON list, where an object is needed"),
    "jsonl, spaces": ("jsonl", '{"text": "a", "label": 1}\n  \n{"text": "b", "label": 0}\n', (2,)),
    "jsonl, single quotation marks": ("jsonl", "{'text': 'a', 'label': 1}\n", ":1: not a JSON object: "),
    "jsonl, nested without end": ("jsonl", "[" * 100_000 + "\n", ":1: not a JSON object: "),
    "jsonl, no label": ("jsonl", '{"text": "a"}\n{"text": "b", "label": 0}\n', (1, "1: no field 'label'; it has text")),
    "jsonl, a field twice": (
        "jsonl",
        '{"text": "a", "text": "b", "label": 1}\n{"text": "c", "label": 1, "id": 1, "id": 2}\n',
        (1, "1: the field 'text' occurs more than once"),
    ),
    "jsonl, half a character": (
        "jsonl",
        '{"text": "a \\ud83d", "label": 1}\n{"text": "\\ud83d\\ude00", "label": 1}\n',
        (1, "1: the field 'text' holds \\ud83d, half of a surrogate pair"),
    ),
    "json, an object": ("json", '{"text": "a", "label": 1}\n', ":1: not a JSON array of objects"),
    "json, not closed": ("json", '[\n{"text": "a", "label": 1}\n', ":2: the array is not closed"),
    "json, cut after a comma": ("json", '[{"text": "a", "label": 1},\n', ":1: not JSON: "),
    "json, no comma": (
        "json",
        '[{"text": "a", "label": 1}\n{"text": "b", "label": 0}]\n',
        ":1: the array is not closed",
    ),
    "json, a second array": (
        "json",
        '[{"text": "a", "label": 1}]\n[{"text": "b", "label": 0}]\n',
        ":2: the array is closed",
    ),
    "json, no object": (
        "json",
        '[{"text": "a", "label": 1},\n7]\n',
        (1, "2: object 2: a JSON int, where an object is"),
    ),
    "json, a field twice": (
        "json",
        '[{"label": 1, "text": "a", "text": "b"}]',
        ":1: object 1: the field 'text' occurs more than",
    ),
    "json, nested without end": ("json", "[" * 100_000 + "\n", ":1: not JSON: "),
}


@pytest.mark.parametrize("case", ROWS_OF_TABLES)
def test_a_table_that_is_not_one_is_named_or_counted(case, tmp_path):
    name, content, expected = ROWS_OF_TABLES[case]
    path = put(tmp_path, name, content.encode())
    judge(path, expected)


def judge(path: Path, expected: str | tuple) -> None:
    """The whole file is refused with that; or so many rows are used, and these faults are all that is refused."""
    found = found_in(path)
    if isinstance(expected, str):
        assert isinstance(found, str) and f"{path}{expected}" in found
        return
    used, *faults = expected
    assert not isinstance(found, str), found
    assert (len(found.used), len(found.refused)) == (used, len(faults))
    for fault, said in zip(found.refused, faults, strict=True):
        assert fault.startswith(f"{path}:{said}")
    assert isinstance(found_in(path, "error"), str) == bool(faults)


@pytest.mark.parametrize("name", ["json", "jsonl"])
@pytest.mark.parametrize(
    ("label", "read_as"),
    [
        ("1", "1"),
        ("1.5", "1.5"),
        ("1e2", "1e2"),
        ("1.10", "1.10"),
        ("true", "true"),
        ('"good"', "good"),
        ("null", None),
        ("[1]", None),
        ("{}", None),
        ('""', None),
    ],
)
def test_a_label_is_text_or_a_number(name, label, read_as, tmp_path):
    lines = [f'{{"text": "a", "label": {label}}}', '{"text": "b", "label": 0}']
    content = "\n".join(lines) if name == "jsonl" else f"[{','.join(lines)}]"
    found = found_in(put(tmp_path, name, content.encode()))
    assert [labels for _, labels in learned(found)] == [*([] if read_as is None else [[read_as]]), ["0"]]
    assert len(found.refused) == (read_as is None)


# Tags and their columns


TAGS = {
    "I-PS": "I-PS after O: in IOB2 an entity begins with B-PS",
    "B": "'B' is not a tag; O, B-TYPE, I-TYPE are",
    "B-": "'B-' is not a tag",
    "BPS": "'BPS' is not a tag",
    "b-PS": "'b-PS' is not a tag",
    "o": "'o' is not a tag",
    "S-PS": "'S-PS' is not a tag",
    "PS": "'PS' is not a tag",
    "B-PS-": None,  # a type may have any name; the statistics show it
    "B-b-ps": None,
}


@pytest.mark.parametrize("name", TAGGED)
@pytest.mark.parametrize("tag", TAGS)
def test_a_tag_that_is_none_is_named_with_its_line_and_its_sentence_counted(name, tag, tmp_path):
    if name == "nemo":
        path = put(tmp_path, name, b"a b\nc\n", f"O {tag}\nO\n".encode())
        where = f"{path}:1: tag 2 of {tmp_path}/labels_train.txt:1: "
    elif name.endswith("_lists"):
        path = put(tmp_path, name, "\n".join(lists(units) for units in (f"a/O b/{tag}", "c/O")).encode())
        where = f"{path}:1: tag 2 of 'ner_tags': "
    else:
        path = put(tmp_path, name, f"a\tO\nb\t{tag}\n\nc\tO\n".encode())
        where = f"{path}:2: "
    found = found_in(path)
    assert (found.rows, len(found.used)) == (2, 2 if TAGS[tag] is None else 1)
    assert TAGS[tag] is None or found.refused[0].startswith(f"{where}{TAGS[tag]}")


SENTENCES = {
    "conll, commas": ("conll", "a,O\nb,O\n", ":1: 'a,O' has no tag"),
    "conll, tabs and spaces": ("conll", "a\tO\nb O\n\nc   O\n", (2,)),
    "conll, no tag once": ("conll", "a O\nb\n\nc O\n", (1, "2: 'b' has no tag")),
    "conll, fewer columns": ("conll", "a NN O\nb O\n\nc NN O\n", (1, "2: 2 columns, but line 1 has 3")),
    "conll, more columns": ("conll", "a O\n\nNew York B-LC\n", (1, "3: 3 columns, but line 1 has 2")),
    "conll, a tag without a word": ("conll", "a\tO\n\tO\n\nb\tO\n", (1, "2: a tag without a word")),
    "conll, a line of spaces": ("conll", "a\tO\n  \nb\tO\n", (2,)),
    "conll, a line of a tab": ("conll", "a\tO\n\t\nb\tO\n", (2,)),
    "conll, an empty tag": ("conll", "a\tO\nb\t\n\nc\tO\n", (1, "2: '' is not a tag")),
    "conll, a carriage return": ("conll", "a\tO\rb\tO\n\nc\tO\n", (1, "1: a carriage return inside the line")),
    "conll, many empty lines": ("conll", "\n\na\tO\n\n\n\nb\tO\n\n\n", (2,)),
    "klue, spaces": ("klue", "a O\n\nb\tO\n", (1, "1: 'a O' has no tag")),
    "klue, a word": (
        "klue",
        "a\tO\nbc\tO\n\nd\tO\n",
        (1, "2: 'bc' is not a single character; the format conll"),
    ),
    "klue, no tag": ("klue", "a\tO\nb\n\nc\tO\n", (1, "2: 'b' has no tag")),
    "klue, three columns": ("klue", "a\tx\tO\n\nb\tO\n", (1, "1: 'a\\tx' is not a single character")),
    "klue, a tab as a character": ("klue", "a\tO\n\t\tO\nb\tO\n", (1,)),
    "klue, a space as a character": ("klue", "a\tO\n \tO\nb\tO\n", (1,)),
    "klue, a tag without a character": ("klue", "a\tO\n\tO\n\nb\tO\n", (1, "2: a tag without a character")),
    "klue, a line of spaces": ("klue", "a\tO\n  \nb\tO\n", (2,)),
    "klue, a comment in a sentence": ("klue", "a\tO\n## b\tO\nc\tO\n\nd\tO\n", (1, "2: '## b' is not a single")),
    "klue, spaces alone": ("klue", " \tO\n \tO\n\na\tO\n", (1, "1: the sentence is empty")),
    "klue, a carriage return": ("klue", "a\tO\rb\tO\n\nc\tO\n", (1, "1: a carriage return inside the line")),
}


LISTS = {
    "a list for a text": (
        '{"tokens": "a b", "ner_tags": ["O"]}',
        """the field 'tokens' holds "a b", where a list is""",
    ),
    "numbers for tags": (
        '{"tokens": ["a"], "ner_tags": [3]}',
        "the field 'ner_tags' holds the number 3, where the name",
    ),
    "numbers for words": ('{"tokens": [3], "ner_tags": ["O"]}', "the field 'tokens' holds 3, where a text is needed"),
    "null": (
        '{"tokens": ["a", null], "ner_tags": ["O", "O"]}',
        "the field 'tokens' holds null, where a text is needed",
    ),
    "a list in a list": (
        '{"tokens": [["a"]], "ner_tags": ["O"]}',
        """the field 'tokens' holds ["a"], where a text is""",
    ),
    "half a pair": (
        '{"tokens": ["\\ud800"], "ner_tags": ["O"]}',
        "the field 'tokens' holds \\ud800, half of a surrogate",
    ),
    "a tag less": ('{"tokens": ["a", "b"], "ner_tags": ["O"]}', "2 entries in 'tokens', but 1 in 'ner_tags'"),
    "nothing": ('{"tokens": [], "ner_tags": []}', "the sentence is empty"),
    "another field": ('{"tokens": ["a"], "tags": ["O"]}', "no field 'ner_tags'; it has tokens, tags"),
    "a field twice": (
        '{"tokens": ["a"], "tokens": ["b"], "ner_tags": ["O"]}',
        "the field 'tokens' occurs more than once",
    ),
    "no object": ('[["a"], ["O"]]', "a JSON list, where an object is needed"),
    "no JSON": ("a O", "not a JSON object: "),
}


@pytest.mark.parametrize("case", LISTS)
@pytest.mark.parametrize("name", ["word_lists", "character_lists"])
def test_lists_that_are_none_are_named_and_counted(case, name, tmp_path):
    content, why = LISTS[case]
    judge(put(tmp_path, name, f"{lists('x/O')}\n\n{content}\n".encode()), (1, f"3: {why}"))


def test_words_and_characters_are_not_taken_for_each_other(tmp_path):
    judge(
        put(tmp_path, "word_lists", b'{"tokens": ["a", " "], "ner_tags": ["O", "O"]}\n'),
        ":1: a word is ' '; in",
    )
    content = b'{"tokens": ["ab"], "ner_tags": ["O"]}\n'
    judge(put(tmp_path, "character_lists", content), ":1: 'ab' is not a single character; the format word_lists has")


@pytest.mark.parametrize("case", SENTENCES)
def test_tagged_lines_that_are_none_are_named_and_their_sentences_counted(case, tmp_path):
    name, content, expected = SENTENCES[case]
    judge(put(tmp_path, name, content.encode()), expected)


PAIRS_OF_FILES = {
    "a tag less": ("a b\nc\n", "O\nO\n", (1, "1: 2 words, but ")),
    "a tag more": ("a\nc\n", "O O\nO\n", (1, "1: 1 word, but ")),
    "tabs": ("a\tb\nc\n", "O O\nO\n", (1, "1: 1 word, but ")),
    "an empty line in one": ("a\n\nc\n", "O\nO\nO\n", (2, "2: 0 words, but ")),
    "an empty line in both": ("a\n\nc\n", "O\n \nO\n", (2,)),
    "several spaces": (" a  b \nc\n", "O O\nO\n", (2,)),
    "a carriage return": ("a\rb c\nd\n", "O O\nO\n", (1, "1: a carriage return inside the line; ")),
    "a line less of tags": ("a\nb\n", "O\n", ":2: '"),
}


@pytest.mark.parametrize("case", PAIRS_OF_FILES)
def test_files_that_do_not_belong_together_are_named_or_counted(case, tmp_path):
    texts, labels, expected = PAIRS_OF_FILES[case]
    judge(put(tmp_path, "nemo", texts.encode(), labels.encode()), expected)


def test_tags_in_another_encoding_are_named_by_their_own_file(tmp_path):
    found = found_in(put(tmp_path, "nemo", b"a\nb\n", "O\nB-도시\n".encode("cp949")))
    assert found.startswith(f"{tmp_path}/labels_train.txt:2: byte 0xb5 at column 3 is not UTF-8")
