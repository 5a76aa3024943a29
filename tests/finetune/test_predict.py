"""Predictions from files to files, and from standard input to standard output."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import run_finetune
from bert import cli
from bert.errors import UserError
from finetune import predict, standard_streams, unlabelled
from finetune.config import DataConfig, EvaluateConfig, PredictConfig, TaskConfig
from finetune.model import load
from finetune.predict import evaluate_file, predict_file
from finetune.tasks import TASKS


@pytest.fixture(scope="module", params=["crf", "linear"])
def tagger(request, tmp_path_factory, small_config, pieces):
    """A folder whose model tags something: it is random."""
    folder = tmp_path_factory.mktemp("tagger")
    torch.manual_seed(3)
    task = TASKS["ner"](small_config, pieces, ["O", "B-A", "I-A"], TaskConfig(name="ner", head=request.param), 8)
    torch.nn.init.normal_(task.head.classifier.weight)
    task.export(folder)
    return str(folder)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory, small_config, pieces):
    folder = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(0)
    TASKS["classification"](small_config, pieces, ["bad", "good"], TaskConfig(), 8).export(folder)
    return str(folder)


@pytest.fixture
def predicted(tmp_path, write):
    """Predictions for a text, as read back."""

    def make(checkpoint: str, content: str, name: str = "in.txt", **options) -> list[dict]:
        output = tmp_path / "out.jsonl"
        predict_file(PredictConfig(str(write(content, name)), str(output), checkpoint, device="cpu", **options))
        return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]

    return make


def test_entities_are_ranges_of_the_text_as_it_was_given(tagger, predicted):
    texts = [
        "  서울시에  갔다.",
        "the cat sat on a mat, the dog ran on a mat. the cat sat",
        "\u1109\u1165\u110b\u116e\u11af ran",
    ]
    found = predicted(tagger, "\n".join(texts) + "\n")
    assert [row["text"] for row in found] == texts
    spans = [(row["text"], entity) for row in found for entity in row["entities"]]
    assert spans
    for text, entity in spans:
        assert text[entity["start"] : entity["end"]] == entity["text"] == entity["text"].strip()


def test_ranges_are_of_the_text_as_it_was_given_in_a_table_too(tagger, predicted):
    text = "  the cat sat on a mat, the dog ran "
    (of_line,), (of_table,) = (
        predicted(tagger, f"{text}\n"),
        predicted(tagger, f"text\n{text}\n", "in.tsv", format="tsv"),
    )
    assert of_line["entities"] and of_table == of_line | {"line": 2}


def test_lines_of_an_unknown_kind_are_not_taken_for_words(tagger, predicted):
    with pytest.raises(UserError, match=r"^format: '.*in\.list' does not say by its extension what it holds; give"):
        predicted(tagger, "the cat\nthe dog\n", "in.list")
    assert len(predicted(tagger, "the cat\nthe dog\n", "in.list", format="txt")) == 2


def test_options_are_named_as_prediction_has_them(classifier, predicted):
    with pytest.raises(UserError, match=r"^format: '.*in\.dat' does not say by its extension"):
        predicted(classifier, "the cat\n", "in.dat")
    with pytest.raises(UserError, match=r"^format: conll holds words, but task\.name=classification needs one of"):
        predicted(classifier, "the\n", "in.conll")


def test_each_label_has_its_probability(classifier, predicted):
    for row in predicted(classifier, "a good film\nthe cat\n"):
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert row["label"] == max(row["probabilities"], key=row["probabilities"].get)


def test_a_text_is_judged_alike_whatever_is_read_with_it(tagger, classifier, predicted, monkeypatch):
    text = "".join(f"{'very ' * (n % 9)}good film, the cat sat\n" for n in range(20))
    for checkpoint in (tagger, classifier):
        together = predicted(checkpoint, text)
        monkeypatch.setattr(unlabelled, "_AT_ONCE", 3)
        apart = predicted(checkpoint, text, batch_size=2)
        assert [row["text"] for row in apart] == text.splitlines()
        for a, b in zip(together, apart, strict=True):
            assert a.get("entities") == b.get("entities")
            assert a.get("probabilities", {}) == pytest.approx(b.get("probabilities", {}), abs=1e-5)


def test_texts_come_from_tables_by_column(classifier, tagger, predicted):
    table = "id\tdocument\n1\tthe cat\n2\tthe dog\n"
    for checkpoint in (classifier, tagger):
        assert [row["text"] for row in predicted(checkpoint, table, "in.tsv", text="document", format="tsv")] == [
            "the cat",
            "the dog",
        ]


def test_blank_lines_of_a_table_are_passed_over_and_counted(classifier, predicted, piped, capsys):
    rows = '{"text": "a cat"}\n\n{"text": "a mat"}\n \n'
    found = predicted(classifier, rows, "in.jsonl")
    assert [(row["line"], row["text"]) for row in found] == [(1, "a cat"), (3, "a mat")]
    assert capsys.readouterr().err.endswith("; 2 blank lines passed over\n")
    predicted(classifier, "id,text\n\n1,a cat\n", "in.csv")
    assert capsys.readouterr().err.endswith("; 1 blank line passed over\n")
    code, found, said = piped(rows.encode(), "--checkpoint", classifier, "--input", "-", "--format", "jsonl")
    assert (code, [row["line"] for row in found]) == (0, [1, 3])
    assert said.endswith("2 predictions; 2 blank lines passed over\n")


def test_tagged_files_may_come_without_tags(tagger, predicted):
    assert [row["text"] for row in predicted(tagger, "the\ncat\n\ndog\n", "in.conll")] == ["the cat", "dog"]


def test_lists_may_come_without_tags_and_rows_without_lists(tagger, predicted):
    lists = '{"tokens": ["the", "cat"]}\n{"tokens": ["a", "dog"], "ner_tags": [0, 0]}\n'
    assert [row["text"] for row in predicted(tagger, lists, "in.jsonl")] == ["the cat", "a dog"]
    characters = '{"tokens": ["a", " ", "c"]}\n'
    assert [row["text"] for row in predicted(tagger, characters, "in.json")] == ["a c"]
    assert [row["text"] for row in predicted(tagger, '{"text": "the cat"}\n', "in.jsonl")] == ["the cat"]
    other = '{"text": "the cat", "topics": ["news"], "tokens": ["other"]}\n'
    assert [row["text"] for row in predicted(tagger, other, "in.jsonl", text="text")] == ["the cat"]
    assert [row["text"] for row in predicted(tagger, '{"text": "a", "topics": ["x"]}\n', "in.jsonl")] == ["a"]
    both = '{"text": "the cat", "tokens": ["other"]}\n'
    assert [row["text"] for row in predicted(tagger, both, "in.jsonl")] == ["the cat"]
    array = '[\n{"text": "the cat", "tokens": ["x"]},\n{"text": "dog", "tokens": ["x"]}\n]\n'
    assert [row["text"] for row in predicted(tagger, array, "in.json")] == ["the cat", "dog"]
    words = predicted(tagger, '{"words": ["the", "cat"]}\n', "in.jsonl", text="words")
    assert [row["text"] for row in words] == ["the cat"]


@pytest.mark.parametrize("between", ["", " ", "  "])
def test_sentences_end_where_they_do_in_training_though_tags_are_not_read(between, tagger, predicted):
    lines = ["## 1", "t\tO", " \tO", "a\tO", between, "## 2", "c\tO", ""]
    assert [row["text"] for row in predicted(tagger, "\n".join(lines), "in.klue")] == ["t a", "c"]
    assert [row["text"] for row in predicted(tagger, "##\nt\n \na\n\nc\n", "in.klue")] == ["t a", "c"]


def test_a_file_of_nemo_s_needs_no_tags_beside_it(tagger, predicted):
    found = predicted(tagger, "the  cat\n\ndog\n", "text_new.txt", format="nemo", on_bad_row="skip")
    assert [(row["line"], row["text"]) for row in found] == [(1, "the cat"), (3, "dog")]
    with pytest.raises(UserError, match=r"text_new\.txt:2: the line is empty"):
        predicted(tagger, "the  cat\n\ndog\n", "text_new.txt", format="nemo")


def test_a_second_text_is_refused_where_entities_are_looked_for(tagger, predicted):
    with pytest.raises(UserError, match=r"text_pair: 'b' was given, but task\.name=ner takes one text"):
        predicted(tagger, "a,b\nthe,cat\n", "in.csv", text="a", text_pair="b")


def test_pairs_are_given_back_as_pairs(classifier, predicted):
    row = predicted(classifier, '{"a": "the cat", "b": "a dog"}\n', "in.jsonl", text="a", text_pair="b")[0]
    assert (row["text"], row["text_pair"]) == ("the cat", "a dog")


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        ("a cat\n\nb\n", "in.txt", r"in\.txt:2: the line is empty"),
        ("text\na\tb\n", "in.tsv", r"in\.tsv:2: 2 columns, but line 1 has 1 \(text\)"),
        ("titel\nx\n", "in.tsv", r"in\.tsv:1: no column 'text'; it has 'titel'"),
        ("text\na\n\nb\n", "in.tsv", r"in\.tsv:3: the column 'text' is empty"),
        ("a\rb\n", "in.txt", r"in\.txt:1: a carriage return inside the line; lines end in LF or CRLF"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_before_any_is_answered_and_earlier_predictions_stay(
    classifier, predicted, tmp_path, content, name, said, monkeypatch
):
    predicted(classifier, "a\n")
    monkeypatch.setattr(predict, "predict", None)  # is not called
    with pytest.raises(UserError, match=said):
        predicted(classifier, content, name)
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 1


def test_bytes_that_are_no_utf8_are_named(classifier, tmp_path):
    (tmp_path / "in.txt").write_bytes(b"good\n\xff\n")
    with pytest.raises(UserError, match=r"in\.txt:2: byte 0xff at column 1 is not UTF-8"):
        predict_file(PredictConfig(str(tmp_path / "in.txt"), str(tmp_path / "out"), classifier))


def test_a_folder_of_pretraining_is_no_fine_tuned_model(pretrained, write):
    with pytest.raises(UserError, match="none that was fine-tuned by this project"):
        predict_file(PredictConfig(str(write("a\n", "in.txt")), "out", str(pretrained)))


def test_evaluation_prints_classes_and_scores(classifier, write, capsys):
    path = write("text\tlabel\na good film\tgood\nthe cat\tbad\n")
    found = evaluate_file(EvaluateConfig(data=DataConfig(eval=str(path)), checkpoint=classifier, device="cpu"))
    said = capsys.readouterr().out
    assert "2 rows, 2 used, 0 refused" in said and f"accuracy  {found['valid/accuracy']:.4f}" in said


def test_evaluation_says_how_far_absent_classes_hold_the_macro_f1_down(trained_on, write, capsys):
    folder = trained_on(TaskConfig(), ["bad", "good", "so-so", "great"])
    bert = load(folder)
    with torch.no_grad():
        bert.head["classifier"].bias.copy_(torch.tensor([9.0, 0.0, 0.0, 0.0]))  # always bad
    bert.export(Path(folder))
    found = evaluate_file(
        EvaluateConfig(DataConfig(eval=str(write("text\tlabel\na cat\tbad\n"))), folder, device="cpu")
    )
    assert (found["valid/micro_f1"], found["valid/macro_f1"]) == (1.0, 0.25)
    said = capsys.readouterr().out
    assert "3 of 4 classes occur neither here nor in the predictions, and count as 0: the macro F1 over" in said
    assert "over them can be 0.250 at most" in said


def test_evaluation_leaves_its_figures_where_they_are_wanted(tagger, write, tmp_path):
    path = write("the\tO\ncat\tB-A\n", "in.conll")
    config = EvaluateConfig(DataConfig(eval=str(path)), tagger, output=str(tmp_path / "judged"), device="cpu")
    found = evaluate_file(config)
    assert json.loads((tmp_path / "judged" / "metrics.json").read_text()) == found
    table = json.loads((tmp_path / "judged" / "classes.json").read_text())
    assert [(row[0], row[4]) for row in table["data"]] == [("A", 1)]


def test_a_model_is_asked_in_its_run_s_precision_or_in_another(classifier, write, tmp_path, monkeypatch, capsys):
    told = tmp_path / "told"
    told.mkdir()
    task = load(classifier)
    task.precision = "bf16"
    task.export(told)
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    data = DataConfig(eval=str(write("text\tlabel\na good film\tgood\nthe cat\tbad\n")))

    def loss(checkpoint, **options) -> tuple[float, bool]:
        found = evaluate_file(EvaluateConfig(data, str(checkpoint), device="cpu", **options))
        return found["valid/loss"], "fp32 may be faster" in capsys.readouterr().out

    single, half = loss(classifier), loss(told)
    assert single[0] != half[0] == pytest.approx(single[0], rel=0.02)
    assert (single[1], half[1]) == (False, True)
    assert loss(told, precision="fp32") == single
    assert loss(classifier, precision="bf16") == half


def test_evaluation_refuses_what_belongs_to_training(classifier, write):
    data = DataConfig(eval=str(write("text\tlabel\na\tgood\n")), max_length=64)
    with pytest.raises(UserError, match=r"data.max_length: 64 was given, but it belongs to training"):
        evaluate_file(EvaluateConfig(data=data, checkpoint=classifier))


def test_evaluation_refuses_a_label_the_model_does_not_know(classifier, write):
    path = write("text\tlabel\na good film\tgodo\n")
    with pytest.raises(UserError, match=r"data\.tsv:2: the label 'godo' .* \(bad, good\) \(did you mean good"):
        evaluate_file(EvaluateConfig(data=DataConfig(eval=str(path)), checkpoint=classifier, device="cpu"))


# How training read its data


@pytest.fixture(scope="module")
def trained_on(tmp_path_factory, small_config, pieces):
    """Makes a folder that remembers how its training data was read."""

    def make(task: TaskConfig, labels: list[str], **read_as) -> str:
        folder = tmp_path_factory.mktemp("trained")
        torch.manual_seed(0)
        made = TASKS[task.name](small_config, pieces, labels, task, 16)
        made.read_as = read_as
        made.export(folder)
        return str(folder)

    return make


FILMS = {"text": "document", "text_pair": None, "label": "kind", "quoting": "on"}
TABLE = 'document\tkind\tother\n"good\tfilm"\tgood\tx\n"bad"\tbad\ty\n'


def test_a_folder_remembers_how_its_data_was_read(trained_on):
    folder = trained_on(TaskConfig(), ["bad", "good"], **FILMS)
    assert load(folder).read_as == FILMS


def test_evaluation_reads_as_training_did(trained_on, write, capsys):
    folder = trained_on(TaskConfig(), ["bad", "good"], **FILMS)
    evaluate_file(EvaluateConfig(DataConfig(eval=str(write(TABLE))), folder, device="cpu"))
    said = capsys.readouterr().out
    assert "data.eval: read as in training: text=document, label=kind, quoting=on\n" in said
    assert "2 rows, 2 used, 0 refused" in said


def test_characters_are_not_read_as_words_where_their_file_does_not_say_so(trained_on, write, capsys):
    as_klue = {"format": "klue", "text": None, "text_pair": None, "label": None, "quoting": "auto"}
    folder = trained_on(TaskConfig(name="ner"), ["O", "B-DT", "I-DT"], **as_klue)
    table = write("2\tB-DT\n0\tI-DT\n년\tI-DT\n", "test.tsv")
    evaluate_file(EvaluateConfig(DataConfig(eval=str(table)), folder, device="cpu"))
    assert "data.eval: read as in training: format=klue\n" in capsys.readouterr().out
    evaluate_file(EvaluateConfig(DataConfig(eval=str(table), format="conll"), folder, device="cpu"))
    assert "read as in training" not in capsys.readouterr().out


def test_a_table_of_texts_is_not_read_as_characters(trained_on, predicted):
    folder = trained_on(TaskConfig(name="ner"), ["O", "B-DT", "I-DT"], format="klue")
    with pytest.raises(
        UserError, match=r"in\.tsv' would be read as klue, a character per line, but its first .*'kind'"
    ):
        predicted(folder, "text\tkind\nthe cat\tx\n", "in.tsv")
    with pytest.raises(UserError, match=r"give --format klue \(a character per line\) or --format txt"):
        predicted(folder, "the cat\n", "in.list")
    assert predicted(folder, "2\tB-DT\n0\tI-DT\n", "in.tsv")[0]["text"] == "20"


def test_what_is_typed_wins_over_what_is_remembered(trained_on, predicted, capsys):
    folder = trained_on(TaskConfig(), ["bad", "good"], **FILMS)
    assert [row["text"] for row in predicted(folder, TABLE, "in.tsv")] == ["good\tfilm", "bad"]
    assert "input: read as in training: text=document, quoting=on\n" in capsys.readouterr().err
    assert [row["text"] for row in predicted(folder, TABLE, "in.tsv", text="other")] == ["x", "y"]
    unquoted = predicted(folder, 'document\n"good"\n', "in.tsv", quoting="off")
    assert [row["text"] for row in unquoted] == ['"good"']


def test_pairs_are_read_as_pairs_again_and_single_lines_are_refused(trained_on, predicted):
    folder = trained_on(TaskConfig(), ["bad", "good"], text="a", text_pair="b", label=None, quoting="auto")
    row = predicted(folder, '{"a": "the cat", "b": "a dog"}\n', "in.jsonl")[0]
    assert (row["text"], row["text_pair"]) == ("the cat", "a dog")
    with pytest.raises(UserError, match=r"was trained on pairs of texts \(data\.text_pair=b\); give a table"):
        predicted(folder, "the cat\n")


def test_a_model_of_single_texts_is_asked_for_no_pairs(trained_on, predicted, write):
    folder = trained_on(TaskConfig(), ["bad", "good"], text="a", text_pair=None, label=None, quoting="auto")
    with pytest.raises(UserError, match=r"^text_pair: 'b' was given, but the model was trained on single texts\."):
        predicted(folder, '{"a": "the cat", "b": "a dog"}\n', "in.jsonl", text_pair="b")
    data = DataConfig(eval=str(write("a\tb\tlabel\nthe cat\ta dog\tgood\n")), text_pair="b")
    with pytest.raises(UserError, match=r"^data\.text_pair: 'b' was given, but the model was trained on single"):
        evaluate_file(EvaluateConfig(data, folder, device="cpu"))


def test_columns_of_words_are_not_those_of_tables(trained_on, predicted):
    folder = trained_on(
        TaskConfig(name="ner"), ["O", "B-A", "I-A"], text="2", text_pair=None, label="3", quoting="auto"
    )
    assert [row["text"] for row in predicted(folder, "1 the O\n2 cat B-A\n", "in.conll")] == ["the cat"]
    assert [row["text"] for row in predicted(folder, "id,text\n7,the cat\n", "in.csv")] == ["the cat"]
    assert [row["text"] for row in predicted(folder, "##\nt\tO\n", "in.tsv")] == ["t"]


def test_numbers_of_columns_are_no_fields_of_lists(trained_on, predicted):
    read_as = {"text": "2", "label": "3", "text_pair": None, "quoting": "auto", "format": "conll"}
    folder = trained_on(TaskConfig(name="ner"), ["O", "B-A", "I-A"], **read_as)
    assert [row["text"] for row in predicted(folder, '{"tokens": ["the", "cat"]}\n', "in.jsonl")] == ["the cat"]


def test_fields_of_lists_are_read_as_in_training_and_characters_as_characters(trained_on, predicted):
    read_as = {"text": "letters", "label": "tags", "text_pair": None, "quoting": "auto", "format": "character_lists"}
    folder = trained_on(TaskConfig(name="ner"), ["O", "B-A", "I-A"], **read_as)
    assert [row["text"] for row in predicted(folder, '{"letters": ["a", "b"]}\n', "in.jsonl")] == ["ab"]
    assert [row["text"] for row in predicted(folder, "the\tO\n", "in.tsv", format="conll")] == ["the"]
    assert [row["text"] for row in predicted(folder, "t\tO\nh\tO\n", "in.tsv")] == ["th"]
    for known, text in (("klue", "ab"), ("conll", "a b"), ("nemo", "a b")):
        folder = trained_on(TaskConfig(name="ner"), ["O", "B-A", "I-A"], **read_as | {"text": None, "format": known})
        both = '{"text": "the cat", "tokens": ["other"]}\n'
        assert [row["text"] for row in predicted(folder, both, "in.jsonl")] == ["the cat"]
        assert [row["text"] for row in predicted(folder, '{"tokens": ["a", "b"]}\n', "in.jsonl")] == [text]


def test_a_folder_from_before_this_was_remembered_is_read_by_the_defaults(classifier, predicted, tmp_path):
    described = json.loads(Path(classifier, "config.json").read_text())
    assert described["bert_research"].pop("data") == {}
    folder = tmp_path / "old"
    folder.mkdir()
    for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).symlink_to(f"{classifier}/{name}")
    (folder / "config.json").write_text(json.dumps(described))
    assert [row["text"] for row in predicted(str(folder), "id,text\n7,the cat\n", "in.csv")] == ["the cat"]


def test_a_model_is_judged_on_a_file_of_another_scheme(tagger, write, capsys):
    iob2 = write("the B-A\ncat I-A\nsat O\n", "iob2.conll")
    iobes = write("the B-A\ncat E-A\nsat O\n", "iobes.conll")
    found = [
        evaluate_file(EvaluateConfig(DataConfig(eval=str(path)), tagger, scheme=scheme, device="cpu"))
        for path, scheme in ((iob2, None), (iobes, "iobes"))
    ]
    assert found[0] == found[1]
    with pytest.raises(UserError, match=r"'E-A' is not a tag; .*\(task.scheme=iobes has such tags\)"):
        evaluate_file(EvaluateConfig(DataConfig(eval=str(iobes)), tagger, device="cpu"))


# Standard input and output


@pytest.fixture
def piped(monkeypatch, capsys):
    """Gives bytes to standard input: the exit code, what came out as rows, and what was said beside them."""

    def run(content: bytes, *arguments: str) -> tuple[int, list[dict], str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        options = ["predict", "--device", "cpu", *arguments]
        code = cli.main("run_finetune.py", "description", run_finetune.VERBS, "train", options)
        out, said = capsys.readouterr()
        return code, [json.loads(line) for line in out.split("\n")[:-1]], said

    return run


def test_texts_come_from_standard_input_and_predictions_go_to_standard_output(classifier, tagger, piped):
    content = "a good film\r\nthe 서울 cat\u2028sat".encode()
    for checkpoint in (classifier, tagger):
        code, rows, said = piped(content, "--checkpoint", checkpoint, "--input", "-")
        assert (code, [row["text"] for row in rows]) == (0, ["a good film", "the 서울 cat\u2028sat"])
        assert said.endswith("2 predictions\n")


def test_predictions_of_a_file_may_go_to_standard_output_and_those_of_standard_input_to_a_file(
    classifier, piped, write, tmp_path
):
    path = str(write("a good film\n", "in.txt"))
    _, rows, _ = piped(b"", "--checkpoint", classifier, "--input", path, "--output", "-")
    assert [row["text"] for row in rows] == ["a good film"]
    file = tmp_path / "out.jsonl"
    assert piped(b"the cat\n", "--checkpoint", classifier, "--input=-", f"--output={file}")[1] == []
    assert json.loads(file.read_text())["text"] == "the cat"


@pytest.fixture(scope="module")
def of_pairs(tmp_path_factory, small_config, pieces):
    """A classifier whose training data had its pairs in columns of other names."""
    folder = tmp_path_factory.mktemp("of_pairs")
    torch.manual_seed(0)
    task = TASKS["classification"](small_config, pieces, ["no", "yes"], TaskConfig(), 32)
    task.read_as = {"text": "premise", "text_pair": "hypothesis", "label": "gold", "quoting": "auto"}
    task.export(folder)
    return str(folder)


def test_pairs_come_from_standard_input_as_objects(of_pairs, piped, predicted):
    content = '{"premise": "the cat", "hypothesis": "a dog", "gold": 1}\n\n{"hypothesis": "tin", "premise": "서울"}\n'
    code, rows, said = piped(content.encode(), "--checkpoint", of_pairs, "--input", "-", "--format", "jsonl")
    assert (code, [row["text"] for row in rows]) == (0, ["the cat", "서울"])
    assert "input: read as in training: text=premise, text_pair=hypothesis" in said
    assert rows == predicted(of_pairs, content, "in.jsonl")
    code, rows, said = piped(b"the cat\n", "--checkpoint", of_pairs, "--input", "-")
    assert (code, rows) == (
        2,
        [],
    ) and "trained on pairs of texts (data.text_pair=hypothesis); give --format jsonl" in said


def test_questions_come_from_standard_input_as_objects(piped, small_config, pieces, tmp_path, predicted):
    torch.manual_seed(0)
    TASKS["question_answering"](small_config, pieces, ["answer"], TaskConfig("question_answering"), 32).export(tmp_path)
    content = '{"question": "the cat", "context": "a dog sat on a mat"}\n{"question": "the cat"}\n'
    code, rows, said = piped(content.encode(), "--checkpoint", str(tmp_path), "--input", "-", "--format", "jsonl")
    assert (code, [row["question"] for row in rows]) == (2, ["the cat"])
    assert "stdin:2: no field 'context'; it has question." in said


def test_a_question_keeps_the_id_of_its_row_and_else_has_its_number(piped, small_config, pieces, tmp_path, predicted):
    """KLUE says guid."""
    model = str(tmp_path)
    TASKS["question_answering"](small_config, pieces, ["answer"], TaskConfig("question_answering"), 32).export(tmp_path)
    asked = {"question": "the cat", "context": "a dog sat"}
    ids = [{"id": "q7"}, {"id": 8}, {"guid": "klue-9"}, {}, {"id": None}, {"id": True}, {"id": " ", "guid": "klue-10"}]
    objects = [asked | name for name in ids]
    names = ["q7", "8", "klue-9", "4", "5", "6", "klue-10"]
    lines = "".join(f"{json.dumps(row)}\n" for row in objects)
    assert [row["id"] for row in predicted(model, lines, "in.jsonl")] == names
    assert [row["id"] for row in predicted(model, json.dumps(objects), "in.json", format="json")] == [
        *names[:3],
        *"111",
        "klue-10",
    ]
    _, rows, _ = piped(lines.encode(), "--checkpoint", model, "--input", "-", "--format", "jsonl")
    assert [row["id"] for row in rows] == names
    table = "context\tguid\tquestion\na dog\tklue-1\ta\na dog\t\ta\n"
    assert [row["id"] for row in predicted(model, table, "in.tsv")] == ["klue-1", "3"]
    assert [row["id"] for row in predicted(model, "the cat,a dog,q1\n", "in.csv", text="1", text_pair="2")] == ["1"]
    with pytest.raises(UserError, match=r"in\.jsonl:1: id of a question: it holds .ud83d, half of a surrogate pair"):
        predicted(model, json.dumps(asked | {"id": "\ud83d"}), "in.jsonl")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a\n \nb\n", "stdin:2: the line is empty; a text per line is needed.\n"),
        (b"a\n\xff\n", "stdin:2: byte 0xff at column 1 is not UTF-8; "),
        (b"a\nt\0e\0\n", "stdin:2: byte 0x00 at column 2 is not text; is the file in UTF-16?\n"),
    ],
)
def test_a_line_that_cannot_be_read_is_named_after_the_answers_to_those_before_it(classifier, piped, content, said):
    code, rows, wrong = piped(content, "--checkpoint", classifier, "--input", "-")
    assert (code, [row["text"] for row in rows]) == (2, ["a"])
    assert said in wrong


@pytest.mark.parametrize("kind", ["classification", "ner"])
def test_objects_on_standard_input_have_the_default_columns_where_training_had(
    kind, piped, predicted, small_config, pieces, tmp_path
):
    torch.manual_seed(0)
    labels = ["O", "B-PS", "I-PS"] if kind == "ner" else ["bad", "good"]
    task = TASKS[kind](small_config, pieces, labels, TaskConfig(kind), 16)
    task.read_as = {"text": None, "text_pair": None if kind == "ner" else "text_pair", "label": None, "quoting": "auto"}
    task.export(tmp_path)
    content = '{"text": "the cat sat"}\n' if kind == "ner" else '{"text": "the cat", "text_pair": "a dog"}\n'
    code, rows, said = piped(content.encode(), "--checkpoint", str(tmp_path), "--input", "-", "--format", "jsonl")
    assert (code, said[-13:]) == (0, "1 prediction\n")
    assert rows == predicted(str(tmp_path), content, "in.jsonl", format="jsonl")
    assert rows[0]["text"] == ("the cat sat" if kind == "ner" else "the cat")
    assert kind == "ner" or rows[0]["text_pair"] == "a dog"


def test_an_evaluation_never_takes_the_place_of_a_run(classifier, write, tmp_path):
    file = str(write("text\tlabel\na cat\tgood\n", "eval.tsv"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.yaml").write_text("output: run\n")
    with pytest.raises(UserError, match=r"^output: '.*run' holds a run, which has results of its own\."):
        evaluate_file(EvaluateConfig(DataConfig(eval=file), classifier, output=str(tmp_path / "run"), device="cpu"))


def test_lines_that_arrive_in_several_parts_are_numbered_through(classifier, piped, monkeypatch):
    parts = [[b"a", b"b"], [b"c"], [b" "]]
    monkeypatch.setattr(standard_streams, "arriving_lines", lambda: iter(parts))
    code, rows, said = piped(b"", "--checkpoint", classifier, "--input", "-")
    assert (code, [row["text"] for row in rows]) == (2, ["a", "b", "c"])
    assert said.startswith("stdin:4: the line is empty")


def test_a_table_of_texts_is_not_taken_for_words_and_tags(tagger, tmp_path):
    table = tmp_path / "in.tsv"
    table.write_text("id\ttext\n7\tthe cat sat\n")
    with pytest.raises(UserError, match=r"its first line ends with 'text', which is no tag; give --format tsv"):
        predict_file(PredictConfig(str(table), str(tmp_path / "out.jsonl"), tagger, device="cpu"))
    predict_file(PredictConfig(str(table), str(tmp_path / "out.jsonl"), tagger, "tsv", "text", device="cpu"))
    assert json.loads((tmp_path / "out.jsonl").read_text())["text"] == "the cat sat"


def test_the_threshold_of_no_answer_may_be_chosen_later(small_config, pieces, tmp_path, classifier):
    torch.manual_seed(0)
    task = TASKS["question_answering"](
        small_config, pieces, ["answer", "no answer"], TaskConfig("question_answering"), 32
    )
    (tmp_path / "model").mkdir()
    task.export(tmp_path / "model")
    (tmp_path / "in.jsonl").write_text('{"question": "the cat", "context": "a dog sat on a mat"}\n')
    answers = {}
    for threshold in (None, -1e9, 1e9):
        config = PredictConfig(
            str(tmp_path / "in.jsonl"),
            str(tmp_path / "out.jsonl"),
            str(tmp_path / "model"),
            device="cpu",
            no_answer_threshold=threshold,
        )
        predict_file(config)
        answers[threshold] = json.loads((tmp_path / "out.jsonl").read_text())
    assert answers[-1e9]["answer"] == "" != answers[1e9]["answer"]
    assert answers[None]["no_answer_margin"] == answers[1e9]["no_answer_margin"]
    with pytest.raises(UserError, match=r"^no_answer_threshold: 1.0 was given, but it belongs to question_answering;"):
        predict_file(PredictConfig("-", checkpoint=classifier, device="cpu", no_answer_threshold=1.0))


def test_a_threshold_of_no_answer_is_refused_by_a_model_that_always_answers(small_config, pieces, tmp_path, write):
    model, file = str(tmp_path), str(write("{}", "asked.json"))
    TASKS["question_answering"](small_config, pieces, ["answer"], TaskConfig("question_answering"), 32).export(tmp_path)
    said = r"^no_answer_threshold: 0.5 was given, but '.*' was trained on questions that all have an answer, so it "
    with pytest.raises(UserError, match=said):
        predict_file(PredictConfig(file, "-", model, device="cpu", no_answer_threshold=0.5))
    with pytest.raises(UserError, match=said):
        evaluate_file(EvaluateConfig(DataConfig(eval=file), model, device="cpu", no_answer_threshold=0.5))


def test_a_model_that_always_answers_warns_of_questions_without_an_answer(
    small_config, pieces, tmp_path, write, capsys
):
    asked = [{"id": str(n), "question": "the cat", "answers": [], "is_impossible": True} for n in range(2)]
    file = write(json.dumps({"data": [{"paragraphs": [{"context": "a dog sat", "qas": asked}]}]}), "asked.json")
    TASKS["question_answering"](small_config, pieces, ["answer"], TaskConfig("question_answering"), 32).export(tmp_path)
    evaluate_file(EvaluateConfig(DataConfig(eval=str(file)), str(tmp_path), device="cpu"))
    assert "data.eval: WARNING: 2 of its 2 questions have no answer, but every" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--input", "x.txt"], "output: a JSONL file for the predictions is needed, or - for standard output.\n"),
        (
            ["--input", "-", "--format", "csv"],
            "format: 'csv' was given, but standard input has one text per line (txt or jsonl).\n",
        ),
        (["--input", "-", "--text", "a"], "text: 'a' was given, but it belongs to tables; '-' has a text per line.\n"),
    ],
)
def test_what_standard_input_cannot_be_is_refused(piped, arguments, said):
    assert piped(b"", *arguments) == (2, [], said)


def test_a_pipe_gets_each_answer_before_it_asks_again_and_may_close_early(classifier):
    command = [sys.executable, run_finetune.__file__, "predict", "--checkpoint", classifier, "--input", "-"]
    command += ["--device", "cpu"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        for text in ("a good film", "the cat"):
            process.stdin.write(f"{text}\n".encode())
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["text"] == text  # else it would wait here for ever
        process.stdout.close()
        process.stdin.write(b"nobody reads this\n")
        process.stdin.close()
        assert process.stderr.read().decode() == "2 predictions\n"
        assert process.wait() == 0


@pytest.mark.parametrize("options", [{}, {"format": "squad"}])
def test_questions_come_from_a_file_like_squad_s_too(options, tmp_path_factory, small_config, pieces, predicted):
    folder = tmp_path_factory.mktemp("questions")
    task = TaskConfig(name="question_answering")
    TASKS["question_answering"](small_config, pieces, ["answer"], task, 16).export(folder)
    asked = {"id": "7", "question": "the dog", "answers": [{"text": "cat", "answer_start": 4}]}
    content = {"data": [{"paragraphs": [{"context": "the cat sat", "qas": [asked]}]}]}
    (found,) = predicted(str(folder), json.dumps(content), "in.json", **options)
    names = ["line", "id", "question", "context", "answer", "start", "probability"]
    assert ([*found], [found[name] for name in names[:4]]) == (names, [1, "7", "the dog", "the cat sat"])


def test_a_batch_size_below_one_is_refused_by_name(classifier, write):
    file = str(write("a cat\n", "in.txt"))
    with pytest.raises(UserError, match="batch_size: -3, but it must be at least 1"):
        predict_file(PredictConfig(file, "-", classifier, batch_size=-3, device="cpu"))
    with pytest.raises(UserError, match="batch_size: 0, but it must be at least 1"):
        evaluate_file(EvaluateConfig(DataConfig(eval=file), classifier, batch_size=0, device="cpu"))


def test_predictions_never_take_the_place_of_their_input(classifier, write):
    file = write("a cat\n", "in.txt")
    with pytest.raises(UserError, match=r"output: .* is the input"):
        predict_file(PredictConfig(str(file), str(file), classifier, device="cpu"))
    assert file.read_text() == "a cat\n"


def test_an_error_on_the_way_leaves_no_half_of_a_file(classifier, write, tmp_path, monkeypatch):
    def broken(*_) -> list[dict]:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(predict, "predict", broken)
    with pytest.raises(RuntimeError):
        predict_file(PredictConfig(str(write("a cat\n", "in.txt")), str(tmp_path / "out.jsonl"), classifier))
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


def test_what_cannot_be_read_is_left_out_and_told_where_that_is_asked_for(classifier, predicted, capsys):
    found = predicted(classifier, "a cat\n\na mat\n", on_bad_row="skip")
    assert [row["text"] for row in found] == ["a cat", "a mat"]
    said = capsys.readouterr().err
    assert "in.txt:2: the line is empty; a text per line is needed; left out" in said
    assert said.endswith("out.jsonl; 1 left out\n")
    with pytest.raises(UserError, match=r"in\.txt:2: the line is empty"):
        predicted(classifier, "a cat\n\na mat\n")


def test_a_text_that_is_cut_says_by_how_many_tokens(classifier, predicted):
    long = "a cat " * 10
    whole, cut = predicted(classifier, f"a cat\n{long}\n")
    assert "tokens_cut" not in whole
    assert cut["tokens_cut"] == len(load(classifier).tokenizer.encode(long)) - 8  # what the model reads, [CLS] and all
