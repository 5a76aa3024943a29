"""The model, and what pretraining and fine-tuning share. `Bert` is the door for use from Python."""

from bert.pretrained import Bert

__all__ = ["Bert"]
