"""The kinds of labelled example. A kind is one file and one line of KINDS; a task says which it has.

kind = KINDS[name]
example = kind.of(item, how)        # of what a format gives
labels = kind.labels(examples, task)
"""

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
