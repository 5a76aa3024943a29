"""Where a run computes, how precisely, and what makes it repeat."""

import contextlib
import hashlib
import platform

import torch

from bert.errors import UserError
from bert.training.config import TrainingConfig


def choose_device(config: TrainingConfig) -> torch.device:
    """The device that was asked for, with threads and determinism set.

    Raises:
        UserError: a GPU was asked for and PyTorch sees none.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "training.device: 'cuda', but PyTorch sees no GPU on this machine; auto or cpu runs without one."
        )
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(config.deterministic)
    on_gpu = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
    if on_gpu:
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.deterministic = config.deterministic
    return torch.device("cuda" if on_gpu else "cpu")


def default_workers(config: TrainingConfig, device: torch.device) -> int:
    """Loader processes: what was asked for, or 2 beside a GPU and none on a CPU."""
    if config.workers is not None:
        return config.workers
    return 2 if device.type == "cuda" else 0


def autocast(config: TrainingConfig, device: torch.device) -> contextlib.AbstractContextManager:
    """The context of every forward pass: bf16 matrix products where asked for, else nothing."""
    bf16 = config.precision == "bf16" or (config.precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, torch.bfloat16) if bf16 else contextlib.nullcontext()


def seed_torch(*key: int) -> None:
    """Seed PyTorch for one place of a run (seed, step, micro-batch), so that dropout there depends on nothing else."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    torch.manual_seed(int.from_bytes(digest, "big") >> 1)


def describe(device: torch.device) -> str:
    """The device in words: the GPU's name, or the processor and its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.machine()}, {torch.get_num_threads()} threads)"
