"""The operations that a training step is counted as having, and does not do."""

import torch
from torch import Tensor

from bert.config import ModelConfig
from bert.packed import PackedBatch


def unread_flops(config: ModelConfig, batch: PackedBatch, read: Tensor, queries: bool) -> float:
    """The part of `training_flops` that is not computed: the last layer's, for tokens whose output is not read.

    For each such token, the attention's output matrix and the feed-forward half, and perhaps its query with all its
    attention.

    Args:
        config: the model's sizes.
        batch: on the host.
        read: places of its tokens whose last hidden state is needed, each once, (R,).
        queries: whether the others' attention queries are skipped too (`answers_some` of a backend).
    """
    width, starts = config.hidden_size, batch.cu_seqlens[: batch.real_sequences + 1].long()
    lengths = starts.diff().double()  # (N,)
    unread = lengths - torch.searchsorted(read.sort().values, starts).diff()
    products = float(unread.sum()) * (width**2 + 2 * width * config.intermediate_size)
    of_queries = 6.0 * width**2 * float(unread.sum()) + 12.0 * width * float(lengths @ unread)
    return 6.0 * products + queries * of_queries
