"""Micro-batches of one shape: the same number of tokens, sequences and places to predict in each, whatever the text.

What a micro-batch's own sequences leave free is filled with sequences that are ignored. A GPU's kernels are then
compiled once, and its memory is laid out once.

Letters: T tokens of a micro-batch, N sequences, M places to predict, S longest sequence, E sequences of a block.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bert.counting import count_of
from bert.packed import PackedBatch
from bert.targets import PerPosition, PerSequence, PerToken, Positions
from pretrain import ragged
from pretrain.targets import TARGETS

RULE = 2
"""Incremented when the same text is cut into different micro-batches; runs are not resumed across that."""

_SPARE = 1.1
"""N, as a multiple of the sequences that fit on average: a spare one costs a token, one too few all tokens left."""


@dataclass(frozen=True)
class Shape:
    """The shape of every micro-batch of a run, including fillers.

    Attributes:
        tokens: T.
        sequences: N.
        masked: M; doubled, or more, in the rare micro-batch with more masks, so that none is left out.
        longest: S, the maximum tokens in a sequence.
    """

    tokens: int
    sequences: int
    masked: int
    longest: int

    def admits(self, tokens: int, sequences: int) -> bool:
        """Whether fillers of 1 to S tokens can bring this many tokens and sequences up to T and N."""
        missing, places = self.tokens - tokens, self.sequences - sequences
        return places <= missing <= places * self.longest

    def in_words(self) -> str:
        """The shape in words."""
        return (
            f"{self.tokens:,} tokens in {count_of(self.sequences, 'sequence')} with {self.masked:,} places to predict"
        )


def shape_of(tokens: int, longest: int, mean_length: float, rate: float) -> Shape:
    """The shape of micro-batches of this many tokens.

    Args:
        tokens: T, at least 2 * longest.
        longest: S.
        mean_length: of the sequences to come, approximately.
        rate: the highest share of a sequence's tokens to predict.
    """
    fewest = 1 + math.ceil((tokens - 1) / longest)  # with these an empty micro-batch admits any sequence of 1 to S
    sequences = min(max(fewest, math.ceil(_SPARE * tokens / mean_length)), tokens - longest + 1)
    # Masking rounds each sequence's number up by at most one, or equally often up and down.
    masked = min(tokens, math.ceil(rate * tokens) + sequences)
    return Shape(tokens, sequences, masked, longest)


def cut(lengths: np.ndarray, shape: Shape) -> np.ndarray:
    """Cut a block's sequences, in order, into micro-batches that fillers can bring to the shape.

    Each gets about an equal share of the tokens, so that a block's last micro-batch is no small remainder. Masks are
    not considered.

    Args:
        lengths: of the sequences, 1 to S each, (E,).
        shape: from `shape_of`.

    Returns:
        Where each micro-batch starts, and E last, (micro-batches + 1,).
    """
    total = int(lengths.sum())
    share = total / max(1, math.ceil(total / _room(lengths, shape)))
    cuts, done, tokens, sequences = [], 0, 0, 0
    for place, length in enumerate(lengths.tolist()):
        has_share = done >= share * len(cuts)  # by all tokens of the block so far, so that errors do not accumulate
        if has_share or not shape.admits(tokens + length, sequences + 1):
            cuts.append(place)
            tokens, sequences = 0, 0
        done, tokens, sequences = done + length, tokens + length, sequences + 1
    return np.array([*cuts, len(lengths)])


def fill(batch: PackedBatch, shape: Shape) -> PackedBatch:
    """The batch with fillers after its own sequences: T tokens, N sequences, M places to predict.

    Fillers are sequences of token 0, whose lengths differ by at most one. They have no labels, and no sequence attends
    to another, so they add nothing to any loss or gradient.
    """
    missing, places = shape.tokens - batch.num_tokens, shape.sequences - batch.num_sequences
    starts = np.arange(places + 1) * missing // max(1, places)
    lengths = np.diff(starts)
    zeros = torch.zeros(missing, dtype=torch.int64)
    positions = torch.from_numpy(ragged.ranges(np.zeros(places, np.int64), lengths))
    ends = torch.from_numpy(starts[1:].astype(np.int32)) + batch.num_tokens
    masked = shape.masked * max(1, -(-len(batch.targets["masked_index"]) // shape.masked))
    rows = {PerSequence: shape.sequences, PerToken: shape.tokens, Positions: masked, PerPosition: masked}
    return replace(
        batch,
        token_ids=torch.cat([batch.token_ids, zeros]),
        segment_ids=torch.cat([batch.segment_ids, zeros]),
        position_ids=torch.cat([batch.position_ids, positions]),
        cu_seqlens=torch.cat([batch.cu_seqlens, ends]),
        targets={
            name: _padded(values, rows[type(TARGETS[name])], TARGETS[name].padding)
            for name, values in batch.targets.items()
        },
        real=(batch.num_tokens, batch.num_sequences),
    )


def _room(lengths: np.ndarray, shape: Shape) -> float:
    """How many tokens of the text a micro-batch is certain to hold, if its sequences are of the mean length.

    Up to S tokens are lost where the next sequence does not fit, and at least one to each filler. There are N fillers
    less the room / mean sequences of the text, so T = room + S + N - room / mean, which is solved here for room.
    """
    sequences_per_token = len(lengths) / max(1, int(lengths.sum()))  # 1 / mean
    room = (shape.tokens - shape.longest - shape.sequences) / max(1 - sequences_per_token, 0.5)
    return max(room, shape.tokens / 2)


def _padded(values: Tensor, rows: int, padding: int) -> Tensor:
    return torch.nn.functional.pad(values, (0, rows - len(values)), value=padding)
