"""Attention on the flat batch itself, for a GPU: PyTorch's flash attention, or kernels for short sequences.

Letters: T tokens in the batch, N sequences, A heads, D width of a head.
"""

import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

from bert.attention.backend import Backend
from bert.config import ModelConfig
from bert.errors import UserError, refuse_if
from bert.packed import PackedBatch

_NAMED = "training.attention: 'varlen'"
_DTYPES = (torch.float16, torch.bfloat16)


class Varlen(Backend):
    """The same as `eager`, in fp16 or bf16: nothing is padded, no row may be spare, and no probabilities are kept.

    Computed by `torch.nn.attention.varlen`, or by bert/attention/one_block.py where that can be used.

    Raises:
        UserError: the batch is not on a GPU, dropout is asked for, or the operands are fp32.
    """

    def __init__(self, batch: PackedBatch) -> None:
        device = batch.token_ids.device
        refuse_if(self.unmet(device))
        from torch.nn.attention.varlen import varlen_attn  # imports the compiler, which takes two seconds

        self.varlen_attn = varlen_attn
        self.starts, self.longest = batch.cu_seqlens, batch.max_seqlen
        self.one_block = one_block_on(device)

    def __call__(self, query_key_value: Tensor, dropout: float = 0.0) -> tuple[Tensor, Tensor | None]:
        """(T, 3, A, D), fp16 or bf16 -> the mixed values, (T, A, D), and None in place of probabilities."""
        if dropout:
            raise UserError(f"{_NAMED} needs attention_probs_dropout_prob=0; this is {dropout}.")
        if query_key_value.is_cuda and query_key_value.dtype not in _DTYPES:
            raise UserError(f"{_NAMED} computes in fp16 or bf16, as under autocast; these are {query_key_value.dtype}.")
        starts, longest = self.starts, self.longest
        if self.one_block is not None and self.one_block.fits(longest, width=query_key_value.shape[-1]):
            return self.one_block.attention_in_one_block(query_key_value, starts, longest), None
        return self.varlen_attn(*query_key_value.unbind(1), starts, starts, longest, longest), None

    @staticmethod
    def unmet(device: torch.device, dtype: torch.dtype = torch.bfloat16, model: ModelConfig | None = None) -> list[str]:
        """Its unmet requirements: a GPU that has the kernel, its dtypes and head widths, and no dropout."""
        dropout = 0.0 if model is None else model.attention_probs_dropout_prob
        faults = []
        if device.type != "cuda" or dropout:
            here = f"{device.type} with {dropout}" if model is not None else device.type
            faults.append(f"{_NAMED} needs a CUDA device and attention_probs_dropout_prob=0; this is {here}.")
        if device.type == "cuda" and dtype not in _DTYPES:
            faults.append(f"{_NAMED} computes in bf16; this is training.precision=fp32.")
        there = device.type == "cuda" and torch.cuda.is_available()
        if there and (capability := torch.cuda.get_device_capability(device)) < (8, 0):
            here = ".".join(map(str, capability))
            faults.append(f"{_NAMED} needs a GPU of compute capability 8.0 (Ampere) or later; this is {here}.")
        width = 8 if model is None else model.hidden_size // model.num_attention_heads
        if width % 8 or width > 256:
            faults.append(f"{_NAMED} needs heads of a width that is a multiple of 8, and at most 256; this is {width}.")
        return faults


@cache
def one_block_on(device: torch.device) -> ModuleType | None:
    """The module of the kernels for short sequences, once they have run there; None where they cannot be used.

    They were written for Hopper, and Triton needs a C compiler. Where it finds none, or is broken, a line says so.
    """
    if (
        device.type != "cuda"
        or torch.version.hip
        or torch.cuda.get_device_capability(device) != (9, 0)
        or not find_spec("triton")
    ):
        return None
    try:
        module = import_module("bert.attention.one_block")
        module.run_once(device)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # Triton's own, or of the compilers and the driver that it calls
        reason = str(error).strip().partition("\n")[0]
        print(f"{_NAMED} falls back on flash attention for short sequences; Triton: {reason}", file=sys.stderr)
        return None
    return module
