"""The feed-forward half of a layer, and how a CPU computes it in blocks of rows.

Letters: T tokens in the batch, H width, I intermediate width, R rows of a block.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bert.config import ModelConfig
from bert.gelu import gelu
from bert.products import BLOCK, in_type_of_products, product, summed, uses_onednn


class FeedForward(nn.Module):
    """Two linear layers with an exact GELU between them (Hendrycks and Gimpel 2016); compiled, exact to 4e-7."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.intermediate = nn.Linear(config.hidden_size, config.intermediate_size)
        self.output = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """(T, H) -> (T, H)."""
        if torch.compiler.is_compiling():
            return self.output(gelu(self.intermediate(hidden)))
        if not uses_onednn(hidden):
            return self.output(F.gelu(self.intermediate(hidden)))
        first, second = self.intermediate, self.output
        return _InBlocks.apply(hidden, first.weight, first.bias, second.weight, second.bias)


class _InBlocks(torch.autograd.Function):
    """Both products and the GELU between them, one block of rows at a time.

    What lies between the products leaves the processor's cache only once, and all blocks but the last have one shape,
    for which `product` is fast.
    """

    @staticmethod
    def forward(ctx, hidden: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor) -> Tensor:
        hidden, up, up_bias, down, down_bias = in_type_of_products(hidden, up, up_bias, down, down_bias)
        out, inputs, outputs = hidden.new_empty(len(hidden), len(down)), [], []
        for hidden_block, out_block in zip(hidden.split(BLOCK), out.split(BLOCK), strict=True):
            inputs.append(product(hidden_block, up, up_bias))  # (R, I)
            outputs.append(F.gelu(inputs[-1]))
            out_block.copy_(product(outputs[-1], down, down_bias))
        ctx.save_for_backward(hidden, up, down, *inputs, *outputs)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out: Tensor):
        hidden, up, down, *kept = ctx.saved_tensors
        needs_grad_weights = any(ctx.needs_input_grad[1:])
        grad_hidden = torch.empty_like(hidden)
        grad_up = grad_down = None
        grad_up_bias, grad_down_bias = torch.zeros(len(up)), grad_out.sum(0)
        halves = kept[: len(kept) // 2], kept[len(kept) // 2 :]
        parts = zip(hidden.split(BLOCK), grad_out.split(BLOCK), grad_hidden.split(BLOCK), *halves, strict=True)
        for hidden_block, grad_out_block, grad_hidden_block, gelu_in, gelu_out in parts:
            grad_gelu_in = torch.ops.aten.gelu_backward(product(grad_out_block, down.T), gelu_in)  # (R, I)
            grad_hidden_block.copy_(product(grad_gelu_in, up.T))
            if needs_grad_weights:
                grad_down = summed(grad_down, grad_out_block, gelu_out)
                grad_up = summed(grad_up, grad_gelu_in, hidden_block)
                grad_up_bias += grad_gelu_in.sum(0)
        grad_weights = (grad_up, grad_up_bias, grad_down, grad_down_bias) if needs_grad_weights else [None] * 4
        return grad_hidden, *grad_weights
