"""The one file that knows MLflow's stores: it brings a run there up to date with the run's folder.

MLflow is imported when the first thing is sent. Each step of sending is idempotent: points carry their
recorded time, and a run is looked up by our own id before it is created.
"""

import fcntl
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from bert import mlflow_environment, whole_file
from bert.errors import UserError
from bert.serving import mlflow_model
from bert.serving.served import SERVED, model_files
from bert.training.ledger import NOTHING_SENT, Ledger, cut, warn
from bert.training.lock import take
from bert.training.metrics_file import METRICS, points_of, whole_lines

METRICS_PER_CALL, PARAMS_PER_CALL = 1000, 25  # MLflow takes no more
STORE_MODULES = ("mlflow.", "sqlalchemy.", "alembic.")  # whose errors are the store's, not ours
REFUSED_IN_NAMES = re.compile(r"[^\w/.\- :]")  # one such character, and MLflow refuses the whole batch
SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks")
FIRST_CONTACT = 60.0  # seconds: importing MLflow and making its store, on a machine with other work
MODEL = "model"  # the model's name in MLflow: runs:/<run id>/model is its address, and models:/<model id>


class Sender:
    """Brings a run in MLflow up to date with its folder; raises what MLflow raises."""

    def __init__(self, folder: Path, ledger: Ledger, progress: Callable[..., None]) -> None:
        self._folder, self._ledger, self._progress = folder, ledger, progress
        self._client: Any = None
        self._run_id: str | None = None

    def send(self) -> int:
        """Send all that is not sent yet, and return the number of metric lines among it."""
        if self._client is None:
            self._client = self._connect()
        if self._run_id is None:
            self._run_id = self._open_run()
        if not self._ledger["described"]:
            self._describe()
        if not self._ledger["datasets_sent"]:
            self._send_datasets()
        lines = self._send_metrics()
        if self._ledger["status"] != self._ledger["status_sent"]:
            self._send_status()
        for path, folder in self._ledger["artifacts"][self._ledger["artifacts_sent"] :]:
            self._send_artifact(self._folder / path, folder)
        if self._ledger["model"] is not None and self._ledger["model_sent"] is None:
            self._send_model(self._ledger["model"])
        return lines

    def _connect(self) -> Any:
        self._progress(FIRST_CONTACT)
        mlflow_environment.prepare()
        import mlflow.entities
        import mlflow.exceptions

        self._mlflow = mlflow
        self._progress()
        database = _database(self._ledger["uri"])
        with _one_at_a_time(database.parent) if database else nullcontext():
            client = mlflow.MlflowClient(tracking_uri=self._ledger["uri"])
        self._progress()
        return client

    def _open_run(self) -> str:
        """The run that carries our id, else a new one; if it is not the one we knew, everything is sent anew."""
        experiment = self._experiment()
        ours = self._ledger["run"]
        found = self._client.search_runs([experiment], f"tags.`bert.run` = '{ours}'", max_results=1)
        run_id = found[0].info.run_id if found else self._create_run(experiment)
        if run_id != self._ledger["run_id"]:
            self._ledger.update(run_id=run_id, **NOTHING_SENT)
        self._progress()
        return run_id

    def _create_run(self, experiment: str) -> str:
        start, tags = round(1000 * self._ledger["started"]), {"bert.run": self._ledger["run"]}
        return self._client.create_run(experiment, start, tags, self._ledger["run_name"]).info.run_id

    def _experiment(self) -> str:
        """Id of the experiment, created if missing, unless another process is quicker."""
        name, database = self._ledger["experiment"], _database(self._ledger["uri"])
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            location = (database.parent / "mlartifacts").as_uri() if database else None
            try:
                return self._client.create_experiment(name, artifact_location=location)
            except self._mlflow.exceptions.MlflowException as error:
                experiment = self._client.get_experiment_by_name(name)
                if error.error_code != "RESOURCE_ALREADY_EXISTS" or experiment is None:
                    raise
        return experiment.experiment_id

    def _describe(self) -> None:
        entities = self._mlflow.entities
        params = [entities.Param(_name(key), value) for key, value in self._ledger["params"].items()]
        for some in _batches(params, PARAMS_PER_CALL):
            self._client.log_batch(self._run_id, params=some)
        tags = self._ledger["tags"]
        self._client.log_batch(self._run_id, tags=[entities.RunTag(key, cut(value)) for key, value in tags.items()])
        self._ledger.note_sent_tags(tags)
        self._progress()

    def _send_datasets(self) -> None:
        if datasets := self._ledger["datasets"]:
            self._client.log_inputs(self._run_id, [self._dataset_input(dataset) for dataset in datasets])
        self._ledger.note_sent_datasets(datasets)
        self._progress()

    def _dataset_input(self, said: dict[str, Any]) -> Any:
        entities = self._mlflow.entities
        source, profile = json.dumps({"uri": said["source"]}), json.dumps(said["profile"])
        dataset = entities.Dataset(cut(said["name"], most=500), said["digest"], "local", source, profile=profile)
        return entities.DatasetInput(dataset, [entities.InputTag("mlflow.data.context", said["context"])])

    def _send_metrics(self) -> int:
        count = 0
        for lines in whole_lines(self._folder / METRICS, self._ledger["sent"]):
            points = [point for line in lines for point in points_of(line)]
            metrics = [self._mlflow.entities.Metric(_name(key), *point) for key, *point in points]
            for some in _batches(metrics, METRICS_PER_CALL):
                self._client.log_batch(self._run_id, metrics=some)
            whole_file.sync(self._folder / METRICS)  # or a power cut could undo lines that are marked as sent
            self._ledger.update(sent=self._ledger["sent"] + sum(map(len, lines)))
            count += len(lines)
            self._progress()
        return count

    def _send_status(self) -> None:
        status = self._ledger["status"]
        if status == "RUNNING":
            self._client.update_run(self._run_id, status)
        else:
            self._client.set_terminated(self._run_id, status, round(1000 * self._ledger["ended"]))
        self._ledger.update(status_sent=status)
        self._progress()

    def _send_artifact(self, path: Path, folder: str) -> None:
        if path.exists():
            size = sum(file.stat().st_size for file in [path, *path.rglob("*")])
            self._progress(size / 1e6)  # a second for each megabyte
            self._client.log_artifact(self._run_id, str(path), folder or None)
        else:
            warn(f"artifact {path} is gone, and was not sent.")
        self._ledger.update(artifacts_sent=self._ledger["artifacts_sent"] + 1)
        self._progress()

    def _send_model(self, step: int) -> None:
        """Weights go from the output folder straight to the store: what is built for MLflow on the way is small."""
        files = model_files(self._folder)
        if not (self._folder / SERVED).is_file() or not files:
            warn(f"the model in {self._folder} is gone, and was not sent.")
            self._ledger.update(model_sent="gone")
            return
        model = self._open_model(step)
        with tempfile.TemporaryDirectory() as built:
            known = {"model_id": model.model_id, "model_uuid": model.model_id, "run_id": self._run_id}
            mlflow_model.write(self._folder, Path(built), artifact_path=model.artifact_location, **known)
            self._progress()
            self._client.log_model_artifacts(model.model_id, built)
        self._progress(sum(file.stat().st_size for file in files) / 1e6)  # a second for each megabyte
        for file in files:
            self._client.log_model_artifact(model.model_id, str(file), mlflow_model.INSIDE)
        self._client.finalize_logged_model(model.model_id, "READY")
        self._ledger.update(model_sent=model.model_id)
        self._progress()

    def _open_model(self, step: int) -> Any:
        """The run's model, created if missing, with the metrics of that step's evaluation."""
        run = self._client.get_run(self._run_id)
        wanted = f"source_run_id = '{self._run_id}' AND name = '{MODEL}'"
        found = self._client.search_logged_models([run.info.experiment_id], wanted, max_results=1)
        model = found[0] if found else self._client.create_logged_model(run.info.experiment_id, MODEL, self._run_id)
        if model.model_id not in [output.model_id for output in run.outputs.model_outputs]:
            output = self._mlflow.entities.LoggedModelOutput(model.model_id, step)
            self._client.log_outputs(self._run_id, [output])
        self._client.log_batch(self._run_id, metrics=self._reached(step, model.model_id))
        self._progress()
        return model

    def _reached(self, step: int, model_id: str) -> list[Any]:
        """The run's points of that evaluation, as the model's; to MLflow they are the same points."""
        lines = (line for lines in whole_lines(self._folder / METRICS, 0) for line in lines)
        points = [point for line in lines for point in points_of(line) if point[3] == step]
        metric = self._mlflow.entities.Metric
        return [metric(_name(key), *point, model_id) for key, *point in points if key.startswith("valid/")]


def resolve(uri: str) -> str:
    """The address, a relative SQLite path in it made absolute; a UserError where MLflow has no such store."""
    scheme, found, rest = uri.partition("://")
    if uri in ("none", "databricks"):
        return uri
    if not found or scheme.partition("+")[0] not in SCHEMES or (scheme == "sqlite" and not rest[1:]):
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES[1:])
        raise UserError(f"tracking.uri: {uri!r} names no store; use none, sqlite:///file.db, or {known}...")
    return f"sqlite:///{Path(rest[1:]).absolute()}" if scheme == "sqlite" else uri


def _database(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Let one process in at a time: two that create the same SQLite store would migrate it twice."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        take(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _name(key: str) -> str:
    return REFUSED_IN_NAMES.sub("_", key)


def _batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def reason(error: BaseException) -> str:
    """The start of an error, and that of its root cause, in one line."""
    root = error
    while root.__cause__ or root.__context__:
        root = root.__cause__ or root.__context__
    shown = [error] if root is error else [error, root]
    return "; ".join(f"{type(e).__name__}: {str(e).strip().partition(chr(10))[0][:120]}" for e in shown)
