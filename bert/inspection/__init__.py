"""Looking inside a model: what it would write, the vectors it makes, where it looks."""
