import json
import math
import resource
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from urllib.parse import unquote

import pytest

from bert.errors import UserError
from bert.serving.served import Served
from bert.training import mlflow_feed, provenance, tracking
from bert.training.ledger import NOTHING_SENT, Ledger
from bert.training.mlflow_feed import resolve
from bert.training.provenance import UsedDataset
from bert.training.tracking import Tracker, TrackingConfig, log_afterwards, sync

# MLflow's own models ask SQLAlchemy for something it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:The ..noload.. loader strategy is deprecated:DeprecationWarning")
READ = UsedDataset("corpus.txt", "0123456789abcdef", "/data/corpus.txt", "training", {"documents": 7})
DEAD = "http://127.0.0.1:9"  # nobody listens there


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> str:
    """One SQLite store for the whole file: making one takes more than a second."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'a 이름' / 'mlflow.db'}"


@pytest.fixture
def client(store):
    from mlflow import MlflowClient

    return lambda: MlflowClient(tracking_uri=store)  # made late: the store is the feeder's to create


def start(folder: Path, uri: str, *, resume=False, last=math.inf, params=None, tags=None, **config) -> Tracker:
    config = TrackingConfig(uri=uri, **config)
    return Tracker(folder, config, params=params or {}, tags=tags or {}, resume=resume, last=last)


def leave_model(folder: Path) -> None:
    """The files of a finished output, as far as sending looks into them."""
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors", "heads.safetensors"):
        (folder / name).write_text("{}")
    Served("fill_mask", {"text": "a [MASK]"}, {"text": "a [MASK]", "masks": []}, {"top": 5}).write(folder)


def models(client, run_id: str) -> list:
    return client.search_logged_models(["0", "1"], f"source_run_id = '{run_id}'")


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def ledger(folder: Path) -> dict:
    return json.loads((folder / "tracking.json").read_text())


def history(client, run_id: str, key: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client.get_metric_history(run_id, key)]


def test_everything_reaches_mlflow_with_the_recorded_times(tmp_path, store, client):
    folder = tmp_path / "base"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    params = {"training": {"lr": 1e-4, "seed": 3}, "long": "x" * 7000}
    tracker = start(folder, store, params=params, tags={"arm": "sop"})
    tracker.log(1, {"train/loss": 2.5, "f1/B-사람(x)": 0.5})
    tracker.log(2, {"train/loss": math.nan})
    tracker.artifact(folder / "deep", "files")
    tracker.artifact(tmp_path / "b.txt")
    tracker.finish("FINISHED")

    run = client().get_run(tracker.run_id)
    first, second = client().get_metric_history(tracker.run_id, "train/loss")
    assert (first.step, first.value, first.timestamp) == (1, 2.5, round(1000 * lines(folder)[0]["time"]))
    assert second.step == 2 and math.isnan(second.value)
    assert run.data.metrics["f1/B-사람_x_"] == 0.5  # MLflow takes no brackets in a name
    assert (run.data.params["training.lr"], run.data.params["training.seed"]) == ("0.0001", "3")
    assert len(run.data.params["long"]) == 6000 and run.data.params["long"].endswith("x... [cut]")
    assert run.data.tags["arm"] == "sop" and run.data.tags["bert.run"] == ledger(folder)["run"]
    assert (run.info.run_name, run.info.status) == ("base", "FINISHED")
    assert run.info.start_time <= first.timestamp <= run.info.end_time
    artifacts = Path(store.removeprefix("sqlite:///")).parent / "mlartifacts"
    sent = [path.relative_to(artifacts / tracker.run_id / "artifacts") for path in artifacts.rglob("*.txt")]
    assert sorted(map(str, sent)) == ["b.txt", "files/deep/a.txt"]


def test_a_resume_continues_the_same_run_and_a_replay_logs_no_point_twice(tmp_path, store, client):
    tracker = start(tmp_path, store, params={"seed": 1})
    for step in (1, 2, 3):
        tracker.log(step, {"loss": float(step)})
    tracker.finish("KILLED")
    run_id = tracker.run_id
    assert client().get_run(run_id).info.status == "KILLED"

    tracker = start(tmp_path, store, resume=True, params={"seed": 2}, tags={"resumed": "yes"})
    for step in (2, 3, 4):
        tracker.log(step, {"loss": -float(step)})
    tracker.log(4, {"loss": 0.0, "other": 4.0})  # the first word on a step counts
    deadline = time.monotonic() + 10
    while client().get_run(run_id).info.status != "RUNNING" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert client().get_run(run_id).info.status == "RUNNING"
    tracker.finish("FAILED")

    run = client().get_run(run_id)
    assert tracker.run_id == run_id
    assert history(client(), run_id, "loss") == [(1, 1.0), (2, 2.0), (3, 3.0), (4, -4.0)]
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4, 4]
    assert (run.info.status, run.data.params["seed"], run.data.tags["resumed"]) == ("FAILED", "1", "yes")


def test_what_was_logged_beyond_the_step_that_a_changed_run_goes_on_from_gives_way(tmp_path, store, client):
    tracker = start(tmp_path, store)
    for step in (1, 2, 3):
        tracker.log(step, {"loss": float(step)})
    tracker.finish("FAILED")
    tracker = start(tmp_path, store, resume=True, last=1)
    for step in (2, 3):
        tracker.log(step, {"loss": -float(step)})
    tracker.finish("FINISHED")
    assert [(line["step"], line["metrics"]["loss"]) for line in lines(tmp_path)] == [(1, 1.0), (2, -2.0), (3, -3.0)]
    before = (tmp_path / "metrics.jsonl.old").read_text().splitlines()
    assert [json.loads(line)["metrics"]["loss"] for line in before] == [1.0, 2.0, 3.0]
    both = [(1, 1.0), (2, 2.0), (2, -2.0), (3, 3.0), (3, -3.0)]  # MLflow cannot forget
    assert sorted(history(client(), tracker.run_id, "loss")) == sorted(both)
    assert client().get_run(tracker.run_id).data.metrics["loss"] == -3.0


def test_lines_that_a_full_disk_does_not_take_are_written_once_it_does(tmp_path, capsys):
    tracker = start(tmp_path, "none")
    tracker.log(1, {"loss": 1.0})
    size, soft_and_hard = (tmp_path / "metrics.jsonl").stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, soft_and_hard[1]))  # in the middle of a line
    try:
        tracker.log(2, {"loss": 2.0})
        tracker.log(3, {"loss": 3.0})
        in_between = (tmp_path / "metrics.jsonl").stat().st_size
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, soft_and_hard)
    assert in_between == size  # no torn line
    tracker.log(4, {"loss": 4.0})
    tracker.finish("FINISHED")
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4]
    assert capsys.readouterr().err.count("metrics.jsonl cannot be written (") == 1


def test_a_disk_that_is_full_at_the_end_is_a_warning(tmp_path, capsys, monkeypatch):
    tracker = start(tmp_path, "none")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    tracker.finish("FINISHED")
    assert "tracking.json cannot be written (No space left on device); going on without" in capsys.readouterr().err
    assert ledger(tmp_path)["status"] == "RUNNING"  # a sync says FAILED, and the run is finished by its metrics.json


def test_a_crash_before_anything_was_recorded_as_sent_makes_no_second_run_or_point(tmp_path, store, client):
    tracker = start(tmp_path, store, params={"seed": 1})
    tracker.log(1, {"loss": 1.0})
    tracker.finish("FINISHED")
    forgotten = ledger(tmp_path) | NOTHING_SENT | {"run_id": None}
    (tmp_path / "tracking.json").write_text(json.dumps(forgotten))

    assert sync(tmp_path) == 1
    assert ledger(tmp_path)["run_id"] == tracker.run_id
    assert history(client(), tracker.run_id, "loss") == [(1, 1.0)]
    assert sync(tmp_path) == 0


def test_the_model_is_sent_once_with_what_it_reached_and_can_be_sent_again(tmp_path, store, client):
    tracker = start(tmp_path, store)
    tracker.log(1, {"valid/loss": 3.0})
    tracker.log(2, {"valid/loss": 2.0, "train/loss": 1.0})
    tracker.log(3, {"valid/loss": 9.0})
    leave_model(tmp_path)
    tracker.model(2)
    tracker.finish("FINISHED")
    run = client().get_run(tracker.run_id)
    (model,) = models(client(), tracker.run_id)
    assert (model.name, model.status, model.model_id) == ("model", "READY", ledger(tmp_path)["model_sent"])
    assert [(metric.key, metric.value, metric.step) for metric in model.metrics] == [("valid/loss", 2.0, 2)]
    assert [(output.model_id, output.step) for output in run.outputs.model_outputs] == [(model.model_id, 2)]
    kept = Path(unquote(model.artifact_location.removeprefix("file://")))
    sent = {file.name for file in (kept / "artifacts").iterdir()}
    assert sent == {"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors", "heads.safetensors"}

    (tmp_path / "tracking.json").write_text(json.dumps(ledger(tmp_path) | NOTHING_SENT))  # a crash before it was noted
    assert sync(tmp_path) == 3
    assert [again.model_id for again in models(client(), tracker.run_id)] == [model.model_id]
    assert history(client(), tracker.run_id, "valid/loss") == [(1, 3.0), (2, 2.0), (3, 9.0)]
    (tmp_path / "served.json").unlink()
    assert sync(tmp_path) == 0  # nothing is left to send


def test_a_model_that_cannot_be_sent_costs_the_run_a_warning(tmp_path, store, client, monkeypatch, capsys):
    monkeypatch.setattr(tracking, "PATIENCE", 0.5)
    tracker = start(tmp_path, store)
    leave_model(tmp_path)
    (tmp_path / "served.json").write_text("{")
    tracker.model(1)
    tracker.finish("FINISHED")
    assert client().get_run(tracker.run_id).info.status == "FINISHED"
    assert "not sent" in (said := capsys.readouterr().err) and ": the model. Later" in said

    (tmp_path / "served.json").unlink()
    sync(tmp_path)
    assert f"the model in {tmp_path} is gone" in capsys.readouterr().err
    sync(tmp_path)
    assert "gone" not in capsys.readouterr().err


def test_what_a_run_reads_are_its_datasets_in_mlflow(tmp_path, store, client):
    tracker = start(tmp_path, store)
    tracker.datasets([READ])
    tracker.finish("KILLED")
    tracker = start(tmp_path, store, resume=True)
    tracker.datasets([READ])
    assert ledger(tmp_path)["datasets_sent"]  # as it was: not sent again
    tracker.finish("FINISHED")
    found = client().search_runs(["1"], "dataset.digest = '0123456789abcdef' AND dataset.context = 'training'")
    (read,) = found[0].inputs.dataset_inputs
    assert (found[0].info.run_id, read.dataset.name) == (tracker.run_id, "corpus.txt")
    assert (read.dataset.source, read.dataset.profile) == ('{"uri": "/data/corpus.txt"}', '{"documents": 7}')

    (tmp_path / "tracking.json").write_text(json.dumps(ledger(tmp_path) | NOTHING_SENT))
    sync(tmp_path)
    assert len(client().get_run(tracker.run_id).inputs.dataset_inputs) == 1


def test_datasets_that_are_recorded_while_others_are_sent_are_sent_in_their_turn(tmp_path, store, client):
    tracker = start(tmp_path, "none")
    tracker.datasets([READ])
    tracker.finish("FINISHED")
    recorded = Ledger.load(tmp_path)
    recorded.aim(store)
    later = [asdict(READ), asdict(READ) | {"name": "later.txt", "digest": "fedcba9876543210"}]

    class Slow(mlflow_feed.Sender):
        def _dataset_input(self, said):
            recorded.describe_datasets(later)
            return super()._dataset_input(said)

    sender = Slow(tmp_path, recorded, lambda allowance=0.0: None)
    sender.send()
    sender.send()
    read = client().get_run(recorded["run_id"]).inputs.dataset_inputs
    assert {one.dataset.name for one in read} == {"corpus.txt", "later.txt"}


def test_a_dead_server_costs_two_warnings_and_a_sync_sends_all_elsewhere(tmp_path, store, client, monkeypatch, capsys):
    monkeypatch.setattr(tracking, "PATIENCE", 1.0)
    tracker = start(tmp_path, DEAD)
    began = time.monotonic()
    for step in range(700):  # more lines than one pass takes, more points than one call
        tracker.log(step, {"loss": float(step), "accuracy": 0.5})
    tracker.artifact(tmp_path / "never-written.txt")
    assert time.monotonic() - began < 1.0
    tracker.finish("FINISHED")
    assert tracker.run_id is None
    first, last = capsys.readouterr().err.splitlines()
    assert f"{DEAD} fails; everything is kept in {tmp_path}" in first and "Connection refused" in first
    assert "not sent" in last and "700 metric lines, 1 artifact, status FINISHED" in last

    with pytest.raises(UserError, match="still to send: 700 metric lines"):
        sync(tmp_path)
    assert sync(tmp_path, store) == 700
    run_id = ledger(tmp_path)["run_id"]
    assert history(client(), run_id, "loss") == [(step, float(step)) for step in range(700)]
    assert client().get_run(run_id).info.status == "FINISHED"
    assert "never-written.txt is gone, and was not sent" in capsys.readouterr().err
    assert sync(tmp_path) == 0
    with pytest.raises(UserError, match="still to send: 700 metric lines"):
        sync(tmp_path, DEAD)  # another store: what the first one got does not count


def test_a_server_that_never_answers_holds_up_neither_logging_nor_the_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    monkeypatch.setattr(tracking, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tracker = start(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        tracker.log(1, {"loss": 1.0})
        tracker.finish("FINISHED")
        assert time.monotonic() - began < 2.5
    assert "not sent" in capsys.readouterr().err
    assert ledger(tmp_path)["status"] == "FINISHED"


def test_a_run_that_died_is_sent_as_failed(tmp_path, store, client):
    script = f"""
import os
from pathlib import Path
from bert.training.tracking import Tracker, TrackingConfig
tracker = Tracker(Path({str(tmp_path)!r}), TrackingConfig(uri="none"), params={{}}, tags={{}}, resume=False)
tracker.log(7, {{"loss": 1.5}})
os._exit(9)
"""
    subprocess.run([sys.executable, "-c", script], check=False)
    assert sync(tmp_path, store) == 1
    run = client().get_run(ledger(tmp_path)["run_id"])
    assert (run.info.status, run.data.metrics) == ("FAILED", {"loss": 1.5})
    assert abs(run.info.end_time - 1000 * lines(tmp_path)[0]["time"]) < 1000


def test_a_sync_leaves_a_run_at_work_alone(tmp_path, store):
    tracker = start(tmp_path, "none")
    with pytest.raises(UserError, match="a run is at work"):
        sync(tmp_path, store)
    tracker.finish("FINISHED")
    with pytest.raises(UserError, match="names the store"):
        sync(tmp_path)
    with pytest.raises(UserError, match="give a run's output folder"):
        sync(tmp_path / "elsewhere")


def test_metrics_added_after_the_end_leave_the_status_and_the_times(tmp_path, store, client):
    tracker = start(tmp_path, store)
    tracker.log(7, {"loss": 1.5})
    with pytest.raises(UserError, match="something is at work in"):
        log_afterwards(tmp_path, {"task/accuracy": 0.7})
    tracker.finish("FINISHED")
    before = client().get_run(tracker.run_id).info
    log_afterwards(tmp_path, {"task/accuracy": 0.7})
    log_afterwards(tmp_path, {"task/accuracy": 0.9})
    run = client().get_run(tracker.run_id)
    assert (run.info.status, run.info.end_time) == ("FINISHED", before.end_time)
    assert run.data.metrics == {"loss": 1.5, "task/accuracy": 0.9}
    assert [line["step"] for line in lines(tmp_path)] == [7, 8, 9]


def test_metrics_added_after_the_end_wait_for_a_sync_where_the_store_is_down(tmp_path, store, client, capsys):
    start(tmp_path, "none").finish("FINISHED")
    Ledger.load(tmp_path).update(uri=DEAD)
    log_afterwards(tmp_path, {"task/accuracy": 0.7})
    assert "fails; everything is kept in" in capsys.readouterr().err
    assert sync(tmp_path, store) == 1
    assert client().get_run(ledger(tmp_path)["run_id"]).data.metrics == {"task/accuracy": 0.7}


def test_without_a_store_mlflow_is_never_imported(tmp_path):
    script = f"""
import sys
from pathlib import Path
from bert.training.tracking import Tracker, TrackingConfig
tracker = Tracker(Path({str(tmp_path)!r}), TrackingConfig(uri="none"), params={{}}, tags={{}}, resume=False)
tracker.log(1, {{"loss": 1.0}})
tracker.datasets([])
tracker.model(1)
tracker.finish("FINISHED")
assert tracker.run_id is None
assert "mlflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert lines(tmp_path)[0]["metrics"] == {"loss": 1.0}


def test_a_torn_last_line_is_cut_and_its_step_logged_again(tmp_path):
    tracker = start(tmp_path, "none")
    tracker.log(1, {"loss": 1.0})
    tracker.finish("KILLED")
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "time": 17')
    tracker = start(tmp_path, "none", resume=True)
    tracker.log(1, {"loss": 9.0})
    tracker.log(2, {"loss": 2.0})
    tracker.finish("FINISHED")
    assert [(line["step"], line["metrics"]) for line in lines(tmp_path)] == [
        (1, {"loss": 1.0}),
        (2, {"loss": 2.0}),
    ]


def test_values_that_are_not_finite_are_strings_that_float_reads(tmp_path):
    tracker = start(tmp_path, "none")
    tracker.log(1, {"a": math.nan, "b": math.inf, "c": -math.inf})
    tracker.finish("FINISHED")
    assert lines(tmp_path)[0]["metrics"] == {"a": "nan", "b": "inf", "c": "-inf"}


def test_a_new_run_in_an_old_folder_sets_the_old_files_aside(tmp_path):
    for value in (1.0, 2.0):
        tracker = start(tmp_path, "none")
        tracker.log(1, {"loss": value})
        tracker.finish("FINISHED")
    assert [line["metrics"]["loss"] for line in lines(tmp_path)] == [2.0]
    assert json.loads((tmp_path / "metrics.jsonl.old").read_text())["metrics"] == {"loss": 1.0}
    assert json.loads((tmp_path / "tracking.json.old").read_text())["run"] != ledger(tmp_path)["run"]


def test_a_damaged_line_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "time": 1.0, "metrics": {}}\nnonsense\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl:2: not a line of metrics"):
        start(tmp_path, "none", resume=True)


def test_a_ledger_that_lacks_an_entry_is_named(tmp_path):
    start(tmp_path, "none").finish("FINISHED")
    entries = ledger(tmp_path)
    del entries["datasets"], entries["model_sent"]
    (tmp_path / "tracking.json").write_text(json.dumps(entries))
    with pytest.raises(UserError, match=r"tracking\.json: damaged \(without datasets, model_sent\)"):
        sync(tmp_path)


@pytest.mark.parametrize("uri", ["mlruns", "file:///mlruns", "ftp://host", "sqlite:///", ""])
def test_an_address_without_a_store_is_the_persons_mistake(tmp_path, uri):
    with pytest.raises(UserError, match=f"tracking.uri: '{uri}' names no store"):
        start(tmp_path, uri)


def test_a_relative_store_is_found_again_from_another_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve("sqlite:///runs/mlflow.db") == f"sqlite:///{tmp_path}/runs/mlflow.db"


def test_a_store_that_takes_calls_but_never_the_last_one_does_not_hold_the_end(tmp_path, store, monkeypatch, capsys):
    def fail(self):
        raise OSError("disk full")

    monkeypatch.setattr(mlflow_feed.Sender, "_send_status", fail)
    monkeypatch.setattr(tracking, "PATIENCE", 1.0)
    tracker = start(tmp_path, store)
    tracker.log(1, {"loss": 1.0})
    began = time.monotonic()
    tracker.finish("FINISHED")
    assert time.monotonic() - began < 30
    assert "not sent" in capsys.readouterr().err


def test_the_name_of_a_model_on_the_hub_has_no_parent_in_a_folder_that_is_called_likewise(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tracking.json").write_text('{"run": "another", "run_id": "abc"}')
    assert provenance.parent(Path("klue/bert-base")) == {"parent_folder": "klue/bert-base"}
    (tmp_path / "klue" / "bert-base").mkdir(parents=True)
    assert provenance.parent(Path("klue/bert-base"))["parent"] == "another"
