"""The kinds of labelled example. A kind is one file and one line of KINDS; config.EXAMPLES says which a task has.

kind = kind_of(task)                # for its TaskConfig
example = kind.of(item, how)        # of what a format gives
labels = kind.labels(examples, task)
"""

from finetune.config import EXAMPLES, TaskConfig
from finetune.example_kinds.asked import Question, WithAnswers
from finetune.example_kinds.kind import ExampleKind
from finetune.example_kinds.labelled import Labelled, WithLabel, WithNumber
from finetune.example_kinds.tagged import Tagged, WithTags

KINDS: dict[str, ExampleKind] = {
    "labels": WithLabel(),
    "numbers": WithNumber(),
    "tags": WithTags(),
    "questions": WithAnswers(),
}

Example = Labelled | Tagged | Question


def kind_of(task: TaskConfig) -> ExampleKind:
    """The kind of a task's examples."""
    return KINDS[EXAMPLES[task.name]]
