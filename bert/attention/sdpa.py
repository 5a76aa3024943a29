"""PyTorch's fused attention over padded rectangles.

Letters: T tokens in the batch, N sequences, S longest sequence, A heads, D width of a head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from bert.attention.rectangle import Rectangle, alike_in_length
from bert.packed import PackedBatch


class Attention:
    """The same as `eager`, by `scaled_dot_product_attention`; it keeps no probabilities."""

    def __init__(self, batch: PackedBatch) -> None:
        self.rectangles = alike_in_length(batch)
        # Which keys may be read, (N, 1, 1, S); all of them where there is no padding.
        self.masks = [None if one.full else one.inside[:, None, None, :] for one in self.rectangles]

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0) -> tuple[Tensor, Tensor | None]:
        """(T, A, D) three times -> the mixed values, (T, A, D), and None in place of the probabilities."""
        sizes = [rectangle.tokens for rectangle in self.rectangles]
        spare = query.shape[0] - sum(sizes)
        if len(sizes) == 1 and not spare:
            return _mixed(self.rectangles[0], self.masks[0], query, key, value, dropout), None
        # The spare rows are split off last, and left over where the rectangles end.
        parts = zip(self.rectangles, self.masks, *(x.split([*sizes, spare]) for x in (query, key, value)), strict=False)
        mixed = [_mixed(*part, dropout) for part in parts]
        return torch.cat([*mixed, query.new_zeros(spare, *query.shape[1:])]), None


def _mixed(
    rectangle: Rectangle, mask: Tensor | None, query: Tensor, key: Tensor, value: Tensor, dropout: float
) -> Tensor:
    query, key, value = (rectangle.pad(x) for x in (query, key, value))  # each (N, A, S, D)
    return rectangle.unpad(F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout))
