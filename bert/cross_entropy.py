"""The masked-LM loss and its gradient in one pass, on a CPU.

Letters: M masked tokens, H width, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from bert.compiled import CompiledForTraining
from bert.products import BLOCK, in_type_of_products, product, summed, uses_onednn

_NUMBERS_AT_ONCE = 1 << 20
"""Logits turned into their gradient at a time, few enough for the processor's cache."""


def vocabulary_cross_entropy(hidden: Tensor, table: Tensor, bias: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of `hidden @ table.T + bias` against the labels, and how often the label's logit is the highest.

    When training on a CPU (in the types of bert/products.py), the gradient of the logits, softmax minus one-hot,
    overwrites them as soon as they are computed, and all gradients follow from it at once: numbers are written once
    instead of four times, and never more than BLOCK x V of them are kept. Elsewhere it is PyTorch's own.

    Args:
        hidden: (M, H).
        table: (V, H).
        bias: (V,).
        labels: (M,), int64; -100 where there is none, which is ignored.

    Returns:
        The sum over the labelled tokens in nats, and a number of tokens.
    """
    if uses_onednn(hidden) and torch.is_grad_enabled():
        return _InPlace.apply(hidden, table, bias, labels)
    logits = F.linear(hidden, table, bias).float()
    return F.cross_entropy(logits, labels, reduction="sum"), (logits.detach().argmax(-1) == labels).sum()


class VocabularyCrossEntropy(CompiledForTraining):
    """`vocabulary_cross_entropy` as a module, which can be compiled for training.

    Compiled, it makes fewer passes over the logits, the largest tensor of all.
    """

    def forward(self, hidden: Tensor, table: Tensor, bias: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(M, H), (V, H), (V,), (M,) -> (), ()."""
        return vocabulary_cross_entropy(hidden, table, bias, labels)


class _InPlace(torch.autograd.Function):
    """Loss and gradients together, one block of rows at a time.

    The gradients are those for an incoming gradient of 1; the backward pass only scales them. So no block's logits
    outlive it, and the next block finds the memory warm.
    """

    @staticmethod
    def forward(ctx, hidden: Tensor, table: Tensor, bias: Tensor, labels: Tensor):
        learned = any(ctx.needs_input_grad[1:])
        hidden, table, bias = in_type_of_products(hidden, table, bias)
        loss, right = torch.zeros(()), labels.new_zeros(())
        of_hidden, of_table, of_bias = torch.empty_like(hidden), None, torch.zeros(len(table))
        blocks = zip(hidden.split(BLOCK), labels.split(BLOCK), of_hidden.split(BLOCK), strict=True)
        for block, of_block, of_hidden_block in blocks:
            logits = product(block, table, bias)  # (R, V), and from the next line on their gradient
            block_loss, block_right = _softmax_minus_one_hot(logits, of_block)
            loss, right = loss + block_loss, right + block_right
            of_hidden_block.copy_(product(logits, table.T))
            if learned:
                of_table = summed(of_table, logits, block)
                of_bias += logits.sum(0)
            del logits  # before the next block allocates as much
        ctx.save_for_backward(of_hidden, *((of_table, of_bias) if learned else ()))
        ctx.mark_non_differentiable(right)
        return loss, right

    @staticmethod
    @once_differentiable
    def backward(ctx, of_loss: Tensor, _):
        of_hidden, *of_weights = (gradient * of_loss for gradient in ctx.saved_tensors)
        return of_hidden, *(of_weights or (None, None)), None


def _softmax_minus_one_hot(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Overwrite the logits with their gradient: (R, V), (R,) -> the loss, and how many labels lead, () each."""
    loss, right = torch.zeros(()), labels.new_zeros(())
    rows = max(1, _NUMBERS_AT_ONCE // logits.shape[1])
    for in_place, of_block in zip(logits.split(rows), labels.split(rows), strict=True):
        block = in_place.float()  # no copy where it is fp32
        labelled, place = of_block[:, None] >= 0, of_block[:, None].clamp(min=0)  # (rows, 1)
        of_label = block.gather(1, place)  # (rows, 1)
        highest = block.amax(1, keepdim=True)
        leading = (labelled & (of_label == highest)).nonzero()[:, 0]  # perhaps tied: in bf16 many are equal
        right += (block[leading].argmax(1) == of_block[leading]).sum()
        torch.softmax(block, 1, out=block)  # in place: PyTorch's CPU kernel is done with a number when it writes it
        log_total = highest - block.amax(1, keepdim=True).log()
        loss += torch.where(labelled, log_total - of_label, 0.0).sum()
        block.scatter_add_(1, place, -torch.ones_like(of_label)).index_fill_(0, (of_block < 0).nonzero()[:, 0], 0)
        in_place.copy_(block)
    return loss, right
