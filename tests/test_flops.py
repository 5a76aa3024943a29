"""Operations counted by hand."""

import pytest
import torch

from bert.config import ModelConfig
from bert.flops import matrix_rate, training_flops
from bert.packed import PackedBatch
from pretrain.objectives.masked_lm import MaskedLM


def test_a_small_model_s_operations_are_those_counted_by_hand():
    # Width 2, one layer: 4 * 4 in attention, 2 * 2 * 3 in feed-forward = 28 a token; 5 tokens in sequences of 2 and 3.
    # Attention looks at 4 + 9 = 13 pairs, 12 * 2 each. Pooler: 4 for each of 2. Head: 4 + 7 * 2 = 18 for each of 3.
    config = ModelConfig(7, 2, 1, 1, 3)
    batch = PackedBatch.from_sequences([[1, 2], [3, 4, 5]], [[0, 0], [0, 0, 0]])
    assert training_flops(config, batch, masked=3) == 6 * (5 * 28 + 2 * 4 + 3 * 18) + 12 * 2 * 13
    assert training_flops(config, batch, pooler=False) == 6 * 5 * 28 + 12 * 2 * 13


def test_base_at_length_128_costs_the_545_million_a_token_that_are_known_of_it():
    config = ModelConfig(30522, 768, 12, 12, 3072)
    batch = PackedBatch.from_sequences([[1] * 128] * 4, [[0] * 128] * 4)
    each = training_flops(config, batch, masked=round(0.15 * 512), pooler=True) / 512
    assert each == pytest.approx(545e6, rel=0.01)


def test_an_objective_counts_its_own_targets(small_tokenizer):
    config = ModelConfig(small_tokenizer.vocab_size, 8, 1, 2, 8, 12)
    batch = PackedBatch.from_sequences([[1, 2, 3]], [[0, 0, 1]])
    batch.targets["masked_index"] = torch.tensor([1])
    assert MaskedLM(config, small_tokenizer, 2).flops(batch) == training_flops(config, batch, 1, True)
    assert MaskedLM(config, small_tokenizer, 0).flops(batch) == training_flops(config, batch, 1, False)


def test_a_matrix_product_has_a_rate():
    assert 1e8 < matrix_rate(torch.device("cpu"), torch.float32, times=1) < 1e15
