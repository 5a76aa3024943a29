"""What is learned from labelled data. A task is one file with an Objective, and one line here.

objective = TASKS[name](config, tokenizer, labels, task, max_length, attention)
features = objective.features(examples)        # one or more sequences for each example
batch = objective.pack(features, examples)     # with the targets of `forward`
"""

from finetune.tasks import classification, ner

TASKS = {"classification": classification.Classification, "ner": ner.Ner}
