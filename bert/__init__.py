"""The model, and what pretraining and fine-tuning share. `Bert` is the entry point for use from Python."""

import os

# Before torch is imported, whose threads would spin while they wait for each other: where another process holds a core,
# a step then takes several times as long. This many spins suffice between two operations (docs/what_paid_off.md).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from bert.pretrained import Bert

__all__ = ["Bert"]
