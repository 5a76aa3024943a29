"""A task's model on labelled and unlabelled examples in memory."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from tqdm import tqdm

from bert.training.config import TrainingConfig
from bert.training.device import autocast
from bert.training.evaluation import evaluate
from finetune import pictures
from finetune.data import in_order
from finetune.examples import Examples, Labelled, Tagged
from finetune.metrics import class_table
from finetune.tasks.task import Task

CLASSES, CONFUSION = "classes.json", "confusion_matrix.png"
"""What an evaluation leaves beside its metrics."""


def evaluator(
    task: Task, examples: Examples, size: int, device: torch.device, training: TrainingConfig
) -> Callable[[], dict[str, float]]:
    """Judges the task on examples when called, and prints its classes."""
    features = task.features(examples.used)

    def run() -> dict[str, float]:
        task.judged = (examples.used, features)
        batches = in_order(features, lambda some: task.pack(some, examples.used), size)
        found = evaluate(task, batches, device, autocast(training, device))
        tqdm.write(class_table(task.table))
        return {f"valid/{name}": value for name, value in found.items()}

    return run


def write_classes(task: Task, folder: Path) -> None:
    """Write the last evaluation's classes as a table (columns and rows), and its confusion matrix as a picture."""
    rows = [[name, c.precision, c.recall, c.f1, c.support] for name, c in task.table.items()]
    table = {"columns": ["class", "precision", "recall", "f1", "support"], "data": rows}
    (folder / CLASSES).write_text(json.dumps(table, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    pictures.confusion(*task.confusion, folder / CONFUSION)


@torch.no_grad()
def predict(task: Task, examples: list[Labelled | Tagged], batch_size: int, device: torch.device) -> list[dict]:
    """What the model says of each example."""
    features, rows = task.features(examples), []
    for batch in in_order(features, lambda some: task.pack(some, examples), batch_size):
        rows += task.predict(batch.to(device))
    return task.predictions(examples, features, rows)
