"""The model, and what pretraining and fine-tuning share. `Bert` is the door for use from Python."""

import os

# Before torch is imported. Threads that wait for each other would spin; where another process holds a core, a step then
# takes several times as long (docs/performance.md).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from bert.pretrained import Bert

__all__ = ["Bert"]
