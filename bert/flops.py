"""Work done and work possible: the FLOPs of a training step, and the rate of a plain matrix product."""

import time
from functools import cache

import torch

from bert.config import ModelConfig
from bert.packed import PackedBatch


def training_flops(config: ModelConfig, batch: PackedBatch, masked: int = 0, pooler: bool = True) -> float:
    """Floating-point operations of a batch's matrix products, forward and backward.

    6 for each parameter of the layers' matrices and token, of the pooler and sequence, of the vocabulary head and
    masked position; 12 x layers x width for each pair of tokens in attention. Embedding look-ups are free; padding,
    fillers and unused logits do not count. All layers count alike, as in published figures; what the last one skips
    is not subtracted (benchmarks/unread_flops.py counts it).

    Args:
        config: the model's sizes.
        batch: on the host.
        masked: positions whose logits are computed.
        pooler: whether first tokens are pooled.
    """
    width, layers = config.hidden_size, config.num_hidden_layers
    lengths = batch.cu_seqlens.diff()[: batch.real_sequences].double()
    matrices = layers * (4 * width**2 + 2 * width * config.intermediate_size)
    head = width**2 + config.vocab_size * width
    products = batch.real_tokens * matrices + batch.real_sequences * pooler * width**2 + masked * head
    return 6.0 * products + 12.0 * layers * width * float(lengths.square().sum())


@cache
def matrix_rate(device: torch.device, dtype: torch.dtype, times: int = 20) -> float:
    """FLOP/s of a large square matrix product, the best of `times`: a shared machine may be half as fast for a few.

    Measured once per process.
    """
    return max(matrix_rates(device, dtype, times))


def matrix_rates(device: torch.device, dtype: torch.dtype, times: int) -> list[float]:
    """FLOP/s of a large square matrix product, measured `times` times; nothing else is timed.

    The matrices are random, since a GPU draws less power, and is faster, when all numbers are alike.
    """
    on_gpu = device.type == "cuda"
    size, at_once = (8192, 10) if on_gpu else (1024, 1)  # a GPU is waited for only after every tenth
    source = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(size, size, generator=source, device=device).to(dtype) for _ in range(2))
    torch.mm(a, b)
    rates = []
    for _ in range(times):
        if on_gpu:
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        for _ in range(at_once):
            torch.mm(a, b)
        if on_gpu:
            torch.cuda.synchronize(device)
        rates.append(2 * at_once * size**3 / (time.perf_counter() - start))
    return rates
