"""The arithmetic of PyTorch's variable-length attention for a CPU, so that its real function can be called there.

Everything around the kernel is PyTorch's own: what it checks, how it is differentiated and how it enters a graph.
"""

import itertools

import torch
from torch import Tensor
from torch.nn.attention import varlen


def register() -> None:
    """From now on `varlen_attn` takes tensors on a CPU."""
    varlen._varlen_attn.register_kernel("cpu")(_forward)
    varlen._varlen_attn_backward.register_kernel("cpu")(_backward)


def _forward(query: Tensor, key: Tensor, value: Tensor, starts: Tensor, *_, **__) -> tuple[Tensor, Tensor, Tensor]:
    mixed, normalisers = [], []
    for q, k, v in _sequences(starts, query, key, value):
        scores = q @ k.mT / q.shape[-1] ** 0.5  # (A, S, S)
        normalisers.append(scores.logsumexp(-1))
        mixed.append((scores.softmax(-1) @ v).transpose(0, 1).to(query.dtype))
    return torch.cat(mixed), torch.cat(normalisers, 1), torch.zeros(2, dtype=torch.uint64)


def _backward(of_mixed: Tensor, query: Tensor, key: Tensor, value: Tensor, _, __, starts: Tensor, *___, **____):
    assert of_mixed.dtype == query.dtype
    gradients: list[list[Tensor]] = [[], [], []]
    for q, k, v, g in _sequences(starts, query, key, value, of_mixed):
        scale = q.shape[-1] ** -0.5
        probabilities = (q @ k.mT * scale).softmax(-1)
        of_probabilities = g @ v.mT
        of_scores = of_probabilities - (of_probabilities * probabilities).sum(-1, keepdim=True)
        of_scores = probabilities * of_scores * scale
        for parts, part in zip(gradients, (of_scores @ k, of_scores.mT @ q, probabilities.mT @ g), strict=True):
            parts.append(part.transpose(0, 1).to(query.dtype))
    return tuple(torch.cat(parts) for parts in gradients)


def _sequences(starts: Tensor, *tensors: Tensor):
    """Each sequence's part of (T, A, D) tensors, as (A, S, D) in fp32."""
    for begin, end in itertools.pairwise(starts.tolist()):
        yield tuple(x[begin:end].transpose(0, 1).float() for x in tensors)
