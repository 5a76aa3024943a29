"""Words that `run_finetune.py check` prints and a grid, which runs it for each of its tasks, reads again."""

LATER = "later"
"""The `init` of a run whose model is not there yet."""

SCORES = "scores: "
"""What stands before the names of a task's scores."""
