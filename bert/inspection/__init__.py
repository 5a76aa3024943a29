"""Looking inside a model: its predictions for [MASK], its vectors, its attention."""
