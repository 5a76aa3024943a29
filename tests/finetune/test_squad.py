"""Questions as SQuAD has them: what is read, and what is named with its line."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert.errors import UserError
from finetune.config import DataConfig, TaskConfig
from finetune.example_kinds import Question
from finetune.examples import read
from finetune.tasks import kind_of

TASK = TaskConfig(name="question_answering")
CONTEXT = "이순신은 서울에서 태어났다."
ANSWER = {"text": "서울", "answer_start": 5}


def asked(**parts) -> dict:
    return {"id": "q1", "question": "어디서?", "answers": [ANSWER]} | parts


def document(*questions: dict, context: object = CONTEXT) -> dict:
    return {"version": "v2.0", "data": [{"title": "t", "paragraphs": [{"context": context, "qas": list(questions)}]}]}


def found_in(write, content: dict | str, on_bad_row: str = "skip"):
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, indent=1)
    text = text.replace("\ud83d", "\\ud83d")  # as JSON spells what no file can hold
    return read(write(text, "data.json"), TASK, DataConfig(on_bad_row=on_bad_row), "data.train")


def test_questions_are_read_with_all_their_answers_and_those_without_one(write):
    twice = asked(id="q2", answers=[ANSWER, {"text": " 서울에서 ", "answer_start": 4}])
    silent = asked(id="q3", answers=[], is_impossible=True)
    found = found_in(write, document(asked(is_impossible=False), twice, silent))
    first, second, third = found.used
    assert first == Question(first.line, "q1", "어디서?", CONTEXT, ((5, 7),))
    assert second.answers == ((5, 7), (5, 9))  # without the spaces at its ends
    assert third.answers == ()
    assert first.line < second.line < third.line
    assert kind_of(TASK).labels(found.used, TASK) == ["answer", "no answer"]
    assert kind_of(TASK).labels(found.used[:2], TASK) == ["answer"]


def test_a_question_is_named_and_found_without_an_id_too(write):
    """KLUE-MRC says guid."""
    nameless = [{"question": f"어디서 {n}?", "answers": [ANSWER]} for n in range(3)]
    klue = [{**question, "guid": f"klue-{n}"} for n, question in enumerate(nameless)]
    numbered = [{**question, "id": 7 + n} for n, question in enumerate(nameless)]
    for questions, names in (
        (nameless, ["1", "2", "3"]),
        (klue, ["klue-0", "klue-1", "klue-2"]),
        (numbered, list("789")),
    ):
        for content in (document(*questions), json.dumps(document(*questions), indent=1)):  # the latter with escapes
            found = found_in(write, content).used
            assert [question.id for question in found] == names
            lines = [question.line for question in found]
            assert lines == sorted(set(lines)) and lines[0] > 1


def test_plausible_answers_of_an_impossible_question_are_none(write):
    found = found_in(write, document(asked(is_impossible=True, answers=[], plausible_answers=[ANSWER])))
    assert found.used[0].answers == ()


def test_questions_that_share_an_id_are_used_and_counted(write):
    found = found_in(write, document(*(asked(id=name) for name in ("a", "b", "a", "c", "a", "b"))))
    assert len(found.used) == 6
    said = (
        "6 rows, 6 used, 0 refused; 5 questions share an id with another; SQuAD's official script counts each id once"
    )
    assert found.in_words("data.eval").endswith(said)
    assert found_in(write, document(asked(id="a"), asked(id="b"))).in_words("data.eval").endswith(" 0 refused")


BROKEN = {
    "an answer that stands elsewhere": (
        asked(answers=[ANSWER | {"answer_start": 4}]),
        "is not at 4: ' 서' is",
    ),
    "an answer before the text": (asked(answers=[ANSWER | {"answer_start": -1}]), "is not at -1"),
    "an answer behind the text": (asked(answers=[ANSWER | {"answer_start": 99}]), "is not at 99: '' is"),
    "a place that is no number": (asked(answers=[ANSWER | {"answer_start": "5"}]), "answer_start, a whole number"),
    "a place that is a truth": (asked(answers=[ANSWER | {"answer_start": True}]), "answer_start, a whole number"),
    "an answer without text": (asked(answers=[{"answer_start": 5}]), "needs a text"),
    "an empty answer": (asked(answers=[{"text": " ", "answer_start": 4}]), "needs a text"),
    "an answer that is a text": (asked(answers=["서울"]), "needs a text"),
    "answers that are none": (asked(answers="서울"), "no list of answers"),
    "no answers": ({"id": "q1", "question": "어디서?"}, "no list of answers"),
    "no answer, and nothing said": (asked(answers=[]), "nothing says that there is none"),
    "an answer, but impossible": (
        asked(is_impossible=True),
        "question q1: 1 answer, but is_impossible is True; plausible ones belong in plausible_answers",
    ),
    "no answer, but possible": (asked(answers=[], is_impossible=False), "is_impossible is False"),
    "an empty question": (asked(question=" "), "question q1: empty"),
    "a question that is a number": (asked(question=7), "a question without its text"),
    "half a character": (asked(question="\ud83d?"), "question of a question: it holds \\ud83d, half of a surrogate"),
    "an id that is half a character": (asked(id="\ud83d"), "id of a question: it holds \\ud83d, half of a surrogate"),
    "a question that is a list": ([], "a question without its text"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_question_that_is_none_is_named_with_its_line_and_counted(case, write):
    question, why = BROKEN[case]
    content = document(asked(id="before"), question, asked(id="after"))
    found = found_in(write, content)
    assert ([q.id for q in found.used], found.rows, len(found.refused)) == (["before", "after"], 3, 1)
    assert why in found.refused[0]
    line = int(found.refused[0].split("data.json:")[1].split(":")[0])
    assert found.used[0].line <= line <= found.used[1].line
    with pytest.raises(UserError, match=rf"data\.json:{line}: "):
        found_in(write, content, "error")


@pytest.mark.parametrize(
    "content",
    [
        "[3]",
        "{}",
        '{"data": 3}',
        '{"data": [{}]}',
        '{"data": [{"paragraphs": [{"context": "a"}]}]}',
        '{"data": []}',
        "[",
    ],
)
def test_a_file_of_another_form_is_named_with_its_line(content, write):
    with pytest.raises(UserError, match=r"data\.json:1: ") as refused:
        found_in(write, content)
    assert "Error(" not in str(refused.value)


def test_a_list_that_is_read_as_articles_is_told_what_is_needed(write):
    with pytest.raises(
        UserError, match=r"data\.json:1: not SQuAD's form: an object with data, .* format squad_rows\.$"
    ):
        read(write("[{}]", "data.json"), TASK, DataConfig(format="squad"), "data.train")


@pytest.mark.parametrize("context", [None, 3, ["a"], " "])
def test_a_text_that_is_none_is_named(context, write):
    with pytest.raises(UserError, match="a context that is not text"):
        found_in(write, document(asked(), context=context))


WHOLE = json.dumps(document(asked(), asked(id="q2")), ensure_ascii=False, indent=1).encode()


@given(cut=st.integers(0, len(WHOLE) - 1))
def test_a_file_that_was_cut_off_is_named_with_its_line(cut, tmp_path_factory):
    path = tmp_path_factory.mktemp("cut") / "data.json"
    path.write_bytes(WHOLE[:cut])
    with pytest.raises(UserError, match=r"data\.json:\d+: "):
        read(path, TASK, DataConfig(on_bad_row="skip"), "data.train")


def test_other_formats_are_refused_by_name(write):
    with pytest.raises(UserError, match=r"tsv holds rows, but task\.name=question_answering needs one of squad"):
        read(write("text\tlabel\na\t1\n", "data.tsv"), TASK, DataConfig(), "data.train")
