"""The masked-LM loss, with its gradient in the same pass or without one, on a CPU.

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

_ROWS_JUDGED = 128
"""Rows of logits at a time where nothing is learned: with more, memory grows, and it takes as long."""


def vocabulary_cross_entropy(hidden: Tensor, table: Tensor, bias: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of `hidden @ table.T + bias` against the labels, and how often the label's logit is the highest.

    When training on a CPU (in the types of bert/products.py), the gradient of the logits, softmax minus one-hot,
    overwrites them as soon as they are computed, and all gradients follow from it at once: numbers are written once
    instead of four times, and never more than BLOCK x V of them are kept; without a gradient, fewer. On a GPU it is
    PyTorch's own.

    Args:
        hidden: (M, H).
        table: (V, H).
        bias: (V,).
        labels: (M,), int64; -100 where there is none, which is ignored.

    Returns:
        The sum over the labelled tokens in nats, and a number of tokens.
    """
    if uses_onednn(hidden):
        return (_InPlace.apply if torch.is_grad_enabled() else _judged)(hidden, table, bias, labels)
    logits = F.linear(hidden, table, bias)
    return F.cross_entropy(logits.float(), labels, reduction="sum"), (logits.detach().argmax(-1) == labels).sum()


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
        needs_grad_weights = any(ctx.needs_input_grad[1:])
        hidden, table, bias = in_type_of_products(hidden, table, bias)
        loss, right = torch.zeros(()), labels.new_zeros(())
        grad_hidden, grad_table, grad_bias = torch.empty_like(hidden), None, torch.zeros(len(table))
        blocks = zip(hidden.split(BLOCK), labels.split(BLOCK), grad_hidden.split(BLOCK), strict=True)
        for hidden_block, labels_block, grad_hidden_block in blocks:
            logits = product(hidden_block, table, bias)  # (R, V), and from the next line on their gradient
            block_loss, block_right = _softmax_minus_one_hot(logits, labels_block)
            loss, right = loss + block_loss, right + block_right
            grad_hidden_block.copy_(product(logits, table.T))
            if needs_grad_weights:
                grad_table = summed(grad_table, logits, hidden_block)
                grad_bias += logits.sum(0)
            del logits  # before the next block allocates as much
        ctx.save_for_backward(grad_hidden, *((grad_table, grad_bias) if needs_grad_weights else ()))
        ctx.mark_non_differentiable(right)
        return loss, right

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_loss: Tensor, _):
        grad_hidden, *grad_weights = (gradient * grad_loss for gradient in ctx.saved_tensors)
        return grad_hidden, *(grad_weights or (None, None)), None


def _judged(hidden: Tensor, table: Tensor, bias: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The loss and how many labels lead, a few rows at a time, whose gradient is thrown away."""
    hidden, table, bias = in_type_of_products(hidden, table, bias)
    loss, right = torch.zeros(()), labels.new_zeros(())
    for some, their_labels in zip(hidden.split(_ROWS_JUDGED), labels.split(_ROWS_JUDGED), strict=True):
        their_loss, their_right = _softmax_minus_one_hot(product(some, table, bias), their_labels)
        loss, right = loss + their_loss, right + their_right
    return loss, right


def _softmax_minus_one_hot(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Overwrite the logits with their gradient: (R, V), (R,) -> the loss, and how many labels lead, () each."""
    loss, right = torch.zeros(()), labels.new_zeros(())
    rows = max(1, _NUMBERS_AT_ONCE // logits.shape[1])
    for in_place, labels_block in zip(logits.split(rows), labels.split(rows), strict=True):
        block = in_place.float()  # no copy where it is fp32
        labelled, place = labels_block[:, None] >= 0, labels_block[:, None].clamp(min=0)  # (rows, 1)
        label_logit = block.gather(1, place)  # (rows, 1)
        highest = block.amax(1, keepdim=True)
        leading = (labelled & (label_logit == highest)).nonzero()[:, 0]  # perhaps tied: in bf16 many are equal
        right += (block[leading].argmax(1) == labels_block[leading]).sum()
        torch.softmax(block, 1, out=block)  # in place: PyTorch's CPU kernel is done with a number when it writes it
        log_total = highest - block.amax(1, keepdim=True).log()
        loss += torch.where(labelled, log_total - label_logit, 0.0).sum()
        block.scatter_add_(1, place, -torch.ones_like(label_logit))
        block.index_fill_(0, (labels_block < 0).nonzero()[:, 0], 0)
        in_place.copy_(block)
    return loss, right
