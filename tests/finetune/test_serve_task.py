"""Fine-tuned models as MLflow serves them: the same answers as prediction to a file."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from bert.serving.export import ExportServedConfig, export_served
from bert.training.config import TrainingConfig
from bert.training.tracking import TrackingConfig
from finetune.config import DataConfig, FinetuneConfig, TaskConfig
from finetune.judge import predict
from finetune.launch import train
from finetune.model import load
from finetune.tasks import kind_of
from tests.finetune.conftest import reviews, sentences

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*type hint:UserWarning"),  # MLflow's own models have them
    pytest.mark.filterwarnings("ignore:The ..noload.. loader strategy is deprecated:DeprecationWarning"),
]
PAIRS = "text\ttext_pair\tlabel\n" + "the cat\ta cat\t1\nthe cat\ta dog\t0\n" * 8
WHERE = {"id": "1", "question": "cat", "answers": [{"text": "a mat", "answer_start": 15}]}
ASKED = json.dumps({"data": [{"paragraphs": [{"context": "the cat sat on a mat", "qas": [WHERE]}]}]})
CASES = {  # task, its file, the requests
    "pairs": (TaskConfig(), "pairs.tsv", PAIRS, [{"text": "a cat", "text_pair": "the cat"}]),
    "ner": (TaskConfig(name="ner", head="crf"), "tags.conll", sentences(16), [{"text": "the cat sat on the dog."}]),
    "questions": (
        TaskConfig(name="question_answering"),
        "asked.json",
        ASKED,
        [{"question": "dog", "context": "the dog ran"}],
    ),
}


@pytest.fixture
def finished(tmp_path, write, pretrained):
    """A finished run: its output folder."""

    def make(task: TaskConfig, name: str, content: str, uri: str = "none") -> Path:
        files = [str(write(content, file)) for file in (name, f"eval_{name}")]
        pair = "text_pair" if name.startswith("pairs") else None
        settings = {"steps": 30, "batch_size": 8, "lr": 0.01, "device": "cpu", "eval_every": 30}
        config = FinetuneConfig(
            task=task,
            data=DataConfig(train=files[0], eval=files[1], text_pair=pair, max_length=16),
            init=str(pretrained),
            training=TrainingConfig(**settings),
            tracking=TrackingConfig(uri=uri),
            output=str(tmp_path / "run"),
        )
        train(config)
        return tmp_path / "run"

    return make


def predicted(output: Path, rows: list[dict[str, str]]) -> list[dict]:
    task = load(str(output))
    examples = [kind_of(task.task).unlabelled(number, *row.values()) for number, row in enumerate(rows, 1)]
    return predict(task, examples, 64, torch.device("cpu"))


@pytest.mark.parametrize("case", CASES)
def test_every_task_answers_as_prediction_does(case, finished, tmp_path, monkeypatch):
    import mlflow

    task, name, content, rows = CASES[case]
    output = finished(task, name, content)
    monkeypatch.setattr(sys, "path", [*sys.path])  # MLflow puts the model's code before it
    export_served(ExportServedConfig(str(tmp_path / "served"), str(output)))
    opened = mlflow.pyfunc.load_model(str(tmp_path / "served"))
    assert opened.predict(rows) == predicted(output, rows)
    assert opened.predict([dict(reversed(row.items())) for row in rows]) == predicted(output, rows)
    assert opened.predict([row | {"id": "q7"} for row in rows]) == predicted(output, rows)  # MLflow drops the column
    assert opened.predict(rows)[0].items() >= rows[0].items()  # the texts, by the names that were asked with
    assert opened.metadata.signature.inputs.input_names() == list(rows[0])
    example = opened.metadata.load_input_example(str(tmp_path / "served"))
    assert opened.predict(example) == [json.loads((output / "served.json").read_text())["answer"]]
    for column in rows[0]:
        with pytest.raises(mlflow.exceptions.MlflowException, match=rf"missing inputs \['{column}'\]"):
            opened.predict([{key: text for key, text in rows[0].items() if key != column} | {"other": "x"}])
        with pytest.raises(mlflow.exceptions.MlflowException, match=f"row 2: the column '{column}' is empty"):
            opened.predict([*rows, rows[0] | {column: ""}])
        with pytest.raises(mlflow.exceptions.MlflowException, match=f"row 2: the column '{column}' holds 5"):
            opened.predict([*rows, rows[0] | {column: 5}])


def test_a_run_in_mlflow_can_be_served_and_says_what_it_read(finished, tmp_path):
    import mlflow

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    output = finished(TaskConfig(), "reviews.tsv", reviews(32), uri)
    ledger = json.loads((output / "tracking.json").read_text())
    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs(["1"], "dataset.name = 'reviews.tsv' AND dataset.context = 'training'")
    read = {tag.value: data.dataset for data in run.inputs.dataset_inputs for tag in data.tags}
    names = {context: (dataset.name, dataset.digest) for context, dataset in read.items()}
    assert names == {
        "training": ("reviews.tsv", run.data.tags["train"]),
        "evaluation": ("eval_reviews.tsv", run.data.tags["eval"]),
    }
    assert json.loads(read["training"].profile) == {"rows": 32, "used": 32, "refused": 0}
    model = client.get_logged_model(ledger["model_sent"])
    assert (model.source_run_id, model.status) == (run.info.run_id, "READY")

    rows = [{"text": "a good film"}, {"text": "a very bad film"}]
    wanted = [pytest.approx(answer["probabilities"], abs=1e-6) for answer in predicted(output, rows)]
    forms = (
        {"dataframe_split": {"columns": ["text"], "data": [[row["text"]] for row in rows]}},
        {"dataframe_records": rows},
        {"inputs": rows},
        {"inputs": {"text": [row["text"] for row in rows]}},
    )
    with serving(f"models:/{model.model_id}", uri, tmp_path) as ask:
        for form in forms:
            status, answer = ask(form)
            assert (status, [row["probabilities"] for row in answer["predictions"]]) == (200, wanted)
        empty = "row 1: the column 'text' is empty"
        for wrong, said in (({"text": ""}, empty), ({"text": None}, empty), ({"txt": "a"}, "missing inputs")):
            for form in ("dataframe_records", "inputs"):
                status, answer = ask({form: [wrong]})
                assert status == 400 and said in answer["message"] and "stack_trace" not in answer


@contextmanager
def serving(model: str, store: str, folder: Path):
    """`mlflow models serve` on a free port of this machine; gives what asks it: (status, answer)."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # mlflow calls uvicorn by name
    off = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--model-uri", model, "--host", "127.0.0.1", "--port", port],
            env=os.environ | off | {"MLFLOW_TRACKING_URI": store, "PATH": path},
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(f"{address}/ping", server, folder / "server.log")
        yield lambda request: post(f"{address}/invocations", request)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def wait_for(address: str, server: subprocess.Popen, log: Path, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(log.read_text())


def post(address: str, request: dict) -> tuple[int, dict]:
    body, headers = json.dumps(request).encode(), {"Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(address, body, headers), timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
