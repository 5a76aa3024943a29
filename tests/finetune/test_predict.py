"""Predictions from files to files."""

import json

import pytest
import torch

from bert.errors import UserError
from finetune import predict
from finetune.config import DataConfig, TaskConfig
from finetune.predict import EvaluateConfig, PredictConfig, evaluate_file, predict_file
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


def test_each_label_has_its_probability(classifier, predicted):
    for row in predicted(classifier, "a good film\nthe cat\n"):
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert row["label"] == max(row["probabilities"], key=row["probabilities"].get)


def test_a_text_is_judged_alike_whatever_is_read_with_it(tagger, classifier, predicted, monkeypatch):
    text = "".join(f"{'very ' * (n % 9)}good film, the cat sat\n" for n in range(20))
    for checkpoint in (tagger, classifier):
        together = predicted(checkpoint, text)
        monkeypatch.setattr(predict, "_AT_ONCE", 3)
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


def test_tagged_files_may_come_without_tags(tagger, predicted):
    assert [row["text"] for row in predicted(tagger, "the\ncat\n\ndog\n", "in.conll")] == ["the cat", "dog"]


def test_pairs_are_given_back_as_pairs(classifier, predicted):
    row = predicted(classifier, '{"a": "the cat", "b": "a dog"}\n', "in.jsonl", text="a", text_pair="b")[0]
    assert (row["text"], row["text_pair"]) == ("the cat", "a dog")


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        ("a cat\n\nb\n", "in.txt", r"in\.txt:2: the line is empty"),
        ("text\na\tb\n", "in.tsv", r"in\.tsv:2: 2 columns, but line 1 has 1 \(text\)"),
        ("titel\nx\n", "in.tsv", r"in\.tsv:1: no column 'text'; it has 'titel'"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_and_earlier_predictions_stay(
    classifier, predicted, tmp_path, content, name, said
):
    predicted(classifier, "a\n")
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
    assert "2 rows, 2 used, 0 refused" in said and f"accuracy              {found['valid/accuracy']:.4f}" in said


def test_evaluation_leaves_its_figures_where_they_are_wanted(tagger, write, tmp_path):
    path = write("the\tO\ncat\tB-A\n", "in.conll")
    config = EvaluateConfig(DataConfig(eval=str(path)), tagger, output=str(tmp_path / "judged"), device="cpu")
    found = evaluate_file(config)
    assert json.loads((tmp_path / "judged" / "metrics.json").read_text()) == found
    table = json.loads((tmp_path / "judged" / "classes.json").read_text())
    assert [(row[0], row[4]) for row in table["data"]] == [("A", 1)]


def test_evaluation_refuses_what_belongs_to_training(classifier, write):
    data = DataConfig(eval=str(write("text\tlabel\na\tgood\n")), max_length=64)
    with pytest.raises(UserError, match=r"data.max_length: 64 was given, but it belongs to training"):
        evaluate_file(EvaluateConfig(data=data, checkpoint=classifier))


def test_evaluation_refuses_a_label_the_model_does_not_know(classifier, write):
    path = write("text\tlabel\na good film\tgodo\n")
    with pytest.raises(UserError, match=r"data\.tsv:2: the label 'godo' .* \(bad, good\) \(did you mean good"):
        evaluate_file(EvaluateConfig(data=DataConfig(eval=str(path)), checkpoint=classifier, device="cpu"))
