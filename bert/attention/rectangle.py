"""Converting between the flat batch and the padded rectangles that `eager` and `sdpa` work on.

Letters: T tokens of a rectangle, N its sequences, S the longest of them, A heads, D width of a head.
"""

from itertools import pairwise

import torch
from torch import Tensor

from bert.packed import PackedBatch

_PADDING = 1 << 14
"""A rectangle ends once its padding wastes more query-key pairs than this: another call is cheaper then.

Or more than half the pairs of its longest sequence, where that is more.
"""

_MANY = 8
"""At least this many sequences of one length get a rectangle of their own, in which nothing is moved or masked."""


class Rectangle:
    """Where each token of sequences laid end to end stands in an (N, S) rectangle.

    Args:
        lengths: of the sequences, (N,); may be 0 where only some tokens are queries.
        tokens: T, their sum.
        longest: S, or an upper bound.
        full: whether every sequence has that length, so that nothing needs to be moved.

    Attributes:
        inside: True where the rectangle holds a token, (N, S).
    """

    def __init__(self, lengths: Tensor, tokens: int, longest: int, full: bool = False) -> None:
        self.tokens, self.full = tokens, full
        columns = torch.arange(longest, device=lengths.device)
        self.inside = columns < lengths[:, None]  # (N, S)
        if not full:
            starts = lengths.cumsum(0) - lengths  # (N,)
            rows = torch.arange(len(lengths), device=lengths.device)
            shift = (rows * longest - starts).repeat_interleave(lengths, output_size=tokens)  # (T,)
            self.cells = torch.arange(tokens, device=lengths.device) + shift  # (T,): the cell of each token
            # The token of each cell, (N * S,); padding cells get the sequence's last token, or a neighbour's where it
            # has none.
            self.sources = (starts[:, None] + torch.minimum(columns, lengths[:, None] - 1)).clamp(min=0).flatten()

    def pad(self, x: Tensor) -> Tensor:
        """(T, A, D) -> (N, A, S, D); cells outside the sequences must be neither read nor given a gradient."""
        cells = x if self.full else _ToCells.apply(x, self.cells, self.sources)  # (N * S, A, D)
        return cells.view(*self.inside.shape, *x.shape[1:]).transpose(1, 2)

    def unpad(self, x: Tensor) -> Tensor:
        """(N, A, S, D) -> (T, A, D)."""
        cells = x.transpose(1, 2).reshape(-1, x.shape[1], x.shape[3])  # (N * S, A, D)
        return cells if self.full else _ToTokens.apply(cells, self.cells, self.sources, self.inside)


def lengths_at_hand(batch: PackedBatch) -> bool:
    """Whether lengths may decide shapes: not on a GPU, which would have to be waited for, nor if shapes are fixed."""
    return batch.cu_seqlens.device.type == "cpu" and batch.real is None


def one_for_all(batch: PackedBatch) -> Rectangle:
    """The rectangle of a whole batch."""
    lengths = batch.cu_seqlens.diff()
    return Rectangle(lengths, batch.num_tokens, int(lengths.max()) if lengths_at_hand(batch) else batch.max_seqlen)


def alike_in_length(batch: PackedBatch) -> list[Rectangle]:
    """Rectangles of sequences of similar length, in the batch's order; a new one begins where padding would cost more.

    There are several only where the batch has its longest sequences first, and lengths can be read without waiting for
    a GPU.
    """
    lengths = batch.cu_seqlens.diff()
    if not lengths_at_hand(batch) or bool((lengths.diff() > 0).any()):
        return [one_for_all(batch)]
    tokens = lengths.tolist()  # of each sequence
    return [
        Rectangle(lengths[first:end], sum(tokens[first:end]), tokens[first], full=tokens[first] == tokens[end - 1])
        for first, end in pairwise(_cuts(tokens))
    ]


def _cuts(lengths: list[int]) -> list[int]:
    """Where each rectangle's sequences start, and the number of sequences last, from lengths in descending order."""
    cuts, padding = [0] if lengths else [], 0
    for place, length in enumerate(lengths):
        longest, so_far = lengths[cuts[-1]], place - cuts[-1]
        padding += longest**2 - length**2  # query-key pairs wasted, from the rectangle's first sequence to this one
        many_alike = so_far >= _MANY and lengths[place - 1] == longest  # all so far are of one length
        if (many_alike and length < longest) or padding > max(_PADDING, longest**2 // 2):
            cuts.append(place)
            padding = 0
    return [*cuts, len(lengths)]


class _ToCells(torch.autograd.Function):
    """Tokens to cells; in the backward pass cells to tokens, since no gradient comes from outside the sequences."""

    @staticmethod
    def forward(ctx, tokens: Tensor, cells: Tensor, sources: Tensor) -> Tensor:
        ctx.save_for_backward(cells)
        return tokens.index_select(0, sources)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return gradient.index_select(0, ctx.saved_tensors[0]), None, None


class _ToTokens(torch.autograd.Function):
    """Cells to tokens; in the backward pass tokens to cells, and 0 outside the sequences. Nothing is ever summed."""

    @staticmethod
    def forward(ctx, values: Tensor, cells: Tensor, sources: Tensor, inside: Tensor) -> Tensor:
        ctx.save_for_backward(sources, inside)
        return values.index_select(0, cells)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        sources, inside = ctx.saved_tensors
        outside = ~inside.view(-1, *[1] * (gradient.ndim - 1))
        return gradient.index_select(0, sources).masked_fill_(outside, 0), None, None, None
