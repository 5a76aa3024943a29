"""The tasks learned from labelled data. A task is one file with a Task (what it must say of itself: tasks/task.py), one
line here, and its own options in config.TaskConfig.

objective = TASKS[name](config, tokenizer, labels, task, max_length, attention, overlap)
features = objective.features(examples)        # one or more sequences for each example
batch = objective.pack(features, examples)     # with the targets of `forward`
"""

from typing import TYPE_CHECKING

from finetune.example_kinds import KINDS, ExampleKind
from finetune.tasks import classification, ner, question_answering, regression

if TYPE_CHECKING:
    from finetune.config import TaskConfig  # which reads this table

TASKS = {
    "classification": classification.Classification,
    "regression": regression.Regression,
    "ner": ner.Ner,
    "question_answering": question_answering.QuestionAnswering,
}


def kind_of(task: "TaskConfig") -> ExampleKind:
    """The kind of a task's examples."""
    return KINDS[TASKS[task.name].kind]
