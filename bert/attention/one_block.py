"""Attention inside short sequences, by two Triton kernels: one block of a GPU holds all scores of a head.

Flash attention streams over keys, whatever their number, and its backward pass adds the gradient of the queries up in
memory, in fp32. Here either pass reads each operand once and writes each result once, nothing but the operands is kept
between them, and the three gradients are written where the projection reads them.

Letters: T tokens in the batch, N sequences, S longest sequence, A heads, D width of a head.
"""

import math
from collections.abc import Callable

import torch
import triton
import triton.language as tl
from torch import Tensor

LOG2_E = tl.constexpr(math.log2(math.e))
"""e is 2 to the power of this; a GPU computes powers of 2."""


def fits(longest: int, width: int) -> bool:
    """Whether a block has the registers for the scores of such sequences, and Triton multiplies heads of this width."""
    return longest <= 128 and width in (16, 32, 64, 128)


@torch.library.custom_op("bert::attention_in_one_block", mutates_args=())
def attention_in_one_block(query_key_value: Tensor, starts: Tensor, longest: int) -> Tensor:
    """Mix the values of each token's own sequence (Vaswani et al. 2017, equation 1).

    Args:
        query_key_value: (T, 3, A, D), fp16 or bf16.
        starts: where each sequence begins, then the end of the last, which is T: (N + 1,), int32.
        longest: S, or an upper bound, such that `fits(S, D)`; of a longer sequence the rest would not be computed.

    Returns:
        The mixed values, (T, A, D). No order of additions is left to chance: results repeat to the last bit.
    """
    tokens, _, heads, width = query_key_value.shape
    mixed = query_key_value.new_empty(tokens, heads, width)
    _launch(_forward, starts, longest, query_key_value.contiguous(), mixed)
    return mixed


@torch.library.custom_op("bert::attention_in_one_block_gradient", mutates_args=())
def _gradient(grad_mixed: Tensor, query_key_value: Tensor, starts: Tensor, longest: int) -> Tensor:
    """(T, A, D), (T, 3, A, D) -> the gradient of the latter."""
    gradient = query_key_value.new_empty(query_key_value.shape)
    operands = query_key_value.contiguous(), grad_mixed.contiguous()
    _launch(_backward, starts, longest, *operands, gradient)
    return gradient


@attention_in_one_block.register_fake
def _(query_key_value: Tensor, starts: Tensor, longest: int) -> Tensor:
    tokens, _, heads, width = query_key_value.shape
    return query_key_value.new_empty(tokens, heads, width)


@_gradient.register_fake
def _(grad_mixed: Tensor, query_key_value: Tensor, starts: Tensor, longest: int) -> Tensor:
    return query_key_value.new_empty(query_key_value.shape)


def _keep(ctx, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
    query_key_value, starts, ctx.longest = inputs
    ctx.save_for_backward(query_key_value, starts)


def _differentiate(ctx, grad_mixed: Tensor) -> tuple[Tensor, None, None]:
    return _gradient(grad_mixed, *ctx.saved_tensors, ctx.longest), None, None


attention_in_one_block.register_autograd(_differentiate, setup_context=_keep)


def run_once(device: torch.device) -> None:
    """Compile both kernels for sequences of 128 tokens and heads of 64, and run them; raises whatever Triton does."""
    operands = torch.zeros(1, 3, 1, 64, dtype=torch.bfloat16, device=device)
    starts = torch.tensor([0, 1], dtype=torch.int32, device=device)
    _gradient(attention_in_one_block(operands, starts, 128), operands, starts, 128)


def _launch(kernel: Callable, starts: Tensor, longest: int, query_key_value: Tensor, *others: Tensor) -> None:
    """Run a kernel for each head of each sequence, on the GPU that holds them."""
    _, _, heads, width = query_key_value.shape
    rows = max(16, triton.next_power_of_2(longest))
    blocks = ((len(starts) - 1) * heads,)
    with torch.cuda.device_of(query_key_value):
        kernel[blocks](query_key_value, *others, starts, 1 / math.sqrt(width), heads, width, rows, num_warps=8)


@triton.jit
def _forward(query_key_value, mixed, starts, scale, HEADS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr):
    inside, of_operands, of_mixed = _places(starts, HEADS, WIDTH, ROWS)
    query, key, value = _operands(query_key_value + of_operands, inside, HEADS * WIDTH)
    powers, sums = _powers(query, key, inside, scale)
    tl.store(mixed + of_mixed, tl.dot(powers.to(value.dtype), value) / sums, inside[:, None])


@triton.jit
def _backward(
    query_key_value, grad_mixed, gradient, starts, scale, HEADS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr
):
    inside, of_operands, of_mixed = _places(starts, HEADS, WIDTH, ROWS)
    query, key, value = _operands(query_key_value + of_operands, inside, HEADS * WIDTH)
    grad_mixed = tl.load(grad_mixed + of_mixed, inside[:, None], 0.0)
    gradient += of_operands
    powers, sums = _powers(query, key, inside, scale)
    probabilities = powers / sums
    grad_value = tl.dot(tl.trans(probabilities.to(value.dtype)), grad_mixed)
    tl.store(gradient + 2 * HEADS * WIDTH, grad_value, inside[:, None])
    grad_probabilities = tl.dot(grad_mixed, tl.trans(value))
    mean = tl.sum(probabilities * grad_probabilities, 1)[:, None]
    grad_scores = (probabilities * (grad_probabilities - mean) * scale).to(value.dtype)
    tl.store(gradient, tl.dot(grad_scores, key), inside[:, None])
    tl.store(gradient + HEADS * WIDTH, tl.dot(tl.trans(grad_scores), query), inside[:, None])


@triton.jit
def _places(starts, HEADS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr):
    """Which rows of this block hold a token, (ROWS,), and where its numbers lie: (ROWS, WIDTH) in either shape."""
    sequence, head = tl.program_id(0) // HEADS, tl.program_id(0) % HEADS
    first, end = tl.load(starts + sequence), tl.load(starts + sequence + 1)
    rows = tl.arange(0, ROWS)
    tokens = (first + rows).to(tl.int64)[:, None]
    columns = head * WIDTH + tl.arange(0, WIDTH)[None, :]
    return rows < end - first, tokens * 3 * HEADS * WIDTH + columns, tokens * HEADS * WIDTH + columns


@triton.jit
def _operands(query, inside, APART: tl.constexpr):
    """Queries, keys and values, (ROWS, WIDTH) each; 0 in rows without a token."""
    there = inside[:, None]
    return tl.load(query, there, 0.0), tl.load(query + APART, there, 0.0), tl.load(query + 2 * APART, there, 0.0)


@triton.jit
def _powers(query, key, inside, scale):
    """What the probabilities are proportional to, (ROWS, ROWS), and their sums, (ROWS, 1)."""
    scores = tl.dot(query, tl.trans(key)) * (scale * LOG2_E)
    scores = tl.where(inside[None, :], scores, float("-inf"))
    powers = tl.exp2(scores - tl.max(scores, 1)[:, None])
    return powers, tl.sum(powers, 1)[:, None]
