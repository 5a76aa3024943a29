"""A block: the sequences made from some documents, masked and split into micro-batches."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from bert.packed import PackedBatch
from pretrain import packing
from pretrain.examples import Examples, Sequences
from pretrain.packing import Shape


@dataclass(frozen=True)
class Block:
    """The micro-batches of one block.

    Attributes:
        sequences: all of them, concatenated, with the tokens as the model sees them.
        cuts: where each micro-batch starts, and the number of sequences last, (micro-batches + 1,).
        masked: positions to predict, ascending, (M,).
        units: the unit that each was masked in, numbered through the block, (M,).
        masked_labels: the original tokens there, (M,).
        max_seqlen: of any sequence, by configuration.
        labelled: whether pairs have labels.
        tally: counts of what became of the text.
        shape: what every micro-batch is filled up to, if there are fillers.
    """

    sequences: Sequences
    cuts: np.ndarray
    masked: np.ndarray
    units: np.ndarray
    masked_labels: np.ndarray
    max_seqlen: int
    labelled: bool
    tally: dict[str, int]
    shape: Shape | None = None

    def __len__(self) -> int:
        return len(self.cuts) - 1

    def micro_batch(self, number: int) -> PackedBatch:
        """One micro-batch, its sequences renumbered from 0; with fillers where shapes are fixed."""
        first, last = self.cuts[number], self.cuts[number + 1]
        starts = self.sequences.cu_seqlens[first : last + 1]
        begin, end = starts[0], starts[-1]
        m0, m1 = np.searchsorted(self.masked, (begin, end))
        targets = {
            "masked_index": _tensor(self.masked[m0:m1] - begin),
            "masked_labels": _tensor(self.masked_labels[m0:m1]),
        }
        if self.labelled:
            targets["sentence_labels"] = _tensor(self.sequences.labels[first:last])
        batch = PackedBatch(
            token_ids=_tensor(self.sequences.ids[begin:end]),
            segment_ids=_tensor(self.sequences.segments[begin:end]),
            position_ids=_tensor(self.sequences.positions[begin:end]),
            cu_seqlens=torch.from_numpy((starts - begin).astype(np.int32)),
            max_seqlen=self.max_seqlen,
            targets=targets,
        )
        return batch if self.shape is None else packing.fill(batch, self.shape)

    def to_send(self) -> "Block":
        """The block as a loader worker sends it: only what micro-batches need, in a third of the bytes."""
        sequences, nothing = self.sequences, np.zeros(0, bool)
        labels = sequences.labels.astype(np.uint8)
        return replace(
            self,
            sequences=Sequences(
                ids=sequences.ids.astype(np.int32),
                segments=sequences.segments.astype(np.uint8),
                positions=sequences.positions.astype(np.int32),
                word_starts=nothing,
                maskable=nothing,
                cu_seqlens=sequences.cu_seqlens,
                examples=Examples(**dict.fromkeys(vars(sequences.examples), nothing) | {"labels": labels}),
            ),
            units=nothing,
            masked_labels=self.masked_labels.astype(np.int32),
        )


def _tensor(numbers: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(numbers.astype(np.int64, copy=False))
