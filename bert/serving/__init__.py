"""Finished models served by MLflow: requests and answers, and the folder that it opens."""
