"""Grids of pretraining variants with several seeds: planning, running, comparing and reporting them."""
