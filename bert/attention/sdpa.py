"""PyTorch's fused attention over padded rectangles.

Letters: T tokens in the batch, R queries among them, N sequences, S longest sequence, A heads, D width of a head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from bert.attention.backend import Backend
from bert.attention.rectangle import Rectangle, alike_in_length, lengths_at_hand
from bert.packed import PackedBatch


class Sdpa(Backend):
    """The same as `eager`, by `scaled_dot_product_attention`; it keeps no probabilities."""

    def __init__(self, batch: PackedBatch) -> None:
        self.rectangles = alike_in_length(batch)
        # Which keys may be read, (N, 1, 1, S); None where there is no padding.
        self.masks = [None if one.full else one.inside[:, None, None, :] for one in self.rectangles]
        self.starts = batch.cu_seqlens
        self.answers_some = lengths_at_hand(batch)

    def __call__(self, query_key_value: Tensor, dropout: float = 0.0) -> tuple[Tensor, Tensor | None]:
        """(T, 3, A, D) -> the mixed values, (T, A, D), and None in place of the probabilities."""
        return self._mixed(self.rectangles, *query_key_value.unbind(1), dropout), None

    def some(self, places: Tensor, query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0) -> Tensor:
        """(R,), (R, A, D), (T, A, D) twice -> (R, A, D)."""
        order = places.argsort()
        counts = torch.searchsorted(places[order], self.starts).diff()  # (N,)
        parts = counts.split([len(rectangle.inside) for rectangle in self.rectangles])
        mixed = self._mixed([_of_counts(part) for part in parts], query.index_select(0, order), key, value, dropout)
        spare = len(query) - len(places)
        mixed = mixed.index_select(0, order.argsort())
        return F.pad(mixed, (0, 0, 0, 0, 0, spare)) if spare else mixed

    def _mixed(self, asking: list[Rectangle], query: Tensor, key: Tensor, value: Tensor, dropout: float) -> Tensor:
        """Attend from each rectangle of queries to the rectangle of keys at the same place in the list."""
        answering = [rectangle.tokens for rectangle in self.rectangles]
        spare = len(key) - sum(answering)
        if len(answering) == 1 and not spare:
            return _answered(asking[0], self.rectangles[0], self.masks[0], query, key, value, dropout)
        # The spare rows are the last split, which zip leaves over.
        keys, values = (x.split([*answering, spare]) for x in (key, value))
        asked = [rectangle.tokens for rectangle in asking]
        queries = query.split([*asked, len(query) - sum(asked)])
        parts = zip(asking, self.rectangles, self.masks, queries, keys, values, strict=False)
        mixed = [_answered(*part, dropout) for part in parts]
        return torch.cat([*mixed, query.new_zeros(queries[-1].shape)])


def _of_counts(counts: Tensor) -> Rectangle:
    """The rectangle of queries, from how many each sequence has, (N,)."""
    longest = int(counts.max())
    return Rectangle(counts, int(counts.sum()), longest, full=bool((counts == longest).all()))


def _answered(
    asking: Rectangle,
    answering: Rectangle,
    mask: Tensor | None,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout: float,
) -> Tensor:
    query, key, value = asking.pad(query), answering.pad(key), answering.pad(value)  # each (N, A, ., D)
    if query.device.type == "cpu" and query.dtype == torch.bfloat16:
        with torch.autocast("cpu", enabled=False):  # in bf16 PyTorch's gradient takes several times as long as in fp32
            query, key, value = query.float(), key.float(), value.float()
            return asking.unpad(F.scaled_dot_product_attention(query, key, value, mask, dropout).bfloat16())
    return asking.unpad(F.scaled_dot_product_attention(query, key, value, mask, dropout))
