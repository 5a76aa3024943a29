"""The runs of a cell, and where they are."""

import math

import pytest

from bert.training import identity
from pretrain.ablation.cell_runs import PRETRAINING, CellRun, checkpoint_runs, metrics_of, runs_of
from pretrain.ablation.grid import FinetuneTask


def test_a_cell_s_result_is_of_pretraining_and_of_every_task_with_every_seed(make_grid):
    tasks = {"topic": FinetuneTask({}, seeds=[0, 1]), "ner": FinetuneTask({}, seeds=[5], checkpoints=True)}
    runs = runs_of(make_grid(finetune=tasks))
    assert runs == [PRETRAINING, CellRun("topic", 0), CellRun("topic", 1), CellRun("ner", 5)]
    assert [run.name for run in runs] == ["pretrain", "topic-0", "topic-1", "ner-5"]


@pytest.mark.parametrize("task", ["topic", "topic-0", "step-00000001"])
def test_finished_runs_on_checkpoints_are_found_by_their_step(tmp_path, task):
    wanted = [CellRun(task, 0, step) for step in (2, 10)]
    unfinished = CellRun(task, 0, 11)
    for run in (CellRun(task, 0), *wanted, unfinished, CellRun(task, 1, 3)):
        run.output(tmp_path).mkdir()
        if run != unfinished:
            (run.output(tmp_path) / "metrics.json").write_text("{}")
    assert list(checkpoint_runs(tmp_path, CellRun(task, 0))) == wanted


def test_a_metric_that_is_no_number_is_read_as_nan(tmp_path):
    identity.finish(tmp_path, {"valid/pearson": math.nan, "valid/f1": 0.5})
    assert str(metrics_of(tmp_path)) == "{'valid/pearson': nan, 'valid/f1': 0.5}"
