"""Words that `run_finetune.py check` prints, and that a grid, which runs it for each of its tasks, parses."""

LATER = "later"
"""The `init` of a run whose model does not exist yet."""

LONGEST = "longest sequence, in tokens: "
"""The prefix of the line with data.max_length."""

FINGERPRINTS = "fingerprints: "
"""The prefix of the line with the beginnings of the files' fingerprints, in JSON."""

SCORES = "scores: "
"""The prefix of the line that names a task's scores."""
