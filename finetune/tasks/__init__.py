"""The tasks learned from labelled data. A task is one file with an Objective, one line here, and one of
config.EXAMPLES; its own options are in config.TaskConfig, with its name in config.OWNERS.

objective = TASKS[name](config, tokenizer, labels, task, max_length, attention, overlap)
features = objective.features(examples)        # one or more sequences for each example
batch = objective.pack(features, examples)     # with the targets of `forward`
"""

from finetune.tasks import classification, ner, question_answering, regression

TASKS = {
    "classification": classification.Classification,
    "regression": regression.Regression,
    "ner": ner.Ner,
    "question_answering": question_answering.QuestionAnswering,
}
