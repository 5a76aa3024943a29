"""Questions as Hugging Face datasets writes them: how such a file is told, and what is named with its line."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert.errors import UserError
from finetune.config import DataConfig, EvaluateConfig, PredictConfig, TaskConfig
from finetune.example_kinds import Question
from finetune.examples import read
from finetune.predict import evaluate_file, predict_file
from finetune.reading import format_name
from finetune.tasks import TASKS

TASK = TaskConfig(name="question_answering")
CONTEXT = "이순신은 서울에서 태어났다."


def row(name: str = "q1", answers: tuple[str, ...] = ("서울",), **parts) -> dict:
    places = [CONTEXT.find(answer) for answer in answers]
    answered = {"text": list(answers), "answer_start": places}
    return {"id": name, "title": "t", "context": CONTEXT, "question": "어디서?", "answers": answered} | parts


ROWS = [row(), row("q2", ("서울", "서울에서")), row("q3", ())]
FORMS = {
    "lines.jsonl": "".join(f"{json.dumps(one, ensure_ascii=False)}\n\n" for one in ROWS),
    "lines.json": "".join(f"{json.dumps(one)}\n\n" for one in ROWS),
    "list.json": json.dumps(ROWS),
    "written.json": "[\n" + ",\n\n".join(json.dumps(one) for one in ROWS) + "\n]\n",
}


def found_in(path: Path, on_bad_row: str = "skip", **options):
    return read(path, TASK, DataConfig(on_bad_row=on_bad_row, **options), "data.train")


LINES = {"lines.jsonl": [1, 3, 5], "lines.json": [1, 3, 5], "list.json": [1, 1, 1], "written.json": [2, 4, 6]}


@pytest.mark.parametrize("name", FORMS)
def test_rows_are_told_by_their_answers_and_read_with_all_of_these(name, write):
    lines = LINES[name]
    found = found_in(write(FORMS[name], name), "error")
    assert [question.line for question in found.used] == lines
    assert [question.id for question in found.used] == ["q1", "q2", "q3"]
    assert [question.answers for question in found.used] == [((5, 7),), ((5, 7), (5, 9)), ()]
    assert found.used[0] == Question(lines[0], "q1", "어디서?", CONTEXT, ((5, 7),))
    assert found.passed_over == ({"blank line": 3} if name.startswith("lines") else {})


def test_a_row_without_an_id_has_its_guid_or_its_number(write):
    named = [{key: value for key, value in row().items() if key != "id"} | more for more in ({"guid": "g"}, {}, {})]
    assert [one.id for one in found_in(write(json.dumps(named), "list.json")).used] == ["g", "2", "3"]
    lines = "".join(f"{json.dumps(row() | more)}\n" for more in ({"id": 7}, {"id": None}))
    assert [one.id for one in found_in(write(lines, "lines.jsonl")).used] == ["7", "2"]


BROKEN = {
    "an answer that stands elsewhere": (
        row(answers=()) | {"answers": {"text": ["서울"], "answer_start": [4]}},
        "question q1: the answer '서울' is not at 4: ' 서' is",
    ),
    "an answer without a place": (
        row() | {"answers": {"text": ["서울"], "answer_start": []}},
        "two lists, equally long",
    ),
    "answers without texts": (row() | {"answers": {"answer_start": [5]}}, "two lists, equally long"),
    "answers that are no lists": (row() | {"answers": {"text": "서울", "answer_start": 5}}, "two lists, equally long"),
    "answers as articles have them": (row() | {"answers": [{"text": "서울", "answer_start": 5}]}, "two lists"),
    "a row without answers": (
        {"id": "q1", "context": CONTEXT, "question": "?"},
        "no field 'answers'; it has id, context",
    ),
    "a row without a text": ({"id": "q1", "question": "?", "answers": {}}, "no field 'context'"),
    "a text that is none": (row(context=None), "a context that is not text"),
    "an empty question": (row(question=" "), "question q1: empty"),
    "a possible one without": (
        row(answers=(), is_impossible=False),
        "question q1: no answer, but is_impossible is False",
    ),
    "no object": ([], "a JSON list, where an object is needed"),
}


def test_plausible_answers_to_an_impossible_question_are_none(write):
    found = found_in(write(json.dumps([row(is_impossible=True), row("q2")]), "list.json"))
    assert [(question.id, len(question.answers)) for question in found.used] == [("q1", 0), ("q2", 1)]


@pytest.mark.parametrize("case", BROKEN)
def test_a_row_that_is_none_is_named_with_its_line_and_counted(case, write):
    broken, why = BROKEN[case]
    rows = [row("before"), broken, row("after")]
    lines = found_in(write("".join(f"{json.dumps(one)}\n" for one in rows), "lines.jsonl"))
    array = found_in(write(json.dumps(rows), "list.json"))
    for found, where in ((lines, "lines.jsonl:2: "), (array, "list.json:1: object 2: ")):
        assert ([q.id for q in found.used], found.rows, len(found.refused)) == (["before", "after"], 3, 1)
        assert where in found.refused[0] and why in found.refused[0]


@pytest.mark.parametrize("name", ["lines.jsonl", "list.json", "written.json"])
@given(data=st.data())
def test_a_file_that_was_cut_off_is_named_or_all_its_rows_are_counted(name, data, tmp_path_factory):
    whole = FORMS[name].strip().encode()
    cut = data.draw(st.integers(0, len(whole) - 1))
    path = tmp_path_factory.mktemp("cut") / name
    path.write_bytes(whole[:cut])
    try:
        found = found_in(path, format="squad_rows")
    except UserError as error:
        assert f"{path}:" in str(error)
    else:
        assert name == "lines.jsonl" and found.rows == len(found.used) + len(found.refused)


def test_rows_without_answers_or_with_columns_that_are_named_are_a_table(write):
    asked = {"question": "?", "context": "a", "q": "why?"}
    table, rows = write(json.dumps(asked), "table.jsonl"), write(json.dumps(ROWS), "list.json")
    assert format_name(table, TASK, DataConfig(), "") == "jsonl"
    assert format_name(rows, TASK, DataConfig(), "") == "squad_rows"
    assert format_name(rows, TASK, DataConfig(text="q"), "") == "json"
    lines = write(f"{json.dumps(row())}\n", "lines.jsonl")
    assert format_name(lines, TASK, DataConfig(), "") == "squad_rows"
    assert format_name(lines, TASK, DataConfig(text_pair="c"), "") == "jsonl"
    articles = write('{"data": [{"paragraphs": []}]}', "articles.json")
    assert format_name(articles, TASK, DataConfig(), "") == "squad"


@pytest.mark.parametrize("name", FORMS)
def test_rows_are_evaluated_and_predicted_on_by_their_ids(name, write, tmp_path, small_config, pieces, capsys):
    labels = ["answer", "no answer"]
    TASKS["question_answering"](small_config, pieces, labels, TASK, 32).export(tmp_path)
    path, output, model = str(write(FORMS[name], name)), tmp_path / "out.jsonl", str(tmp_path)
    evaluate_file(EvaluateConfig(DataConfig(eval=path), model, device="cpu"))
    assert "3 rows, 3 used, 0 refused" in capsys.readouterr().out
    predict_file(PredictConfig(path, str(output), model, device="cpu"))
    assert [json.loads(line)["id"] for line in output.read_text().splitlines()] == ["q1", "q2", "q3"]
