"""What an attention backend is.

Letters: T tokens in the batch, R queries among them, N sequences, S longest sequence, A heads, D width of a head.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from bert.config import ModelConfig
from bert.packed import PackedBatch


class Backend(ABC):
    """Attention inside each sequence of one batch: made once from their boundaries, and called by every layer.

    There may be spare rows after the batch's tokens: they belong to no sequence, and come back as 0.

    Args:
        batch: the sequences.

    Attributes:
        answers_some: whether `some` may be called for this batch; elsewhere all tokens ask, and the caller picks.
    """

    answers_some = False

    @abstractmethod
    def __init__(self, batch: PackedBatch) -> None:
        """What every layer can share."""

    @abstractmethod
    def __call__(self, query_key_value: Tensor, dropout: float = 0.0) -> tuple[Tensor, Tensor | None]:
        """Mix the values of each token's own sequence.

        Args:
            query_key_value: (T, 3, A, D), or with spare rows.
            dropout: probability with which each attention probability is dropped.

        Returns:
            The mixed values, (T, A, D), and the probabilities before dropout, (N, A, S, S), zero outside a sequence;
            None in their place where the backend keeps none.
        """

    def some(self, places: Tensor, query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0) -> Tensor:
        """The mixed values of some tokens only.

        Args:
            places: of these tokens in the batch, (R,), in any order.
            query: theirs, (R, A, D), or with spare rows, which come back as 0.
            key, value: of all tokens, (T, A, D), or with spare rows.
            dropout: probability with which each attention probability is dropped.
        """
        raise NotImplementedError(f"{type(self).__name__} answers all queries of a batch, not some.")

    @staticmethod
    def unmet(device: torch.device, dtype: torch.dtype = torch.bfloat16, model: ModelConfig | None = None) -> list[str]:
        """Its unmet requirements, one line each; none for a backend that runs anywhere.

        Args:
            device: where the model is to run.
            dtype: what matrix products are computed in.
            model: its sizes and dropout, where known.
        """
        return []
