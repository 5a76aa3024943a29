"""Evaluating and predicting with a task's model, on examples in memory."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from tqdm import tqdm

from bert.counting import count_of
from bert.errors import UserError
from bert.training.device import autocast
from bert.training.evaluation import evaluate
from finetune.data import in_order
from finetune.data_summary import left_out_in_words
from finetune.example_kinds import Example
from finetune.examples import Examples
from finetune.metrics import Counts, class_table
from finetune.tasks.task import Findings, Task

CLASSES, WORST = "classes.json", "worst_errors.json"
"""The files an evaluation writes beside its metrics and the task's picture; MLflow shows both as tables."""

_WORST_SHOWN = 50

Evaluator = Callable[[], tuple[dict[str, float], Findings]]
"""Evaluates a task as it is when called: its scores, and what else was found."""


def evaluator(task: Task, examples: Examples, size: int, device: torch.device, name: str = "valid") -> Evaluator:
    """A function that evaluates the task on the examples and prints the class table; its scores are named `name/...`.

    How many texts are truncated is printed right away.
    """
    features = task.features(examples.used)
    if all(feature.is_empty for feature in features):
        raise UserError(f"{examples.path}: the model's tokenizer finds no tokens in any of its texts.")
    if cut := left_out_in_words(examples, features, task.max_length):
        print(f"{examples.path}: {cut}")

    def run() -> tuple[dict[str, float], Findings]:
        batches = in_order(features, lambda some: task.pack(some, examples.used), size)
        means, rows = evaluate(task, batches, device, autocast(task.precision, device))
        scores, findings = task.score(examples.used, features, rows)
        table = findings.table
        if table:
            tqdm.write(class_table(table))
        if absent := sum(counts == Counts() for counts in table.values()):
            most = 1 - absent / len(table)
            s = "s" if absent == 1 else ""
            occur = f"occur{s} neither here nor in the predictions, and count{s}"
            tqdm.write(
                f"{absent} of {count_of(len(table), 'class', 'classes')} {occur} as 0: the "
                f"macro F1 over them can be {most:.3f} at most"
            )
        return {f"{name}/{metric}": value for metric, value in (means | scores).items()}, findings

    return run


def write_findings(task: Task, findings: Findings, folder: Path) -> None:
    """Write an evaluation's class table and surest mistakes (columns and rows), and its picture."""
    if findings.table:
        rows = [[name, c.precision, c.recall, c.f1, c.support] for name, c in findings.table.items()]
        _write_table(folder / CLASSES, ["class", "precision", "recall", "f1", "support"], rows)
    worst = sorted(findings.mistakes, key=lambda mistake: -mistake.confidence)[:_WORST_SHOWN]
    rows = [[wrong.place, wrong.gold, wrong.predicted, wrong.confidence, *wrong.texts] for wrong in worst]
    _write_table(folder / WORST, [task.found_by, "gold", "predicted", task.sureness, *task.text_columns], rows)
    findings.draw(folder / task.picture)


def _write_table(file: Path, columns: list[str], rows: list[list]) -> None:
    described = {"columns": columns, "data": rows}
    file.write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@torch.no_grad()
def predict(task: Task, examples: list[Example], batch_size: int, device: torch.device) -> list[dict]:
    """The prediction for each example, with the number of truncated tokens, if any, as `tokens_cut`."""
    features, rows = task.features(examples), []
    with autocast(task.precision, device):
        for batch in in_order(features, lambda some: task.pack(some, examples), batch_size):
            rows += task.predict(batch.to(device))
    found = task.predictions(examples, features, rows)
    for feature in features:
        if feature.cut:
            found[feature.example]["tokens_cut"] = feature.cut
    return found
