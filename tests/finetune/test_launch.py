"""Fine-tuning runs from files to folders: what is kept, how they go on, and what is refused."""

import json
import math
import os
import re
import shutil
import signal
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bert import Bert
from bert.errors import UserError
from bert.training import identity
from bert.training.config import TrainingConfig
from bert.training.stopping import Stopped
from bert.training.tracking import TrackingConfig, sync
from finetune import launch
from finetune.config import DataConfig, FinetuneConfig, TaskConfig
from finetune.examples import read
from finetune.judge import evaluator
from finetune.launch import check_only, train
from finetune.model import build, load
from finetune.seeds import summary
from finetune.seeds import train as train_seeds
from finetune.tasks import TASKS
from pretrain.objectives.masked_lm import MaskedLM
from tests.finetune.conftest import reviews, sentences

PARTS = ("train", "eval")


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
    assert f"not used: {unused}" in said


def test_a_run_remembers_how_its_data_was_read(make_config, write):
    config = make_config()
    data = replace(config.data, text="1", label="2", **{p: str(write(reviews(8)[11:], f"{p}.tsv")) for p in PARTS})
    train(replace(config, data=data))
    for folder in (config.output, f"{config.output}/last"):
        remembered = {"format": "tsv", "text": "1", "text_pair": None, "label": "2", "quoting": "auto"}
        assert load(folder).read_as == remembered


@pytest.mark.parametrize(("options", "warned"), [("", True), ("init: elsewhere\n", False)])
def test_positions_that_the_pretraining_run_never_saw_are_warned_of(
    make_config, pretrained, tmp_path, capsys, options, warned
):
    run = tmp_path / "pretrain"
    shutil.copytree(pretrained, run)
    (run / "tracking.json").write_text('{"run": "x", "run_id": null}')
    (run / "run_facts.json").write_text("{}")
    for length, above in ((6, True), (7, False)):  # of the reviews, the longest has 7 tokens
        (run / "run.yaml").write_text(f"data:\n  max_length: {length}\n{options}")
        check_only(replace(make_config(), init=str(run)))
        learned = f"WARNING: sequences of up to 7 tokens, but '{run}' was pretrained with data.max_length=6"
        assert (learned in capsys.readouterr().out) == (warned and above)


def test_questions_are_advised_to_be_read_as_far_as_the_model_has_learned_its_positions(
    make_config, write, pretrained, tmp_path, capsys
):
    run = tmp_path / "pretrain"
    shutil.copytree(pretrained, run)
    (run / "tracking.json").write_text('{"run": "x", "run_id": null}')
    (run / "run_facts.json").write_text("{}")
    file = str(write(questions(6), "asked.json"))  # of 8 to 10 tokens
    config = make_config(parts={"task": TaskConfig("question_answering"), "data": DataConfig(file, file, max_length=8)})
    for options, most in (("data:\n  max_length: 9\n", 9), ("data:\n  max_length: 9\ninit: elsewhere\n", 32)):
        (run / "run.yaml").write_text(options)
        check_only(replace(config, init=str(run)))
        assert f"; --data.max_length {most} would read more of them whole\n" in capsys.readouterr().out


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
    curve = {line["step"]: line["metrics"]["valid/loss"] for line in lines if "valid/loss" in line["metrics"]}
    assert len(curve) == 20 and curve[80] > 1 > min(curve.values())
    assert result["valid/loss"] == result["best_valid/loss"] == min(curve.values())
    assert curve[result["best_step"]] == min(curve.values())


@pytest.mark.parametrize("precision", ["auto", "bf16"])
def test_the_scores_written_down_are_those_of_the_folder(make_config, precision):
    config = make_config(task="ner", precision=precision)
    result = train(config)
    task = load(Path(config.output))
    examples = read(Path(config.data.eval), config.task, config.data, "data.eval", task.labels)
    found, _ = evaluator(task, examples, 5, torch.device("cpu"))()
    assert {name: result[name] for name in found} == pytest.approx(found)


@pytest.mark.parametrize("task", ["classification", "ner"])
def test_a_run_for_the_same_labels_is_gone_on_from_with_its_head(make_config, tmp_path, capsys, task):
    first = train(make_config("first", task, save_every=4, epochs=10))
    step = max((tmp_path / "first" / "checkpoints").glob("step-*"))
    standing_still = {"lr": 1e-12, "weight_decay": 0.0}
    second = train(make_config("second", task, parts={"init": str(step)}, **standing_still))
    assert "encoder and head loaded" in capsys.readouterr().out
    assert second["steps"] == 8
    best = "valid/entity_macro_f1" if task == "ner" else "valid/macro_f1"
    assert second[best] == first[best] == 1.0


@pytest.mark.parametrize("other", ["labels", "task", "head", "layers begun anew"])
def test_a_head_of_something_else_begins_anew(make_config, capsys, other):
    train(make_config("first", "ner"))
    parts = {"init": make_config("first").output}
    if other == "head":
        parts |= {"task": TaskConfig(name="ner", head="linear")}
    if other == "layers begun anew":
        parts |= {"reinit_layers": 1}
    config = make_config("second", "classification" if other == "task" else "ner", parts)
    if other == "labels":
        for file in (config.data.train, config.data.eval):
            Path(file).write_text(Path(file).read_text().replace("ANIMAL", "BEAST"))
    train(config)
    assert "encoder loaded; new: " in capsys.readouterr().out


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
        sync(tmp_path / "run")  # what a busy machine had no time for
    finally:
        (pretrained / "tracking.json").unlink()
    client = mlflow.MlflowClient(uri)
    run = client.search_runs([client.get_experiment_by_name("bert").experiment_id])[0]
    assert (run.info.status, run.data.tags["parent_mlflow_run_id"]) == ("FINISHED", "abc")
    assert (run.data.tags["stage"], run.data.tags["task"]) == ("finetune", "classification")
    parameters = sum(tensor.numel() for tensor in load_file(tmp_path / "run" / "model.safetensors").values())
    assert run.data.params["model.parameters"] == str(parameters)
    assert run.data.params["model.hidden_size"] == str(Bert.from_pretrained(pretrained).bert.config.hidden_size)
    assert run.data.metrics["baseline/accuracy"] == 0.5
    assert len(client.get_metric_history(run.info.run_id, "valid/macro_f1")) == 2
    reached = json.loads((tmp_path / "run" / "metrics.json").read_text())["valid/macro_f1"]
    assert run.data.metrics["best/macro_f1"] == pytest.approx(reached)
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"classes.json", "confusion_matrix.png", "metrics.json", "run.yaml", "worst_errors.json"} == files
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
        ({"init": "./nowhere", "data": DataConfig("x", "y")}, "init: no such folder: './nowhere'"),  # said first
        ({"task": TaskConfig(head="crf")}, "task.head: 'crf' was given, but it belongs to task.name=ner"),
        ({"data": DataConfig()}, "init"),
        ({"data": DataConfig(text="x")}, "data.text: 'x' was given, but it belongs to a data.train of your own"),
        (
            {"data": DataConfig(quoting="on")},
            "data.quoting: 'on' was given, but it belongs to a data.train of your own",
        ),
        ({"data": DataConfig(train="x.tsv")}, "data.eval: needed with data.train"),
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


def test_a_score_of_which_nobody_said_which_way_is_better_is_refused_before_anything_runs(make_config, monkeypatch):
    task = TASKS["classification"]
    monkeypatch.setattr(task, "metrics", (*task.metrics, "precision_at_1"))
    with pytest.raises(UserError, match=r"is more of 'precision_at_1' better or less\? .* bert/training/metric\.py"):
        train(make_config())


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
    assert "1 text has no tokens at all" in capsys.readouterr().out


def test_training_stops_when_nothing_better_comes(make_config, write):
    config = make_config(parts={"best": "loss"}, epochs=20, patience=3, lr=0.01)
    write(reviews(12).translate(str.maketrans("01", "10")), "eval.tsv")  # the better it learns, the worse it scores
    result = train(config)
    assert result["steps"] == result["best_step"] + 3 * 4  # three evaluations, an epoch of four steps apart
    assert result["steps"] < 80
    assert train(config) is None  # it is finished


def test_a_run_that_ran_out_of_patience_and_was_cut_off_there_ends_the_same(make_config, write):
    def make(name: str) -> FinetuneConfig:
        config = make_config(name, parts={"best": "loss"}, epochs=20, patience=2, lr=0.01)
        write(reviews(12).translate(str.maketrans("01", "10")), "eval.tsv")
        return config

    expected = train(make("straight"))
    cut = make("cut")
    train(cut)
    for file in ("metrics.json", "model.safetensors"):
        (Path(cut.output) / file).unlink()
    assert train(cut) == expected


@pytest.mark.parametrize(("freeze", "kept"), [("embeddings", "embeddings"), (1, "layers.0"), ("encoder", "layers.0")])
def test_what_is_frozen_stays_as_it_was(make_config, pretrained, freeze, kept):
    train(make_config(freeze=freeze))
    before, after = load_file(pretrained / "model.safetensors"), load_file(Path(make_config().output) / _WEIGHTS)
    same = {name for name in after if name in before and torch.equal(before[name], after[name])}
    frozen = ("bert.embeddings.", "bert.encoder.layer.0.") if kept == "layers.0" else ("bert.embeddings.",)
    # A key's bias changes no attention, so it has no gradient: it stays as it is anyway.
    assert {name for name in same if not name.endswith("key.bias")} == {
        name for name in after if name.startswith(frozen) and not name.endswith("key.bias")
    }


def test_layers_begun_anew_are_not_those_of_the_start(make_config, pretrained, capsys):
    train(make_config(parts={"reinit_layers": 1}, lr=1e-12, weight_decay=0.0))
    assert "reinitialised: the pooler and the top 1 layer" in capsys.readouterr().out
    before, after = load_file(pretrained / "model.safetensors"), load_file(Path(make_config().output) / _WEIGHTS)
    changed = {name for name in after if name in before and not torch.allclose(before[name], after[name], atol=1e-8)}
    assert "bert.encoder.layer.0.output.dense.weight" in changed and "bert.pooler.dense.weight" in changed
    assert not any(name.startswith("bert.embeddings.") for name in changed)


def test_more_files_are_judged_once_by_the_best_weights(make_config, write):
    config = make_config(epochs=10)
    tests = {"same": str(write(reviews(12), "same.tsv")), "swapped": str(write(_swapped(12), "swapped.tsv"))}
    config = replace(config, data=replace(config.data, test=tests))
    result = train(config)
    assert result["valid/accuracy"] == result["test/same/accuracy"] == 1.0
    assert result["test/swapped/accuracy"] == 0.0
    lines = map(json.loads, (Path(config.output) / "metrics.jsonl").read_text().splitlines())
    logged = [line for line in lines if "test/swapped/accuracy" in line["metrics"]]
    assert [line["step"] for line in logged] == [40]
    write(_swapped(14), "swapped.tsv")
    with pytest.raises(UserError, match=r"was started with test.swapped="):
        train(config)


def test_the_deviation_of_what_is_no_number_is_none():
    found = summary([{"valid/f1": 0.5, "test/silent/has_answer_f1": math.nan}] * 2)
    assert (found["valid/f1_std"], math.isnan(found["test/silent/has_answer_f1_std"])) == (0.0, True)


def test_several_seeds_give_mean_and_deviation_and_go_on_where_they_stopped(make_config, stop_before, capsys):
    config = make_config(parts={"seeds": [0, 1, 5]}, save_every=1)
    stop_before(9)  # a run has 16 micro-batches: in the first one
    with pytest.raises(Stopped):
        train_seeds(config)
    result = train_seeds(config)
    runs = [json.loads((Path(config.output) / f"seed-{n}" / "metrics.json").read_text()) for n in (0, 1, 5)]
    losses = [run["valid/loss"] for run in runs]
    assert len(set(losses)) == 3
    assert result["valid/loss"] == pytest.approx(sum(losses) / 3)
    assert result["valid/loss_std"] == pytest.approx(statistics.stdev(losses))
    assert "of 3 seeds\n  valid/loss" in capsys.readouterr().out
    assert train_seeds(config) is None
    alone = train(make_config("alone", seed=5, save_every=1))
    assert alone == runs[2]


def test_a_signal_in_one_seeds_last_evaluation_starts_no_other_seed(make_config, monkeypatch, capsys):
    config = make_config(parts={"seeds": [0, 1]})

    def conclude(*of):
        os.kill(os.getpid(), signal.SIGTERM)
        return concluded(*of)

    concluded = launch.conclude
    with monkeypatch.context() as patch:
        patch.setattr(launch, "conclude", conclude)
        with pytest.raises(Stopped, match="stopped before seed 1; the same command continues from there"):
            train_seeds(config)
    assert (Path(config.output) / "seed-0" / "metrics.json").is_file()
    assert not (Path(config.output) / "seed-1").exists()
    assert train_seeds(config)["runs"] == 2


def test_another_seed_may_be_added_and_another_option_may_not(make_config):
    config = make_config(parts={"seeds": [0, 1]})
    two = train_seeds(config)
    three = train_seeds(replace(config, seeds=[0, 1, 2]))
    assert (two["runs"], three["runs"]) == (2, 3)
    assert train_seeds(replace(config, seeds=[2, 0, 1])) is None
    with pytest.raises(UserError, match=r"seeds: \[2, 3\], but .* holds runs of \[0, 1, 2\]\. Keep \[0, 1\]"):
        train_seeds(replace(config, seeds=[2, 3]))
    with pytest.raises(UserError, match=r"was started with training.lr=0.01, and is now asked for with 0.02"):
        train_seeds(replace(config, seeds=[0, 1, 2, 3], training=replace(config.training, lr=0.02)))


def test_a_seed_s_score_that_is_no_number_makes_the_mean_one(make_config):
    config = make_config(parts={"seeds": [0]})
    train_seeds(config)
    first = Path(config.output) / "seed-0"
    identity.finish(first, json.loads((first / "metrics.json").read_text()) | {"valid/accuracy": math.nan})
    both = train_seeds(replace(config, seeds=[0, 1]))
    assert math.isnan(both["valid/accuracy"]) and math.isfinite(both["valid/loss"])


@pytest.mark.parametrize(
    ("seeds", "said"), [([0, 1, 0], "each may be given once"), ([-1], "at least 0"), ([0, 2**64], r"at most .*2\*\*64")]
)
def test_seeds_that_repeat_or_that_no_generator_takes_are_refused(make_config, seeds, said):
    with pytest.raises(UserError, match=rf"^seeds: .*{said}"):
        train_seeds(make_config(parts={"seeds": seeds}))


def test_several_seeds_notice_other_data_and_advise_what_can_be_done(make_config, write, stop_before):
    config = make_config(parts={"seeds": [0, 1]}, save_every=1)
    stop_before(9)
    with pytest.raises(Stopped):
        train_seeds(config)
    with pytest.raises(UserError, match=r"training.lr=0.01, .* with 0.02\. Use another folder\.$"):
        train_seeds(replace(config, training=replace(config.training, lr=0.02)))
    train_seeds(config)
    write(reviews(30), "train.tsv")
    with pytest.raises(UserError, match=r"seed-0' was started with train=.*; a finished run cannot be changed"):
        train_seeds(config)


@pytest.mark.parametrize("finished", [True, False])
def test_seeds_of_two_starts_are_not_averaged(make_config, stop_before, pretrained, tmp_path, finished):
    start = shutil.copytree(pretrained, tmp_path / "start")
    config = make_config(parts={"seeds": [0], "init": str(start)}, save_every=1)
    if finished:
        train_seeds(config)
    else:
        stop_before(9)
        with pytest.raises(Stopped):
            train_seeds(config)
    weights = load_file(start / "model.safetensors")
    save_file({name: 2 * tensor for name, tensor in weights.items()}, start / "model.safetensors", {"format": "pt"})
    said = r"seed-0' was started with init_weights=" if finished else r"are not those that seed 0 started from\."
    with pytest.raises(UserError, match=said):
        train_seeds(replace(config, seeds=[0, 1]))


def test_labels_that_changed_are_no_change_to_accept(make_config, write, stop_before):
    config = make_config(save_every=1)
    stop_before(9)
    with pytest.raises(Stopped):
        train(config)
    for name, count in (("train", 32), ("eval", 12)):
        write(reviews(count).replace("\t0", "\t2"), f"{name}.tsv")
    with pytest.raises(UserError, match=r"data.train: its labels are not those .* \(new: 2; gone: 0\); other"):
        train(replace(config, accept_changes=["train", "eval"]))


def test_how_a_step_is_cut_changes_neither_what_is_seen_nor_when_it_is_judged(make_config, write):
    said = []
    for name, size in (("whole", None), ("cut", 3)):
        config = make_config(name, micro_batch_size=size)
        write(reviews(17), "train.tsv")
        train(config)
        lines = [json.loads(line) for line in (Path(config.output) / "metrics.jsonl").read_text().splitlines()]
        judged = [line["step"] for line in lines if "valid/loss" in line["metrics"]]
        said.append((judged, [line["metrics"]["train/epochs"] for line in lines if "train/epochs" in line["metrics"]]))
    # 17 examples in steps of 8 at most are three steps an epoch.
    assert said[0] == said[1] == ([3, 6], pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2]))


def test_a_seed_that_was_added_and_interrupted_is_finished_by_the_same_command(make_config, stop_before):
    config = make_config(parts={"seeds": [0, 1]}, save_every=1)
    train_seeds(config)
    more = replace(config, seeds=[0, 1, 2])
    stop_before(9)
    with pytest.raises(Stopped):
        train_seeds(more)
    assert train_seeds(more)["runs"] == 3


def test_seeds_that_never_began_may_be_left_out_and_runs_that_were_removed_are_not_made_again(make_config, stop_before):
    config = make_config(parts={"seeds": [0, 1, 2]}, save_every=1)
    stop_before(9)
    with pytest.raises(Stopped):
        train_seeds(config)
    fewer = replace(config, seeds=[0])
    assert train_seeds(fewer)["runs"] == 1
    shutil.rmtree(Path(config.output) / "seed-0")
    assert train_seeds(fewer) is None and not (Path(config.output) / "seed-0").exists()


def test_a_run_whose_steps_are_cut_otherwise_from_now_on_takes_the_same_ones(make_config, stop_before):
    config = make_config(micro_batch_size=8, save_every=1)
    stop_before(6)  # an epoch is 4 steps
    with pytest.raises(Stopped):
        train(config)
    halves = replace(config, training=replace(config.training, micro_batch_size=4))
    with pytest.raises(UserError, match=r"started with batches=None, and is now asked for with rule 2"):
        train(halves)
    train(replace(halves, accept_changes=["training.micro_batch_size", "batches"]))
    lines = [json.loads(line) for line in (Path(config.output) / "metrics.jsonl").read_text().splitlines()]
    epochs = [line["metrics"]["train/epochs"] for line in lines if "train/epochs" in line["metrics"]]
    assert epochs == [step / 4 for step in range(1, 9)]


def test_a_refused_restart_leaves_what_the_whole_was_asked_for(make_config, stop_before):
    config = make_config(parts={"seeds": [0, 1]}, save_every=1)
    stop_before(9)
    with pytest.raises(Stopped):
        train_seeds(config)
    before = (Path(config.output) / "run.yaml").read_text()
    with pytest.raises(UserError, match=r"was started with training.lr=0.01"):
        train_seeds(replace(config, training=replace(config.training, lr=0.02)))
    assert (Path(config.output) / "run.yaml").read_text() == before


def test_a_resumed_run_has_the_options_that_were_accepted(make_config, stop_before, monkeypatch):
    config = make_config(save_every=1)
    stop_before(9)
    with pytest.raises(Stopped):
        train(config)
    task = replace(config.task, label_smoothing=0.3)
    changed = replace(config, task=task, accept_changes=["task.label_smoothing", "data.max_length"])
    train(replace(changed, data=replace(config.data, max_length=12)))
    again = load(config.output)
    assert (again.task.label_smoothing, again.max_length) == (0.3, 12)


def test_a_single_run_and_seeds_do_not_share_a_folder(make_config, tmp_path):
    single, several = make_config(parts={}), make_config(parts={"seeds": [0, 1]})
    train(single)
    with pytest.raises(UserError, match=r"holds a single run, without seeds\. Use another folder\.$"):
        train_seeds(replace(several, output=single.output))
    several = replace(several, output=str(tmp_path / "several"))
    train_seeds(several)
    with pytest.raises(UserError, match=r"holds runs of seeds=\[0, 1\]\. Give seeds too, or use another folder\.$"):
        train(replace(single, output=several.output))


def test_what_never_began_stands_in_nobody_s_way(make_config, tmp_path):
    config = make_config(parts={"seeds": [0, 1]})
    with pytest.raises(UserError, match="no such file"):
        train_seeds(replace(config, data=replace(config.data, train=str(tmp_path / "mistyped.tsv"))))
    train(replace(config, seeds=[]))
    (Path(config.output) / "metrics.json").unlink()
    for checkpoint in (Path(config.output) / "checkpoints").iterdir():
        checkpoint.rename(tmp_path / checkpoint.name)  # as if it had been killed before the first
    assert train_seeds(config)["runs"] == 2


@pytest.mark.filterwarnings("ignore:The ..noload.. loader strategy is deprecated:DeprecationWarning")
def test_in_mlflow_the_seeds_are_children_of_the_whole(make_config, tmp_path):
    import mlflow

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    result = train_seeds(make_config(parts={"seeds": [3, 4], "tracking": TrackingConfig(uri=uri)}))
    for folder in ("run", "run/seed-3", "run/seed-4"):
        sync(tmp_path / folder)  # what a busy machine had no time for
    client = mlflow.MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("bert").experiment_id])
    by_name = {run.info.run_name: run for run in runs}
    whole = by_name.pop("run")
    assert sorted(by_name) == ["run seed 3", "run seed 4"]
    assert {run.data.tags["mlflow.parentRunId"] for run in by_name.values()} == {whole.info.run_id}
    each = [run.data.metrics["best/loss"] for run in by_name.values()]
    assert whole.data.metrics["best/loss"] == pytest.approx(sum(each) / 2) == result["valid/loss"]
    more = train_seeds(make_config(parts={"seeds": [3, 4, 5], "tracking": TrackingConfig(uri=uri)}))
    sync(tmp_path / "run")
    points = client.get_metric_history(whole.info.run_id, "best/loss")
    assert [(point.step, point.value) for point in points] == [(2, result["valid/loss"]), (3, more["valid/loss"])]


def test_the_surest_mistakes_are_left_as_a_table(make_config, write, tmp_path):
    config = make_config(epochs=10)
    write(_swapped(12), "eval.tsv")
    result = train(config)
    table = json.loads((tmp_path / "run" / "worst_errors.json").read_text())
    assert table["columns"] == ["line", "gold", "predicted", "probability", "text"]
    assert len(table["data"]) == round(12 * (1 - result["valid/accuracy"])) > 0
    confidences = [row[3] for row in table["data"]]
    assert confidences == sorted(confidences, reverse=True)
    assert all({row[1], row[2]} == {"0", "1"} for row in table["data"])


_WEIGHTS = "model.safetensors"


def _swapped(count: int) -> str:
    return reviews(count).translate(str.maketrans("01", "10"))


def scores(count: int) -> str:
    """Texts with a number that can be learned: how often they say very."""
    return "\n".join(["text\tlabel", *(f"a {'very ' * (n % 3)}good film\t{n % 3}.0" for n in range(count))]) + "\n"


def questions(count: int) -> str:
    """Where is the cat: the place after it; without a cat there is none."""
    asked = []
    for number in range(count):
        cat = "the cat sat on " if number % 3 else "the dog sat on "
        place = ("a mat", "the dog")[number % 2]
        answers = [{"text": place, "answer_start": len(cat)}] if number % 3 else []
        question = {"id": str(number), "question": "cat", "answers": answers, "is_impossible": not answers}
        asked.append({"context": cat + place, "qas": [question]})
    return json.dumps({"data": [{"paragraphs": asked}]})


@pytest.mark.parametrize(
    ("task", "text", "ending", "metric"),
    [("regression", scores, "tsv", "spearman"), ("question_answering", questions, "json", "exact_match")],
)
def test_numbers_and_answers_that_can_be_learned_are_learned(make_config, write, task, text, ending, metric):
    config = make_config(epochs=40)
    data = DataConfig(**{part: str(write(text(n), f"{part}.{ending}")) for part, n in (("train", 32), ("eval", 12))})
    config = replace(config, task=TaskConfig(name=task), data=replace(data, max_length=16))
    result = train(config)
    assert result[f"valid/{metric}"] > 0.95
    task = load(config.output)
    examples = read(Path(config.data.eval), task.task, config.data, "data.eval", task.labels)
    # Batches as in training: equal texts tie only if they are computed alike.
    found, _ = evaluator(task, examples, 4, torch.device("cpu"))()
    assert {name: result[name] for name in found} == pytest.approx(found)
    assert (Path(config.output) / task.picture).is_file()


def test_a_task_may_refuse_any_option_of_a_run_before_a_file_is_read(make_config, monkeypatch):
    def check(config: FinetuneConfig) -> list[str]:
        return ["data.text_pair: needed with task.name=regression."] * (config.data.text_pair is None)

    monkeypatch.setattr(TASKS["regression"], "check", check)
    missing = DataConfig(train="missing.tsv", eval="missing.tsv")
    config = make_config(parts={"task": TaskConfig(name="regression"), "data": missing})
    with pytest.raises(UserError) as refused:
        train(config)
    assert refused.value.messages == ("data.text_pair: needed with task.name=regression.",)
    with pytest.raises(UserError, match=r"no such file: 'missing.tsv'"):
        train(replace(config, data=replace(missing, text_pair="other")))


def test_a_task_that_reads_the_texts_of_a_pair_apart_needs_one_segment(
    make_config, small_config, pieces, tmp_path, monkeypatch
):
    folder = tmp_path / "single"
    folder.mkdir()
    MaskedLM(replace(small_config, type_vocab_size=1), pieces, sentence_labels=2).export(folder)
    config = make_config(parts={"init": str(folder), "data": DataConfig(text_pair="other", max_length=16)})
    with pytest.raises(UserError) as refused:
        build(config, ["bad", "good"])
    said = f"init: a pair of texts has 2 segments, but the model of '{folder}' knows 1."
    assert refused.value.messages == (said,)
    monkeypatch.setattr(TASKS["classification"], "pair_segments", 1)
    task, _ = build(config, ["bad", "good"])
    assert task.bert.config.type_vocab_size == 1


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"task": TaskConfig(label_smoothing=1.0)}, "task.label_smoothing: 1.0, but it must be at least 0 and below 1"),
        (
            {"task": TaskConfig(name="ner", head="crf", label_smoothing=0.1)},
            "label_smoothing: 0.1 was given, but task.head=crf has none; it belongs to task.head=linear or lstm",
        ),
        ({"task": TaskConfig(name="question_answering", max_answer_length=0)}, "max_answer_length: 0, but it"),
        ({"task": TaskConfig(name="ner", class_weights="balanced")}, "it belongs to task.name=classification"),
        ({"task": TaskConfig(name="ner", combine="weighted_sum")}, r"task.layers=\[-1\] is a single layer"),
        ({"seeds": [0, 1], "accept_changes": ["seeds"]}, "all runs of `seeds` must have the same options"),
        ({"seeds": [0, 1], "training": TrainingConfig(epochs=1, seed=7)}, "training.seed: 7 was given, but seeds="),
        (
            {"init": "none", "like": "x", "training": TrainingConfig(epochs=1, freeze=1)},
            "would freeze the random weights",
        ),
        ({"reinit_layers": 1, "training": TrainingConfig(epochs=1, freeze="encoder")}, "starts the top ones of 1 "),
        ({"task": TaskConfig(layers=[-2])}, r"task.layers: \[-2\] was given, but it belongs to task.name=ner"),
        ({"task": TaskConfig(name="regression")}, "builtin has nothing for task.name=regression"),
        ({"seeds": [1, 1]}, r"seeds: \[1, 1\], but each may be given once"),
        ({"reinit_layers": 1, "init": "none", "like": "x"}, "but with init=none all weights are random"),
        ({"reinit_layers": 9}, "reinit_layers: 9, but the model has 1 layer"),
        ({"training": TrainingConfig(epochs=1, freeze=9)}, "training.freeze: 9, but the model has 1 layer"),
        (
            {"training": TrainingConfig(epochs=1, attention="varlen", device="cpu")},
            "training.attention: 'varlen' needs a CUDA device and attention_probs_dropout_prob=0; this is cpu with 0.1",
        ),
        (
            {"training": TrainingConfig(epochs=1, batch_size=None, batch_tokens=512)},
            "training.batch_tokens: 512 was given, but it belongs to pretraining; fine-tuning has training.batch_size",
        ),
        (
            {"training": TrainingConfig(epochs=1, eval_sequences=9)},
            "training.eval_sequences: 9 was given, but it belongs to pretraining",
        ),
        (
            {"training": TrainingConfig(epochs=1, workers=2)},
            "training.workers: 2 was given, but it belongs to pretraining",
        ),
        ({"training": TrainingConfig(epochs=1, compile=True)}, "training.compile: true was given, but it belongs to"),
        ({"training": TrainingConfig(epochs=1, patience=0)}, "training.patience: 0, but it must be above 0"),
        (
            {"training": TrainingConfig(epochs=1, layer_decay=1.5)},
            "training.layer_decay: 1.5, but it must be at most 1",
        ),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(make_config, parts, said):
    config = make_config()
    if "builtin" in said:
        parts = parts | {"data": DataConfig()}
    with pytest.raises(UserError, match=said):
        train_seeds(replace(config, **parts))


def test_an_output_without_a_model_says_where_there_is_one(make_config, stop_before):
    config = make_config(parts={"seeds": [0, 1]})
    train_seeds(config)
    with pytest.raises(UserError, match="holds a run for each seed: seed-0, seed-1; name one of them"):
        load(config.output)
    stopped = make_config("stopped")
    stop_before(3)
    with pytest.raises(Stopped):
        train(stopped)
    with pytest.raises(UserError, match="is not finished; the command that started it continues it"):
        load(stopped.output)


def test_a_check_reads_everything_names_the_scores_and_leaves_nothing(make_config, capsys):
    def checked(config: FinetuneConfig, **changes) -> str:
        check_only(replace(config, **changes))
        return capsys.readouterr().out

    config = make_config(task="ner")
    said = checked(config)
    assert "data.train: " in said and "32 rows, 32 used" in said and "12 rows, 12 used" in said
    assert "sequences: 32" in said
    end = r"macro_f1\nlongest sequence, in tokens: 16\nfingerprints: {.*}\nscores: loss, entity_micro_f1, "
    assert re.search(f"the best epoch by entity_{end}", said)
    assert "read data.train as conll, words, data.eval as conll, words\n" in said
    assert not Path(config.output).exists()
    assert "sequences" not in checked(config, init="later")
    with pytest.raises(UserError, match=r"init: no such folder: 'not/there/yet'"):
        checked(config, init="not/there/yet")
    with pytest.raises(UserError, match=r"data.max_length: 64, but the model of .* reads 32 tokens at most"):
        checked(config, data=replace(config.data, max_length=64))
    with pytest.raises(UserError, match=r"seeds: \[1, 1\], but each may be given once"):
        checked(config, seeds=[1, 1])
    with pytest.raises(UserError, match=r"no such file: 'gone.conll'\."):
        checked(config, data=replace(config.data, eval="gone.conll"))


def test_what_is_in_the_training_file_too_is_counted_as_what_it_is(make_config, write, capsys):
    """Of these questions, number 6 is number 0 again, and 7 is 1."""
    asked = [str(write(questions(count), f"{count}.json")) for count in (6, 1, 8)]
    config = make_config(parts={"task": TaskConfig("question_answering")})
    check_only(replace(config, init="later", data=DataConfig(train=asked[0], eval=asked[1], test={"more": asked[2]})))
    said = capsys.readouterr().out
    assert "data.eval: WARNING: 1 of its 1 question is in data.train too\n" in said
    assert "data.test.more: WARNING: 8 of its 8 questions are in data.train too\n" in said


def test_a_threshold_of_no_answer_is_refused_where_every_question_of_the_training_data_has_one(make_config, write):
    asked = json.loads(questions(6))
    paragraphs = asked["data"][0]["paragraphs"]
    asked["data"][0]["paragraphs"] = [one for one in paragraphs if one["qas"][0]["answers"]]
    files = {"train": str(write(json.dumps(asked), "all.json")), "eval": str(write(questions(6), "some.json"))}
    config = make_config(parts={"task": TaskConfig("question_answering", no_answer_threshold=1.0), "best": "best_f1"})
    config = replace(config, init="later", data=DataConfig(**files))
    with pytest.raises(UserError) as refused:
        check_only(config)
    why = "every question of data.train has an answer, so the model always gives one."
    assert refused.value.messages == (
        f"task.no_answer_threshold: 1.0 was given, but {why}",
        f"best: 'best_f1' is f1 at the best threshold for no answer, but {why}",
    )
    check_only(replace(config, data=DataConfig(files["eval"], files["train"])))


def test_questions_without_an_answer_are_warned_of_where_the_training_data_has_none(make_config, write, capsys):
    """Of six of these questions, numbers 0 and 3 have no answer."""
    asked = json.loads(questions(6))
    paragraphs = asked["data"][0]["paragraphs"]
    asked["data"][0]["paragraphs"] = [paragraphs[number] for number in (1, 2, 4, 5)]
    files = {"all": str(write(json.dumps(asked), "all.json"))}
    files |= {count: str(write(questions(count), f"{count}.json")) for count in (1, 6)}
    config = replace(make_config(parts={"task": TaskConfig("question_answering")}), init="later")
    check_only(replace(config, data=DataConfig(files["all"], files[6], {"one": files[1]})))
    why = "but every question of the training data has one: the model can never say that there is none\n"
    said = capsys.readouterr().out
    assert f"data.eval: WARNING: 2 of its 6 questions have no answer, {why}" in said
    assert f"data.test.one: WARNING: 1 of its 1 question has no answer, {why}" in said
    check_only(replace(config, data=DataConfig(files[6], files[6])))
    assert "can never say" not in capsys.readouterr().out


def test_a_file_of_one_label_says_little_but_may_be_scored_on(make_config, write, capsys):
    files = {"train": write("a\tB-LC\n\nb\tO\n", "one.conll"), "eval": write("a\tO\n\nb\tO\n", "other.conll")}
    config = make_config(task="ner")
    check_only(replace(config, init="later", data=DataConfig(**{name: str(file) for name, file in files.items()})))
    said = capsys.readouterr().out
    assert f"data.eval: WARNING: every row of '{files['eval']}' has the label 'O'; scores on it say little\n" in said
    check_only(replace(config, init="later"))
    assert "scores on it say little" not in capsys.readouterr().out


def test_files_of_words_and_of_characters_together_are_warned_of(make_config, write, capsys):
    words = write('{"tokens": ["a", "b"], "ner_tags": ["B-LC", "O"]}\n', "words.jsonl")
    characters = write('{"tokens": ["a", " "], "ner_tags": ["B-LC", "O"]}\n', "characters.jsonl")
    config = replace(make_config(task="ner"), init="later", data=DataConfig(train=str(words), eval=str(characters)))
    check_only(config)
    read = "read data.train as word_lists, words, data.eval as character_lists, characters\n"
    assert f"WARNING: {read}" in capsys.readouterr().out
    check_only(replace(config, data=replace(config.data, eval=str(words), format="word_lists")))
    assert "data.eval as" not in capsys.readouterr().out


def test_a_name_of_a_test_file_that_mlflow_has_no_tag_for_is_refused(make_config):
    config = make_config()
    config = replace(config, data=replace(config.data, test={"hard(1)": "x.tsv", "어려운 것": "y.tsv"}))
    with pytest.raises(UserError, match=r"^data\.test: 'hard\(1\)', but a name may have only letters, digits, spaces"):
        train(config)
