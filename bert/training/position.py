"""Where in the data a run is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Position:
    """The next micro-batch: `micro_batch` of `block` of `epoch`, all from 0.

    `micro_batches` is how many the block has; 0 before it has been built.
    """

    epoch: int = 0
    block: int = 0
    micro_batch: int = 0
    micro_batches: int = 0
