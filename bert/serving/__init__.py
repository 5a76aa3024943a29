"""Finished models as MLflow serves them: what is asked and answered, and the folder that it opens."""
