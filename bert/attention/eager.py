"""The reference attention: plain matrix products, every probability kept.

Letters: T tokens in the batch, N sequences, S longest sequence, A heads, D width of a head.
"""

import torch.nn.functional as F
from torch import Tensor

from bert.attention.backend import Backend
from bert.attention.rectangle import one_for_all
from bert.packed import PackedBatch


class Eager(Backend):
    """Scaled dot-product attention inside each sequence (Vaswani et al. 2017, equation 1)."""

    def __init__(self, batch: PackedBatch) -> None:
        self.rectangle = one_for_all(batch)

    def __call__(self, query_key_value: Tensor, dropout: float = 0.0) -> tuple[Tensor, Tensor | None]:
        """(T, 3, A, D) -> the mixed values, (T, A, D), and the probabilities, (N, A, S, S)."""
        inside = self.rectangle.inside  # (N, S)
        tokens, spare = self.rectangle.tokens, len(query_key_value) - self.rectangle.tokens
        query, key, value = (self.rectangle.pad(x) for x in query_key_value[:tokens].unbind(1))  # each (N, A, S, D)
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5  # (N, A, S, S)
        scores = scores.masked_fill(~inside[:, None, None, :], float("-inf"))
        probabilities = scores.softmax(-1) * inside[:, None, :, None]
        mixed = F.dropout(probabilities, dropout, training=dropout > 0) @ value  # (N, A, S, D)
        return F.pad(self.rectangle.unpad(mixed), (0, 0, 0, 0, 0, spare)), probabilities
