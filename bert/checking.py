"""What ablations and `run_finetune.py check`, which they ask of each task, say to each other."""

LATER = "later"
"""The `init` of a run whose model is not there yet."""

SCORES = "scores: "
"""What stands before the names of a task's scores."""
