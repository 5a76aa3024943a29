"""PyTorch's fused attention over the padded rectangle.

Letters: T tokens in the batch, N sequences, S longest sequence, A heads, D width of a head.
"""

import torch.nn.functional as F
from torch import Tensor

from bert.attention.rectangle import Rectangle
from bert.packed import PackedBatch


class Attention:
    """The same as `eager`, by `scaled_dot_product_attention`; it keeps no probabilities."""

    def __init__(self, batch: PackedBatch) -> None:
        self.rectangle = Rectangle(batch)
        self.mask = self.rectangle.inside[:, None, None, :]  # (N, 1, 1, S): which keys may be read

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0) -> tuple[Tensor, Tensor | None]:
        """(T, A, D) three times -> the mixed values, (T, A, D), and None in place of the probabilities."""
        query, key, value = (self.rectangle.pad(x) for x in (query, key, value))  # each (N, A, S, D)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=self.mask, dropout_p=dropout)
        return self.rectangle.unpad(mixed), None
