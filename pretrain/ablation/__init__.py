"""Grids of pretraining variants with several seeds: planned, run, compared and reported."""
