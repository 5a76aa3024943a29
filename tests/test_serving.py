"""A pretrained model as MLflow opens it: the folder, the questions, the answers."""

import sys
from pathlib import Path

import pytest
import torch

from bert import Bert
from bert.config import ModelConfig
from bert.errors import UserError
from bert.pretrained import filled
from bert.serving.export import ExportServedConfig, export_served
from bert.serving.requests import rows_of
from bert.serving.served import Served

pytestmark = pytest.mark.filterwarnings("ignore:.*type hint:UserWarning")  # MLflow's own models have them
TEXTS = ["the [MASK] sat", "[MASK] cat saw the [MASK]"]


@pytest.fixture
def output(small_tokenizer, unsettled, tmp_path) -> Path:
    """A finished output, as pretraining leaves it."""
    torch.manual_seed(0)
    bert = unsettled(Bert(ModelConfig(small_tokenizer.vocab_size, 8, 2, 2, 12, 24), small_tokenizer)).eval()
    bert.save_pretrained(tmp_path / "run")
    Served("fill_mask", {"text": TEXTS[0]}, filled(bert, TEXTS[0], 3), {"top": 3}).write(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def opened(output, tmp_path, monkeypatch):
    """What MLflow makes of the exported output, where pickles are refused."""
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    monkeypatch.setattr(sys, "path", [*sys.path])  # MLflow puts the model's code before it
    export_served(ExportServedConfig(str(tmp_path / "served"), str(output)))
    return mlflow.pyfunc.load_model(str(tmp_path / "served"))


def test_the_answers_are_those_of_fill_mask(opened, output):
    bert = Bert.from_pretrained(output)
    answers = opened.predict([{"text": text} for text in TEXTS])
    assert answers == [filled(bert, text, 3) for text in TEXTS]
    assert [len(answer["masks"]) for answer in answers] == [1, 2]
    (best,) = opened.predict([{"text": TEXTS[0]}], params={"top": 1})[0]["masks"][0]
    assert (best["token"], best["probability"]) == tuple(vars(bert.fill_mask(TEXTS[0])[0][0]).values())


def test_the_folder_says_what_is_asked_and_answered_and_needs_nothing_of_ours(opened, output, tmp_path):
    signature, served = opened.metadata.signature, Served.read(output)
    assert signature.inputs.input_names() == ["text"] and signature.outputs.input_names() == ["text", "masks"]
    assert signature.params.to_dict()[0]["default"] == 3
    example = opened.metadata.load_input_example(str(tmp_path / "served"))
    assert opened.predict(example) == [served.answer]
    files = {str(file.relative_to(tmp_path / "served")) for file in (tmp_path / "served").rglob("*")}
    assert {"fill_mask.py", "artifacts/model.safetensors", "code/bert/model.py", "requirements.txt"} <= files
    ours = {file for file in files if not file.startswith("__pycache__/")}  # which Python makes when it is opened
    assert not [file for file in ours if file.endswith((".pkl", ".pyc")) or "finetune" in file]
    wanted = (tmp_path / "served" / "requirements.txt").read_text().splitlines()
    assert len(wanted) == len(Path("requirements.txt").read_text().splitlines()) and "torch==2.13.0" in wanted


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"text": "the cat"}], r"row 1: text: no \[MASK\] in 'the cat'"),
        ([{"text": TEXTS[0]}, {"text": " "}], "row 2: the column 'text' is empty"),
        ([{"text": None}], "row 1: the column 'text' is empty"),
        ([{"text": 5}], "row 1: the column 'text' holds 5, which is not text"),
        ([{"text": [TEXTS[0], None]}], "row 2: the column 'text' is empty"),
        ([{"title": "x"}], r"missing inputs \['text'\]. Note that there were extra inputs: \['title'\]"),
        ([{"text": f"[MASK]{' the' * 30}"}], "row 1: text: 33 tokens, but the model reads 24 at most"),
    ],
)
def test_a_wrong_request_is_refused_as_one(opened, rows, said):
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match=said) as raised:
        opened.predict(rows)
    assert raised.value.get_http_status_code() == 400


def test_faults_are_told_together_by_row_and_column():
    import pandas

    request = pandas.DataFrame([{"text": 5, "text_pair": "b"}, {"text": "a"}])
    with pytest.raises(UserError) as raised:
        rows_of(request)
    assert raised.value.messages == (
        "row 1: the column 'text' holds 5, which is not text.",
        "row 2: the column 'text_pair' is empty.",
    )


def test_what_cannot_be_exported_is_named(output, tmp_path):
    with pytest.raises(UserError, match=r"output: '.*run' exists already"):
        export_served(ExportServedConfig(str(output), str(output)))
    (output / "served.json").write_text('{"script": "fil_mask", "example": {}, "answer": {}}')
    with pytest.raises(UserError, match=r"served\.json: script: no 'fil_mask'; one of .*did you mean fill_mask"):
        export_served(ExportServedConfig(str(tmp_path / "served"), str(output)))
    (output / "served.json").unlink()
    with pytest.raises(UserError, match=r"has no served\.json, which a finished run leaves"):
        export_served(ExportServedConfig(str(tmp_path / "served"), str(output)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
