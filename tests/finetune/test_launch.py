"""Fine-tuning runs from files to folders: what is kept, how they go on, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bert.errors import UserError
from bert.training.config import TrainingConfig
from bert.training.stopping import Stopped
from bert.training.tracking import TrackingConfig
from finetune import launch
from finetune.config import DataConfig, FinetuneConfig, TaskConfig
from finetune.examples import read
from finetune.judge import evaluator
from finetune.launch import train
from finetune.model import load
from tests.finetune.conftest import reviews, sentences


@pytest.fixture
def make_config(tmp_path, write, pretrained):
    """A run of two epochs of four steps, of either task."""

    def make(name: str = "run", task: str = "classification", parts: dict | None = None, **training) -> FinetuneConfig:
        texts = sentences if task == "ner" else reviews
        ending = "conll" if task == "ner" else "tsv"
        data = {part: str(write(texts(n), f"{part}.{ending}")) for part, n in (("train", 32), ("eval", 12))}
        settings = {"epochs": 2, "batch_size": 8, "micro_batch_size": 4, "lr": 0.01, "device": "cpu", "log_every": 1}
        config = FinetuneConfig(
            task=TaskConfig(name=task, head="crf" if task == "ner" else "linear"),
            data=DataConfig(**data, max_length=16),
            init=str(pretrained),
            training=TrainingConfig(**settings | training),
            tracking=TrackingConfig(uri="none"),
            output=str(tmp_path / name),
        )
        return replace(config, **parts or {})

    return make


@pytest.fixture
def stop_before(monkeypatch):
    """Lets a run be stopped before its micro-batch of that number, once."""

    def install(number: int) -> None:
        class Stopping(launch.Batches):
            def __call__(self, position):
                for place, item in enumerate(super().__call__(position)):
                    if place == number:
                        monkeypatch.undo()
                        raise Stopped("stopped")
                    yield item

        monkeypatch.setattr(launch, "Batches", Stopping)

    return install


def weights(config) -> dict[str, torch.Tensor]:
    files = [f"{config.output}/{name}" for name in ("model.safetensors", "last/model.safetensors")]
    return {f"{file}:{name}": tensor for file in files for name, tensor in load_file(file).items()}


@pytest.mark.parametrize("task", ["classification", "ner"])
def test_a_rule_that_can_be_learned_is_learned(make_config, task, capsys):
    result = train(make_config(task=task, epochs=10))
    assert result[f"valid/{'entity_' if task == 'ner' else ''}macro_f1"] == 1.0
    said = capsys.readouterr().out
    assert "32 rows, 32 used, 0 refused" in said and "12 rows, 12 used, 0 refused" in said
    unused = "bert.pooler, masked_lm_head" if task == "ner" else "masked_lm_head, sentence_head"
    assert f"not needed: {unused}" in said


def test_each_epoch_ends_with_the_table_of_classes(make_config, capsys):
    train(make_config())
    assert capsys.readouterr().out.count("precision  recall      F1  support") == 3  # two epochs, and the best


@pytest.mark.parametrize("task", ["classification", "ner"])
@pytest.mark.parametrize("number", [1, 3, 9])
def test_a_run_that_was_stopped_ends_with_the_same_weights(make_config, stop_before, task, number):
    straight = make_config("straight", task, save_every=1)
    train(straight)
    stopped = make_config("stopped", task, save_every=1)
    stop_before(number)
    with pytest.raises(Stopped):
        train(stopped)
    result = train(stopped)
    expected = weights(straight)
    for (name, tensor), wanted in zip(weights(stopped).items(), expected.values(), strict=True):
        assert torch.equal(tensor, wanted), name
    assert result == json.loads((Path(straight.output) / "metrics.json").read_text())


@pytest.mark.parametrize("task", ["classification", "ner"])
def test_a_run_may_go_on_with_layers_computed_again_to_the_same_weights(make_config, stop_before, task):
    straight = make_config("straight", task, save_every=1)
    train(straight)
    stopped = make_config("stopped", task, save_every=1)
    stop_before(3)
    with pytest.raises(Stopped):
        train(stopped)
    train(replace(stopped, training=replace(stopped.training, gradient_checkpointing=True)))
    pairs = zip(weights(stopped).values(), weights(straight).values(), strict=True)
    assert all(torch.equal(mine, wanted) for mine, wanted in pairs)


def test_a_run_goes_on_where_what_it_started_from_is_gone(make_config, stop_before, tmp_path, pretrained):
    moved = tmp_path / "start"
    moved.mkdir()
    for file in pretrained.iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    config = make_config(parts={"init": str(moved)}, save_every=1)
    stop_before(5)
    with pytest.raises(Stopped):
        train(config)
    for file in moved.iterdir():
        file.unlink()
    moved.rmdir()
    assert train(config)["steps"] == 8


def test_a_finished_run_is_left_alone(make_config, capsys):
    config = make_config()
    train(config)
    assert train(config) is None
    assert "is finished: nothing to do" in capsys.readouterr().out


def test_other_labelled_data_on_the_same_output_is_refused(make_config, write):
    config = make_config()
    train(config)
    write(reviews(40), "train.tsv")
    with pytest.raises(UserError, match="was started with train="):
        train(config)


def test_the_root_holds_the_best_epoch_and_its_scores(make_config, write, tmp_path):
    config = make_config(parts={"best": "loss"}, epochs=20)
    swapped = str.maketrans("01", "10")
    write(reviews(12).translate(swapped), "eval.tsv")  # the better it learns, the worse it scores
    result = train(config)
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    losses = {line["step"]: line["metrics"].get("valid/loss") for line in lines}
    curve = {step: value for step, value in losses.items() if value is not None}
    assert len(curve) == 20 and curve[80] > 1 > min(curve.values())
    assert result["valid/loss"] == result["best_valid/loss"] == min(curve.values())
    assert curve[result["best_step"]] == min(curve.values())


def test_the_scores_written_down_are_those_of_the_folder(make_config):
    config = make_config(task="ner")
    result = train(config)
    task = load(Path(config.output))
    examples = read(Path(config.data.eval), config.task, config.data, "data.eval", task.labels)
    found = evaluator(task, examples, 5, torch.device("cpu"), config.training)()
    assert {name: result[name] for name in found} == pytest.approx(found)


def test_a_checkpoint_of_a_run_is_a_start(make_config, tmp_path):
    first = make_config("first", save_every=4)
    train(first)
    step = next((tmp_path / "first" / "checkpoints").glob("step-*"))
    assert train(make_config("second", parts={"init": str(step)}))["steps"] == 8


def test_random_weights_take_sizes_and_tokenizer_from_elsewhere(make_config, pretrained, capsys):
    train(make_config(parts={"init": "none", "like": str(pretrained)}))
    assert f"random weights, with the sizes and the tokenizer of {pretrained}" in capsys.readouterr().out


def test_random_weights_are_those_of_the_seed(make_config, pretrained):
    parts = {"init": "none", "like": str(pretrained)}
    ends = [train(make_config(f"run{n}", parts=parts, seed=seed))["valid/loss"] for n, seed in enumerate((0, 0, 1))]
    assert ends[0] == ends[1] != ends[2]


@pytest.mark.filterwarnings("ignore:The ..noload.. loader strategy is deprecated:DeprecationWarning")
def test_mlflow_gets_curves_classes_pictures_and_the_parent(make_config, tmp_path, pretrained):
    import mlflow

    (pretrained / "tracking.json").write_text('{"run": "base", "run_id": "abc"}')
    try:
        uri = f"sqlite:///{tmp_path}/mlflow.db"
        train(make_config(parts={"tracking": TrackingConfig(uri=uri)}))
    finally:
        (pretrained / "tracking.json").unlink()
    client = mlflow.MlflowClient(uri)
    run = client.search_runs([client.get_experiment_by_name("bert").experiment_id])[0]
    assert (run.info.status, run.data.tags["parent_mlflow_run_id"]) == ("FINISHED", "abc")
    assert len(client.get_metric_history(run.info.run_id, "valid/macro_f1")) == 2
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"classes.json", "confusion_matrix.png", "metrics.json", "model", "run.yaml"} <= files
    table = json.loads((tmp_path / "run" / "classes.json").read_text())
    assert table["columns"] == ["class", "precision", "recall", "f1", "support"]
    assert [(row[0], row[4]) for row in table["data"]] == [("0", 6), ("1", 6)]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"best": "f1"}, r"best: no metric 'f1'; one of loss, accuracy, micro_f1, macro_f1"),
        ({"init": "none"}, "like: needed with init=none"),
        ({"like": "x"}, "like: 'x' was given, but it belongs to init=none"),
        ({"init": "./nowhere"}, "init: no such folder: './nowhere'"),
        ({"task": TaskConfig(head="crf")}, "task.head: 'crf' was given, but it belongs to task.name=ner"),
        ({"data": DataConfig()}, "init"),
        ({"data": DataConfig(text="x")}, "data.text: 'x' was given, but it belongs to a data.train of your own"),
        ({"data": DataConfig(train="x.tsv")}, "data.eval: needed beside data.train"),
        ({"data": DataConfig(train="x.tsv", eval="y.tsv")}, "data.train: no such file: 'x.tsv'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(make_config, parts, said, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    if said == "init":
        parts, said = parts | {"init": "runs/pretrain"}, "init: no such folder: 'runs/pretrain'. `python run.py` leaves"
        monkeypatch.setattr(launch.builtin_labels, "files", lambda task: make_config().data)
    with pytest.raises(UserError, match=said):
        train(make_config(parts=parts))


def test_labels_of_one_kind_alone_are_refused(make_config, write):
    config = make_config()
    write("text\tlabel\na\t1\nb\t1\n", "train.tsv")
    with pytest.raises(UserError, match=r"every row of '.*train\.tsv' has the label '1'; nothing can be learned"):
        train(config)


def test_tags_that_are_all_o_are_refused(make_config, write):
    config = make_config(task="ner")
    write("a\tO\n\nb\tO\n", "train.conll")
    with pytest.raises(UserError, match="has the label 'O'; nothing can be learned"):
        train(config)


def test_a_sequence_longer_than_the_model_reads_is_refused(make_config):
    config = make_config()
    with pytest.raises(UserError, match=r"data.max_length: 64, but the model of '.*' reads 32 tokens at most"):
        train(replace(config, data=replace(config.data, max_length=64)))


def test_texts_of_which_the_tokenizer_leaves_nothing_are_counted(make_config, write, capsys):
    config = make_config()
    write(reviews(8) + "\x01\x02\t1\n", "train.tsv")
    train(config)
    assert "1 texts have no token at all" in capsys.readouterr().out
