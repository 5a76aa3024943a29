"""The one training loop, and all that keeps a run safe and visible; it knows no task."""
