"""The training loop, and all that keeps a run safe and visible, whatever the task."""
