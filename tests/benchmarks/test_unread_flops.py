import torch

from benchmarks.unread_flops import unread_flops
from bert.config import ModelConfig
from bert.packed import PackedBatch


def test_what_the_last_layer_leaves_out_is_counted_for_each_unread_token():
    # Width 2: 2 * 2 in the output matrix, 2 * 2 * 3 in feed-forward = 16 for each of 3 tokens out of 5.
    batch, config = PackedBatch.from_sequences([[1, 2], [3, 4, 5]], [[0, 0], [0, 0, 0]]), ModelConfig(7, 2, 4, 1, 3)
    read = torch.tensor([3, 0])
    assert unread_flops(config, batch, read, queries=False) == 6 * 3 * 16
    # Their queries: 2 * 2 each in the matrix; 1 would look at 2 tokens, 2 at 3, 12 * 2 for each of these pairs.
    assert unread_flops(config, batch, read, queries=True) == 6 * 3 * (16 + 4) + 12 * 2 * (1 * 2 + 2 * 3)
