"""Work done and work possible: FLOPs of a training step by its tokens, and a matrix product's rate."""

import time

import torch

from bert.config import ModelConfig


def flops_per_token(config: ModelConfig, mean_length: float, masked_share: float, pooler: bool) -> float:
    """Floating-point operations that one non-padding token costs, forward and backward.

    6 for each parameter of the layers' (and the pooler's) matrices, 12 x layers x width x length for attention, and 6
    for each of the vocabulary head's at the masked positions alone; looking up embeddings is free. Padding, fillers
    and logits that nobody reads are no work.

    Args:
        config: the model's sizes.
        mean_length: tokens that a token attends to, its own sequence's length averaged over tokens.
        masked_share: of the tokens.
        pooler: whether there is one; it works once a sequence, and is counted so by mean_length.
    """
    width, layers = config.hidden_size, config.num_hidden_layers
    matrices = layers * (4 * width**2 + 2 * width * config.intermediate_size)
    head = width**2 + config.vocab_size * width
    of_pooler = width**2 / mean_length if pooler else 0.0
    return 6 * (matrices + of_pooler) + 12 * layers * width * mean_length + 6 * head * masked_share


def matrix_rate(device: torch.device, dtype: torch.dtype, size: int, seconds: float = 1.0) -> float:
    """FLOP/s of a square matrix product, the best of repeated ones."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < seconds:
        start = time.perf_counter()
        torch.mm(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best
