"""Between the flat batch and the rectangle that `eager` and `sdpa` work on.

Letters: T tokens in the batch, N sequences, S longest sequence, A heads, D width of a head.
"""

import torch
from torch import Tensor

from bert.packed import PackedBatch


class Rectangle:
    """Where each token of a packed batch stands in an (N, S) rectangle.

    Attributes:
        inside: True where the rectangle holds a token, (N, S).
    """

    def __init__(self, batch: PackedBatch) -> None:
        starts = batch.cu_seqlens[:-1].long()  # (N,)
        lengths = batch.cu_seqlens.diff()  # (N,)
        # The true longest is no fixed shape, and a GPU would have to be waited for; the run's bound serves as well.
        by_bound = lengths.device.type != "cpu" or batch.real is not None
        longest = batch.max_seqlen if by_bound else int(lengths.max())
        rows = torch.arange(batch.num_sequences, device=lengths.device)
        shift = (rows * longest - starts).repeat_interleave(lengths, output_size=batch.num_tokens)  # (T,)
        self.cells = torch.arange(batch.num_tokens, device=lengths.device) + shift  # (T,)
        self.inside = torch.arange(longest, device=lengths.device) < lengths[:, None]  # (N, S)

    def pad(self, x: Tensor) -> Tensor:
        """(T, A, D) -> (N, A, S, D), zero outside."""
        cells = _Scatter.apply(x, self.cells, self.inside.numel())  # (N * S, A, D)
        return cells.view(*self.inside.shape, *x.shape[1:]).transpose(1, 2)

    def unpad(self, x: Tensor) -> Tensor:
        """(N, A, S, D) -> (T, A, D)."""
        return _Gather.apply(x.transpose(1, 2).reshape(-1, x.shape[1], x.shape[3]), self.cells)


class _Scatter(torch.autograd.Function):
    """Rows to their cells; backwards, cells to their rows. No cell is named twice, so nothing is ever added up."""

    @staticmethod
    def forward(ctx, rows: Tensor, cells: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(cells)
        return rows.new_zeros(size, *rows.shape[1:]).index_copy_(0, cells, rows)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return gradient.index_select(0, ctx.saved_tensors[0]), None, None


class _Gather(torch.autograd.Function):
    """Cells to rows: `_Scatter` read the other way."""

    @staticmethod
    def forward(ctx, values: Tensor, cells: Tensor) -> Tensor:
        ctx.save_for_backward(cells)
        ctx.size = values.shape[0]
        return values.index_select(0, cells)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        cells = ctx.saved_tensors[0]
        return gradient.new_zeros(ctx.size, *gradient.shape[1:]).index_copy_(0, cells, gradient), None
