"""Grids that are planned, refused, run, stopped, shared and taken up again. The models are as small as can be."""

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from bert import hub, whole_file
from bert.cli import read_options
from bert.errors import UserError
from bert.training.lock import taken
from bert.training.provenance import INIT_WEIGHTS
from bert.training.tracking import DESCRIPTION, TrackingConfig
from pretrain.ablation.ablate import ablate
from pretrain.ablation.cell_runs import cell_folder
from pretrain.ablation.checks import _changed_files, _too_long, _values_of, changed_inputs, refuse_wrong
from pretrain.ablation.child import environment
from pretrain.ablation.commands import ROOT, differences, steps
from pretrain.ablation.grid import AblateConfig, FinetuneTask, cells, grid_as_yaml, models_are_alike, variant_name
from pretrain.ablation.grid_run import parent_of_cells
from pretrain.ablation.plan import plan
from pretrain.ablation.results import read_results
from pretrain.ablation.run import failures, run_cells
from pretrain.options import TEXT_OPTIONS
from tests.ablation.conftest import AXES, BASELINE
from tests.pretrain.conftest import made_up_text, write_text

SMALL = {
    "model": {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32},
    "tokenizer": {"vocab_size": 300},
    "sentence": {"input": "sentence_pair"},
    "audit": {"sequences": 0},
    "training": {
        "batch_size": 16,
        "eval_every": 4,
        "eval_sequences": 32,
        "threads": 1,
        "save_every": 2,
        "log_every": 1,
    },
}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> dict:
    """The options that all cells share, with a corpus of their own."""
    folder = tmp_path_factory.mktemp("corpus")
    text = folder / "corpus.txt"
    write_text(text, made_up_text(60))
    return SMALL | {"data": {"train": str(text), "cache": str(folder / "cache"), "max_length": 32}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"axes": {"masking": [{"strategy": "token"}]}}, "axes: no option 'masking'"),
        ({"axes": {"masking.stratgy": ["token"]}}, r"no option 'masking.stratgy' \(did you mean masking.strategy\?\)"),
        (
            {"effects": ["masking.strategi"]},
            r"effects: 'masking.strategi' is not an axis; .*did you mean masking.strat",
        ),
        (
            {"axes": {"masking.stratgy": ["token"], "masking.rate": [0.1]}, "effects": ["masking.strategy"]},
            r"effects: 'masking.strategy' is not an axis; one of masking.rate\.",
        ),
        (
            {"axes": {"masking.stratgy": ["token"]}, "effects": ["masking.strategy"]},
            r"effects: 'masking.strategy' is not an axis\.",
        ),
        ({"baseline": {"sentence.objective": "nsp"}}, "baseline: no value for masking.strategy"),
        ({"baseline": {"sentence.objective": "sop", "masking.strategy": "token"}}, "'sop' is not among its values"),
        ({"seeds": [1, 1]}, r"seeds: \[1, 1\], but each may be given once only"),
        ({"seeds": []}, "seeds: none given"),
        ({"effects": ["masking.strategy"] * 2}, "effects: 'masking.strategy' is given twice"),
        ({"finetune": {"valid": FinetuneTask({})}}, "finetune: 'valid' is not a valid task name"),
        ({"finetune": {"a/b": FinetuneTask({})}}, "finetune: 'a/b' is not a valid task name"),
        ({"finetune": {"ner": FinetuneTask({}, seeds=[])}}, r"finetune.ner.seeds: \[\], but there must be at least"),
        ({"tokens": 0}, "tokens: 0, but it must be above 0"),
        ({"metrics": ["nre/f1"]}, "metrics: 'nre/f1' begins with none of valid/"),
        ({"metrics": ["valid"]}, "metrics: 'valid' begins with none of valid/"),
        ({"metrics": ["valid/nsp_acuracy"]}, r"no 'valid/nsp_acuracy'; .*did you mean valid/nsp_accuracy\?\)"),
        (
            {"metrics": ["valid/nsp_accuracy"]},
            "sentence.objective=none, masking.strategy=token: metrics: no 'valid/nsp_a",
        ),
        ({"finetune": {"ner": FinetuneTask({"init": "runs/x"})}}, "finetune.ner.options: init is set by the grid"),
        ({"finetune": {"ner": FinetuneTask({"training": {"seed": 5}})}}, "finetune.ner.options: training.seed is"),
        ({"base": {"training": {"epochs": 3}}}, "base: training.epochs is set by the grid"),
        ({"axes": AXES | {"training.steps": [5, 9]}}, "axes: training.steps is set by the grid"),
        ({"base": {"masking": {"rat": 0.3}}}, r"no option masking.rat \(did you mean masking.rate\?\)"),
        (
            {"base": {"sentence": {"input": "doc_sentences"}}},
            "sentence.objective=nsp, .*'doc_sentences' has one segment",
        ),
    ],
)
def test_a_grid_that_cannot_run_is_refused_before_it_starts(make_grid, changes, said):
    with pytest.raises(UserError, match=said):
        refuse_wrong(make_grid(**changes))


def test_a_task_that_cannot_run_is_refused_before_it_starts(make_grid, base):
    options = {"task": {"name": "ner", "head": "crv"}}
    with pytest.raises(
        UserError, match=r"finetune.ner: .*task.head: no 'crv'; one of linear, crf, lstm, lstm_crf \(did you mean crf"
    ):
        ablate(make_grid(base=base, finetune={"ner": FinetuneTask(options)}))
    missing = {"data": {"train": "x.tsv", "eval": "y.tsv"}}
    with pytest.raises(UserError, match=r"finetune.topic: data.train: no such file: 'x.tsv'"):
        ablate(make_grid(base=base, finetune={"topic": FinetuneTask(missing)}))
    foreign = {"task": {"name": "ner", "head": "crf", "label_smoothing": 0.1}}
    with pytest.raises(UserError, match=r"finetune.ner: .*label_smoothing: 0.1 was given, but task.head=crf has none"):
        ablate(make_grid(base=base, finetune={"ner": FinetuneTask(foreign)}))


def test_a_metric_that_a_task_does_not_give_is_refused_before_it_starts(make_grid, base):
    task = {"topic": FinetuneTask({})}
    with pytest.raises(UserError, match=r"no 'topic/makro_f1'; one of topic/loss, .*did you mean topic/macro_f1\?\)"):
        ablate(make_grid(base=base, finetune=task, metrics=["topic/accuracy", "topic/makro_f1"]))


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"task": {"name": "ner"}}, "no 'task.name' in an entry; an entry has options, seeds, checkpoints."),
        ({"seeds": [0]}, "an entry without options; an entry has options, seeds, checkpoints."),
        (
            {"options": {}, "seeds": "x"},
            "in an entry, seeds: 'x', but it must be of type list, which is written as '[0,1]'.",
        ),
        (3, "an entry is 3, where a group of options is needed."),
    ],
)
def test_what_is_wrong_with_a_task_s_entry_is_said_in_a_line(entry, said):
    with pytest.raises(UserError, match=f"^run.py ablate: finetune: {re.escape(said)}$"):
        read_options("run.py ablate", AblateConfig, {"finetune": {"ner": entry}})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": [0, -1]}, "seeds: -1, but it must be at least 0"),
        ({"metrics": ["valid/masked_lm_loss"] * 2}, "metrics: .*, but each may be given once only."),
        (
            {"finetune": {"topic": FinetuneTask({}, seeds=[-2])}},
            "finetune.topic.seeds: -2, but it must be at least 0",
        ),
    ],
)
def test_seeds_and_metrics_that_cells_would_stumble_over_are_refused_at_once(changes, said, make_grid):
    with pytest.raises(UserError, match=said):
        refuse_wrong(make_grid(**changes))


@pytest.mark.parametrize("name", ["data.train", "data.valid", "tokenizer.path"])
def test_a_file_that_is_not_there_is_said_by_a_dry_run_too(make_grid, name):
    group, option = name.split(".")
    with pytest.raises(UserError, match=rf"^{name}: no such file: 'nowhere.txt'\.$"):
        ablate(make_grid(base={group: {option: "nowhere.txt"}}, dry_run=True))
    axes = AXES | {name: ["nowhere.txt", __file__]}
    with pytest.raises(UserError, match=rf"^{name}: no such file: 'nowhere.txt'\.$"):
        ablate(make_grid(axes=axes, baseline=BASELINE | {name: __file__}, dry_run=True))


def test_a_long_value_gets_a_short_name_of_its_own():
    names = [variant_name({"data.train": [f"{'가' * 40}/{letter}.txt"] * 9, "seed": 1}) for letter in "abb"]
    assert names[0] != names[1] == names[2]
    assert all(len(name.encode()) <= 255 for name in names)
    assert variant_name({"a": "[x, y]", "b": 1}) == "_x_y_-1"


def test_each_file_of_a_list_must_be_there(make_grid):
    base = {"data": {"train": [__file__, "nowhere.txt"]}}
    with pytest.raises(UserError, match=r"^data\.train: no such file: 'nowhere\.txt'\.$"):
        ablate(make_grid(base=base, dry_run=True))
    axes = AXES | {"data.valid": [[__file__], "nowhere/*.txt"]}
    with pytest.raises(UserError, match=r"^data\.valid: no file matches 'nowhere/\*\.txt'\.$"):
        ablate(make_grid(axes=axes, baseline=BASELINE | {"data.valid": [__file__]}, dry_run=True))


def test_a_file_that_is_no_text_is_refused_by_a_dry_run_too(make_grid, tmp_path):
    for content, said in ((b"", "is empty"), (b"PK\x03\x04", "is a zip archive")):
        (tmp_path / "corpus.txt").write_bytes(content)
        with pytest.raises(UserError, match=rf"^data\.train: '.*corpus\.txt' {said}"):
            ablate(make_grid(base={"data": {"train": str(tmp_path / "*.txt")}}, dry_run=True))


def test_a_dry_run_says_the_plan_and_runs_nothing(make_grid, base, capsys):
    config = make_grid(base=base, dry_run=True)
    ablate(config)
    said = capsys.readouterr().out
    assert "4 combinations x 2 seeds = 8 runs of 3,000 tokens" in said and "24,000 tokens" in said
    ablate(replace(config, only="none-span/seed-1"))
    assert "1 run of 4 combinations x 2 seeds of 3,000 tokens" in capsys.readouterr().out
    tasks = {"topic": FinetuneTask({}, seeds=[0, 1], checkpoints=True), "ner": FinetuneTask({"task": {"name": "ner"}})}
    assert plan(replace(config, finetune=tasks), cells(config), {}).splitlines()[1] == (
        "fine-tuning: 3 runs on each model (topic, ner), and 2 on each checkpoint that pretraining keeps (topic)"
    )
    alone = plan(replace(config, seeds=[0]), cells(replace(config, seeds=[0])), {})
    assert "one seed: no effect can be tested, or told from chance" in alone
    assert not Path(config.output).exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_grid_for_a_gpu_can_be_planned_where_there_is_none(make_grid, base, capsys):
    ablate(make_grid(base=base | {"training": base["training"] | {"device": "cuda"}}, dry_run=True))
    said = capsys.readouterr().out
    assert "cost: 24,000 tokens of pretraining" in said and "time: " not in said


def test_the_cost_is_that_of_the_model_to_go_on_from(finished_grid, make_grid, capsys, monkeypatch):
    config, _, _ = finished_grid
    trained = str(cell_folder(config, cells(config)[0]) / "pretrain")
    base = {name: config.base[name] for name in ("sentence", "data")} | {"init": trained}
    monkeypatch.setattr("pretrain.ablation.plan.matrix_rate", lambda device, kind: 6 * 2048 * 100.0)
    ablate(make_grid(base=base, dry_run=True))
    # One layer of width 16 and intermediate width 32 has 4 * 16^2 + 2 * 16 * 32 = 2,048 weights; 6 * 2048 * 24,000.
    said = capsys.readouterr().out
    assert "cost: 24,000 tokens of pretraining to go, at least 2.9e-07 PFLOP" in said
    assert "time: 4 min of pretraining if products ran at their full rate (1.2e-06 TFLOP/s on cpu" in said  # 240 s
    with pytest.raises(UserError, match=r"init: .*nowhere"):
        ablate(make_grid(base=base | {"init": "./nowhere"}, dry_run=True))


def test_jobs_share_the_processors_and_get_one_gpu_after_another(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(16)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5")
    of_jobs = [environment(3, job) for job in range(3)]
    assert [its["CUDA_VISIBLE_DEVICES"] for its in of_jobs] == ["3", "GPU-5", "3"]
    assert {its["OMP_NUM_THREADS"] for its in of_jobs} == {"5"}
    assert environment(1, 0)["CUDA_VISIBLE_DEVICES"] == "3,GPU-5"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert environment(2, 1)["CUDA_VISIBLE_DEVICES"] == ""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert [environment(2, job)["CUDA_VISIBLE_DEVICES"] for job in (0, 1)] == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")  # of which the last is not there
    assert [environment(3, job)["CUDA_VISIBLE_DEVICES"] for job in range(3)] == ["4", "5", "4"]


def test_each_cell_has_a_command_of_its_own(make_grid, base, capsys):
    config = make_grid(base=base, print_cells=True)
    ablate(config)
    commands = capsys.readouterr().out.splitlines()  # nothing else, so that it can be piped into a queue
    assert [line.rpartition(" ")[2] for line in commands] == [cell.name for cell in cells(config)]


def started(config: AblateConfig, folder: Path) -> list[str]:
    """The command that runs a grid, its YAML written into a folder."""
    file = folder / "grid.yaml"
    file.write_text(grid_as_yaml(config))
    arguments = ["--config", str(file), "--output", config.output, "--tracking.uri", config.tracking.uri]
    return [sys.executable, str(ROOT / "run.py"), "ablate", *arguments, "--jobs", "2"]


@pytest.fixture(scope="module")
def shared_grid(tmp_path_factory, base):
    """Four cells run to their end by two processes; the command that did it, where, and what each process said."""
    folder = tmp_path_factory.mktemp("grid")
    config = AblateConfig(
        axes={"masking.strategy": AXES["masking.strategy"]},
        baseline={"masking.strategy": BASELINE["masking.strategy"]},
        effects=["masking.strategy"],
        seeds=[0, 1],
        tokens=1500,
        base=base,
        output=str(folder / "out"),
        tracking=TrackingConfig(uri="none"),
    )
    command = started(config, folder)
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "cwd": folder, "text": True}
    two = [subprocess.Popen(command, **options) for _ in "ab"]
    said = [process.communicate(timeout=300)[0] for process in two]
    assert [process.returncode for process in two] == [0, 0], said
    return config, command, folder, said


@pytest.fixture(scope="module")
def finished_grid(shared_grid):
    return shared_grid[:3]


def test_every_cell_is_run_and_reported(finished_grid):
    config, _, _ = finished_grid
    assert set(read_results(config)) == set(cells(config))
    report = json.loads((Path(config.output) / "report.json").read_text())
    assert len(report["cells"]) == 4 and [effect["value"] for effect in report["effects"]] == ["span"]


@pytest.mark.filterwarnings("ignore:The ..noload.. loader strategy is deprecated:DeprecationWarning")
def test_a_model_is_scored_at_its_end_and_at_its_checkpoints_and_mlflow_nests_it_all(tmp_path, base):
    import mlflow

    table = tmp_path / "topic.tsv"
    table.write_text("text\tlabel\n" + "".join(f"w{n % 7} w{n % 3}\t{n % 2}\n" for n in range(16)))
    options = {"data": {"train": str(table), "eval": str(table), "max_length": 16}, "training": {"steps": 2}}
    config = AblateConfig(
        axes={"masking.strategy": ["span"]},
        baseline={"masking.strategy": "span"},
        effects=[],
        seeds=[3],
        tokens=1200,
        base=base | {"training": SMALL["training"] | {"save_every": 1000}},
        metrics=["topic/macro_f1"],
        finetune={"topic": FinetuneTask(options, checkpoints=True)},
        output=str(tmp_path / "out"),
        tracking=TrackingConfig(uri=f"sqlite:///{tmp_path}/m.db"),
    )
    subprocess.run(started(config, tmp_path), check=True, capture_output=True, cwd=tmp_path)
    (result,) = read_results(config).values()
    # The only checkpoint is the last: the same weights, and so the same score.
    assert [score for _, score in result.by_tokens["topic/macro_f1"].values()] == [result.metrics["topic/macro_f1"]]
    client = mlflow.MlflowClient(config.tracking.uri)
    runs = {run.info.run_name: run for run in client.search_runs([client.get_experiment_by_name("bert").experiment_id])}
    parents = {name: run.data.tags.get("mlflow.parentRunId") for name, run in runs.items()}
    assert parents["out"] is None
    assert parents["span/seed-3"] == runs["out"].info.run_id
    assert parents["span/seed-3 topic-0"] == runs["span/seed-3"].info.run_id
    assert (runs["span/seed-3"].data.tags["masking.strategy"], runs["span/seed-3"].data.tags["seed"]) == ("span", "3")
    assert [runs[name].data.tags["stage"] for name in ("out", "span/seed-3", "span/seed-3 topic-0")] == [
        "ablation",
        "pretrain",
        "finetune",
    ]
    assert runs["out"].data.tags["seeds"] == "3" and "seeds" not in runs["out"].data.params
    assert runs["out"].data.tags[DESCRIPTION].startswith("# ")
    assert runs["span/seed-3"].data.metrics["topic/macro_f1"] == result.metrics["topic/macro_f1"]
    assert runs["span/seed-3"].data.params["model.num_hidden_layers"] == "1"
    of_task = runs["span/seed-3 topic-0"].data.tags
    assert (of_task["task"], of_task["finetune"]) == ("classification", "topic")
    files = {file.path for file in client.list_artifacts(runs["out"].info.run_id)}
    assert {"report.md", "report.json", "curves.png"} <= files


def without_times(folder: Path) -> str:
    """A report but for what no two runs share: how long they took, and which commit they were of."""
    report = json.loads((folder / "report.json").read_text())
    for cell in report["cells"]:
        for name in ("seconds", "seconds_in_all", "tokens_per_second"):
            del cell[name]
    return json.dumps(report)


def test_a_grid_that_was_killed_and_is_called_again_gives_the_report_of_one_that_two_processes_shared(
    finished_grid, tmp_path
):
    config, command, folder = finished_grid
    other = [argument.replace(config.output, str(tmp_path / "out")) for argument in command]
    process = subprocess.Popen(other, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    while process.poll() is None and not list((tmp_path / "out").glob("cells/*/*/pretrain/metrics.json")):
        time.sleep(0.02)
    time.sleep(0.5)  # others have begun
    process.kill()
    process.wait()
    subprocess.run(other, check=True, capture_output=True, cwd=folder)
    assert without_times(tmp_path / "out") == without_times(Path(config.output))


@pytest.mark.parametrize(
    "axis, texts", [("data.max_length", 1), ("data.reader", 1), ("data.train", 2), ("data.on_bad_row", 2)]
)
def test_only_what_changes_a_text_makes_it_another(make_grid, axis, texts):
    grid = make_grid(axes={axis: ["one", "other"]})
    assert len({_values_of(grid, cell, TEXT_OPTIONS) for cell in cells(grid)}) == texts


def test_a_file_of_labels_that_has_changed_is_refused_before_another_model_learns_from_it(make_grid, tmp_path):
    grid = make_grid(finetune={"topic": FinetuneTask({}, seeds=[0, 1])})
    output = cell_folder(grid, cells(grid)[1]) / "topic-1"
    output.mkdir(parents=True)
    for name in ("run_facts.json", "metrics.json"):
        (output / name).write_text(json.dumps({"train": "a" * 64, "eval": "b" * 64}))
    now = {"train": "a" * 16, "eval": "b" * 16}
    assert _changed_files(grid, "topic", now) == []
    (said,) = _changed_files(grid, "topic", now | {"eval": "c" * 16})
    assert said.startswith(f"finetune.topic: data.eval is not what it was for '{cells(grid)[1].name}'.")
    for cell in cells(grid):
        for seed in (0, 1):
            other = cell_folder(grid, cell) / f"topic-{seed}"
            other.mkdir(parents=True, exist_ok=True)
            (other / "metrics.json").write_text("{}")
    assert _changed_files(grid, "topic", now | {"eval": "c" * 16}) == []  # nothing is left to learn from it


def test_a_text_that_has_changed_is_refused_before_another_cell_reads_it(finished_grid, tmp_path):
    config, _, _ = finished_grid
    folder = tmp_path / "texts"
    folder.mkdir()
    grid = replace(config, output=str(tmp_path / "out"))
    shutil.copytree(config.output, grid.output)
    ablate(replace(grid, seeds=[*grid.seeds, 99], dry_run=True))  # the same text: one more seed may be run
    corpus = Path(config.base["data"]["train"])
    before = corpus.read_bytes()
    try:
        corpus.write_bytes(before + b"\nanother document\n")
        more = replace(grid, seeds=[*grid.seeds, 99])
        with pytest.raises(UserError, match=r"^data\.train: its text, .*, is not what '.*/seed-.*' has been trained"):
            ablate(replace(more, dry_run=True))
        ablate(replace(grid, dry_run=True))  # nothing is left to read it
    finally:
        corpus.write_bytes(before)


def test_scores_of_a_model_that_is_gone_are_not_taken_for_those_of_its_successor(make_grid):
    grid = make_grid(finetune={"topic": FinetuneTask({}, seeds=[0])})
    cell = cells(grid)[0]
    for name in ("pretrain", "topic-0"):
        (cell_folder(grid, cell) / name).mkdir(parents=True)
        for file in ("metrics.json", "tracking.json"):
            (cell_folder(grid, cell) / name / file).write_text('{"run_id": null}')
    assert differences(grid, cells(grid)) == []
    shutil.rmtree(cell_folder(grid, cell) / "pretrain")
    (said,) = differences(grid, cells(grid))
    assert said.startswith(
        f"output: 1 folder of this grid ('{cell_folder(grid, cell)}' for one) had topic-0 of a model"
    )


def test_a_task_that_the_models_are_too_short_for_is_refused_before_any_is_trained(make_grid, base):
    for sizes, read in (({"max_position_embeddings": 64}, 64), ({}, 512)):
        grid = make_grid(base=base | {"model": base["model"] | sizes})
        assert _too_long(grid, "topic", read) == []
        (said,) = _too_long(grid, "topic", read + 1)
        assert said.startswith(f"finetune.topic: data.max_length: {read + 1}, but the model of 'nsp-token")
        assert said.endswith(f"reads {read} tokens at most.")


def test_a_start_that_has_changed_is_refused_before_another_cell_begins_with_it(make_grid, tmp_path):
    start = tmp_path / "start"
    start.mkdir()
    (start / "model.safetensors").write_bytes(b"weights")
    grid = make_grid(base={"init": str(start)})
    output = cell_folder(grid, cells(grid)[0]) / "pretrain"
    output.mkdir(parents=True)
    (output / "metrics.json").write_text("{}")
    (output / "run_facts.json").write_text(json.dumps({INIT_WEIGHTS: hub.weights_fingerprint(str(start), "init")}))
    assert changed_inputs(grid, cells(grid)) == []
    (start / "model.safetensors").write_bytes(b"others")
    (said,) = changed_inputs(grid, cells(grid))
    assert said.startswith(f"init: the weights of that model are not those that '{cells(grid)[0].name}' started from.")
    assert changed_inputs(grid, cells(grid)[:1]) == []  # nothing is left to begin with it


def test_a_grid_that_is_asked_to_stop_says_so_and_goes_on(finished_grid, tmp_path):
    config, command, folder = finished_grid
    other = [argument.replace(config.output, str(tmp_path / "out")) for argument in command]
    process = subprocess.Popen(other, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=folder, text=True)
    while process.poll() is None and not (tmp_path / "out" / "cells").exists():
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 75 and "the same command continues from there" in said
    assert "of 4 cells**; p values are interim" in (tmp_path / "out" / "report.md").read_text()


def test_two_processes_share_a_grid_without_doing_a_cell_twice(shared_grid):
    config, _, _, said = shared_grid
    ran = [line.split()[4] for text in said for line in text.splitlines() if " of 4 cells: " in line]
    assert sorted(ran) == sorted(cell.name for cell in cells(config))
    assert sum(text.count("the unigram cross-entropy; with less than 0.5 below a model has not") for text in said) == 4


def test_a_grid_whose_finished_cells_were_told_otherwise_is_refused(finished_grid):
    config, _, _ = finished_grid
    before = (Path(config.output) / "grid.yaml").read_text()
    training = config.base["training"] | {"lr": 0.5}
    for changed, said in (
        (
            replace(config, tokens=1600),
            r"4 folders .* had run.py: training.tokens=1500, and is now asked for with 1600",
        ),
        (
            replace(config, base=config.base | {"training": training}),
            r"run.py: training.lr=None, and is now asked for with 0.5",
        ),
    ):
        with pytest.raises(UserError, match=said):
            ablate(changed)
    assert (Path(config.output) / "grid.yaml").read_text() == before
    another = replace(config, seeds=[0, 1, 2], effects=[], dry_run=True)
    ablate(another)  # it may grow


def test_a_task_whose_finished_runs_were_told_otherwise_is_refused(finished_grid, tmp_path):
    config, _, _ = finished_grid
    copy = replace(config, output=str(tmp_path / "out"), finetune={"topic": FinetuneTask({"training": {"lr": 0.1}})})
    shutil.copytree(config.output, copy.output)
    for cell in cells(copy):
        _, tuning = steps(copy, cell, None)
        folder = cell_folder(copy, cell)
        (folder / "topic-0.yaml").write_text(yaml.safe_dump(tuning.options))
        (folder / "topic-0").mkdir()
        (folder / "topic-0" / "metrics.json").write_text("{}")
    assert differences(copy, cells(copy)) == []
    other = replace(copy, finetune={"topic": FinetuneTask({"training": {"lr": 0.2}})})
    (said,) = differences(other, cells(other))
    assert (
        "4 folders of this grid" in said and "run_finetune.py: training.lr=0.1, and is now asked for with 0.2" in said
    )


def test_a_metric_that_a_finished_cell_does_not_have_is_said_first(finished_grid, tmp_path):
    config, _, _ = finished_grid
    copy = replace(config, output=str(tmp_path / "out"), metrics=["valid/bits_per_character"], dry_run=True)
    shutil.copytree(config.output, copy.output)
    ablate(copy)
    file = cell_folder(copy, cells(copy)[1]) / "pretrain" / "metrics.json"
    found = json.loads(file.read_text())
    del found["valid/bits_per_character"]
    file.write_text(json.dumps(found))
    with pytest.raises(UserError, match=r"metrics: no 'valid/bits_per.*' in 1 finished cell \('span/seed-0' for one\)"):
        ablate(copy)


def test_a_grid_whose_declaration_was_removed_is_refused(finished_grid, tmp_path):
    config, _, _ = finished_grid
    copy = replace(config, output=str(tmp_path / "out"), dry_run=True)
    shutil.copytree(config.output, copy.output)
    (tmp_path / "out" / "declared.yaml").unlink()
    with pytest.raises(UserError, match=r"declared.yaml' is missing, which says what was chosen before .*grid.yaml"):
        ablate(copy)
    shutil.rmtree(tmp_path / "out" / "cells")
    ablate(copy)  # nothing is known yet


def test_a_fine_tuning_that_no_model_fits_ends_the_grid_at_its_first_cell(finished_grid, tmp_path, capsys):
    config, _, _ = finished_grid
    deep = {"topic": FinetuneTask({"task": {"name": "ner", "layers": [-4]}, "data": {"max_length": 32}})}
    copy = replace(config, output=str(tmp_path / "out"), finetune=deep)
    shutil.copytree(config.output, copy.output)
    failed = run_cells(copy, cells(copy), None, lambda: False)
    assert list(failed) == cells(copy)[:1]
    assert failures(copy, cells(copy)) == failed  # for whoever reports on the folder later
    without = replace(copy, finetune={})
    assert failures(without, cells(without)) == {}  # what failed is asked for no longer
    assert "topic-0: exit code 2: task.layers: [-4]" in failed[cells(copy)[0]]
    assert "no further cell is started" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"finetune.topic: task.layers: \[-4\]"):  # its model is there by now
        ablate(replace(copy, dry_run=True))
    assert not models_are_alike(replace(copy, axes={"model.num_hidden_layers": [1, 4]}))
    assert not models_are_alike(replace(copy, axes={"data.train": ["a.txt", "b.txt"]}))  # each makes a tokenizer


def test_a_fine_tuning_that_fails_for_another_reason_ends_its_own_cell_alone(finished_grid, tmp_path, capsys):
    config, _, _ = finished_grid
    task = {"topic": FinetuneTask({"data": {"max_length": 32}, "training": {"steps": 1}})}
    copy = replace(config, output=str(tmp_path / "out"), finetune=task)
    shutil.copytree(config.output, copy.output)
    (cell_folder(copy, cells(copy)[0]) / "topic-0").write_text("no folder")
    assert list(run_cells(copy, cells(copy)[:2], None, lambda: False)) == cells(copy)[:1]
    assert "no further cell is started" not in capsys.readouterr().err


def test_runs_that_are_unfinished_or_of_another_task_are_in_no_result(finished_grid, tmp_path):
    config, _, _ = finished_grid
    copy = replace(config, output=str(tmp_path / "out"))
    shutil.copytree(config.output, copy.output)
    left = cell_folder(copy, cells(copy)[0]) / "ner-0-step-4"
    left.mkdir()
    (left / "metrics.jsonl").write_text('{"step": 1, "ti')
    assert read_results(copy) == read_results(config)


def test_a_cell_that_fails_is_named_with_its_reason_and_the_others_run(finished_grid, tmp_path, capsys):
    config, _, _ = finished_grid
    copy = replace(config, output=str(tmp_path / "out"))
    shutil.copytree(config.output, copy.output)
    broken = cell_folder(copy, cells(copy)[1])
    (broken / "pretrain" / "metrics.json").unlink()
    (broken / "pretrain" / "run.yaml").write_text("nonsense: [")
    failed = run_cells(copy, cells(copy), None, lambda: False)
    assert list(failed) == [cells(copy)[1]]
    assert "pretrain: exit code 2: output:" in failed[cells(copy)[1]]


def test_a_cell_that_another_process_tried_in_vain_is_not_tried_again_by_this_one(make_grid, monkeypatch):
    config = make_grid()
    first, second, third, *others = cells(config)
    whole_file.write(cell_folder(config, third) / "failed.txt", "before this process began")
    ran = []

    def run(config, cell, *_):
        ran.append(cell)
        if cell == first:  # meanwhile, another process
            whole_file.write(cell_folder(config, second) / "failed.txt", "no memory")
        assert failures(config, [third]) or cell in others  # it stands until the new attempt has ended
        metrics = {"valid/masked_lm_loss": 5.0, "valid/unigram_cross_entropy": 6.0}
        whole_file.write(cell_folder(config, cell) / "pretrain" / "metrics.json", json.dumps(metrics))
        return None

    monkeypatch.setattr("pretrain.ablation.run._run_steps", run)
    assert run_cells(config, cells(config), None, lambda: False) == {}
    assert ran == [first, third, *others]
    assert failures(config, cells(config)) == {second: "no memory"}


def test_a_second_process_waits_for_the_first_ones_run_in_mlflow(make_grid):
    config = make_grid(tracking=TrackingConfig(uri="sqlite:///nowhere.db"))
    folder = Path(config.output)
    folder.mkdir(parents=True)
    later = threading.Timer(0.5, lambda: whole_file.write(folder / "tracking.json", json.dumps({"run_id": "abc"})))
    whole_file.write(folder / "tracking.json", json.dumps({"run_id": None}))
    later.start()
    assert parent_of_cells(config, None) == "abc"
    later.join()


def test_a_lock_of_a_dead_process_is_free(make_grid):
    config = make_grid()
    folder = cell_folder(config, cells(config)[0])
    folder.mkdir(parents=True)
    lock = f"fcntl.flock(os.open({str(folder / '.lock')!r}, os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX)"
    subprocess.run([sys.executable, "-c", f"import fcntl, os; {lock}; os._exit(9)"], check=False)
    with taken(folder / ".lock") as lock:
        assert lock is not None
        with taken(folder / ".lock") as second:
            assert second is None


def test_the_grids_that_come_with_the_project_are_whole():
    for file in (ROOT / "configs" / "ablations").glob("*.yaml"):
        refuse_wrong(read_options("run.py ablate", AblateConfig, yaml.safe_load(file.read_text())))
