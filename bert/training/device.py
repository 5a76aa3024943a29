"""A run's device, its precision, and its reproducibility."""

import contextlib
import ctypes
import hashlib
import os
import platform
import sys

import torch

from bert.attention import BACKENDS
from bert.config import ModelConfig
from bert.counting import count_of
from bert.errors import UserError, refuse_if
from bert.registry import lookup
from bert.training import distributed
from bert.training.config import TrainingConfig, micro_batches

_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1
"""Constants of glibc's malloc.h."""

_BINDING = {"OMP_PLACES", "GOMP_CPU_AFFINITY"}
"""Variables that bind OpenMP's threads to cores, as OMP_PROC_BIND does."""


def choose_device(config: TrainingConfig) -> torch.device:
    """The device that was asked for, with threads and determinism set; under torchrun, this rank's.

    Raises:
        UserError: a GPU was asked for and PyTorch sees none, or the ranks cannot share a step.
    """
    on_gpu = is_on_gpu(config.device)
    distributed.join()
    _refuse_uneven(config)
    _refuse_processes(config, on_gpu)
    if config.threads:
        torch.set_num_threads(config.threads)
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it PyTorch refuses products on a GPU
        os.environ.setdefault("TORCHINDUCTOR_DETERMINISTIC", "1")  # no kernel is chosen by how fast it was this time
    # A CPU always repeats; compiled, it would sum the embeddings' gradients in whatever order threads arrive.
    repeat = config.deterministic or (config.compile and not on_gpu)
    if repeat != torch.are_deterministic_algorithms_enabled():  # it imports the compiler, which takes 2 s
        torch.use_deterministic_algorithms(repeat)
    if on_gpu:
        torch.backends.cudnn.deterministic = config.deterministic
        torch.set_float32_matmul_precision("highest")  # some images of PyTorch enable TF32 by a variable
        torch.backends.cudnn.allow_tf32 = False  # an LSTM's products; by default PyTorch allows it
    if not on_gpu:
        _keep_freed_memory()
        if config.precision == "bf16" and not _has_bf16():
            print(
                "training.precision: bf16, but this CPU multiplies no faster in it (no AMX); fp32 may be faster on it."
            )
        return torch.device("cpu")
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    if config.precision != "fp32" and not torch.cuda.is_bf16_supported(including_emulation=False):
        print("training.precision: bf16, but this GPU only emulates it; fp32 may be the faster here.")
    return torch.device("cuda", torch.cuda.current_device())


def is_on_gpu(asked: str) -> bool:
    """Whether training.device means a GPU on this machine; sets nothing.

    Raises:
        UserError: a GPU was asked for and PyTorch sees none.
    """
    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise UserError(
            "training.device: 'cuda', but PyTorch sees no GPU on this machine; auto or cpu runs without one."
        )
    return asked == "cuda" or (asked == "auto" and there)


def _has_bf16() -> bool:
    """Whether products in bf16 are faster than in fp32: with AVX512-BF16 alone they are not on Intel's processors."""
    has = torch.cpu.get_capabilities()
    is_intel = has.get("cpu_name", "").startswith("Intel")
    return bool(has.get("amx_bf16") or (has.get("avx512_bf16") and not is_intel))


def _keep_freed_memory() -> None:
    """Make the C library keep the memory that a step frees for the next one (docs/what_paid_off.md).

    glibc would return it, and the system would map and clear every page of it again. Elsewhere nothing changes.
    """
    if sys.platform != "linux" or not hasattr(libc := ctypes.CDLL(None), "mallopt"):
        return
    libc.mallopt(_M_MMAP_THRESHOLD, 256 << 20)  # bytes from which an array has pages of its own
    libc.mallopt(_M_TRIM_THRESHOLD, (2 << 30) - 1)  # free bytes from which they are returned


def give_back_freed_memory() -> None:
    """Return what is free right now to the system, where the C library is glibc."""
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def _refuse_uneven(config: TrainingConfig) -> None:
    """Refuse micro-batches that the ranks cannot share evenly, since some ranks would only wait."""
    pieces, ranks = micro_batches(config), distributed.ranks()
    if pieces % ranks == 0:
        return
    unit, whole = ("size", config.batch_size) if config.batch_tokens is None else ("tokens", config.batch_tokens)
    more = range(pieces + -pieces % ranks, whole + 1, ranks)  # smaller ones, since memory may not hold larger ones
    even = ((parts, -(-whole // parts)) for parts in more)
    none = f"no smaller one helps; give a batch_{unit} that {ranks} divides"
    advice = next((f"{size} makes {parts} of them" for parts, size in even if -(-whole // size) == parts), none)
    cut = count_of(pieces, "micro-batch", "micro-batches")
    raise UserError(
        f"training.micro_batch_{unit}: a step of training.batch_{unit}={whole} is cut into {cut}, "
        f"which {ranks} ranks cannot share evenly; {advice}."
    )


def _refuse_processes(config: TrainingConfig, on_gpu: bool) -> None:
    """Refuse several processes where there can be only one."""
    if (config.processes or 1) == 1:
        return
    faults = {
        "they share a step on a CPU, and this run has a GPU (training.device)": on_gpu,
        "torchrun has started ranks, which do the same": distributed.ranks() > 1,
        "they need Linux": sys.platform != "linux",
        "PyTorch sees a GPU, beside which it cannot fork": torch.accelerator.is_available(),
    }
    refuse_if([f"training.processes: {config.processes}, but {why}." for why, so in faults.items() if so])


def default_processes(config: TrainingConfig, device: torch.device) -> int:
    """Processes of a step: what was asked for, or two where they are possible and have a thread each.

    One where OpenMP binds threads to cores: all processes would inherit the core of the run's first thread.
    """
    possible = device.type == "cpu" and distributed.ranks() == 1 and sys.platform == "linux"
    # Where PyTorch sees a GPU, a backward pass starts threads, after which it refuses to compute in a forked process.
    if not possible or torch.accelerator.is_available() or config.batch_tokens is not None:
        return 1
    bound = os.environ.get("OMP_PROC_BIND", "false").lower() != "false" or os.environ.keys() & _BINDING
    return config.processes or (1 if bound else min(2, torch.get_num_threads()))


def default_workers(config: TrainingConfig, device: torch.device) -> int:
    """Loader processes: what was asked for, or 2 beside a GPU and none on a CPU."""
    if config.workers is not None:
        return config.workers
    return 2 if device.type == "cuda" else 0


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager:
    """The context of every forward pass: bf16 products where `training.precision` asks for them, else nothing."""
    kind = product_type(precision, device)
    return contextlib.nullcontext() if kind is torch.float32 else torch.autocast(device.type, kind)


def product_type(precision: str, device: torch.device) -> torch.dtype:
    """The type that matrix products are computed in, by `training.precision`."""
    bf16 = precision == "bf16" or (precision == "auto" and device.type == "cuda")
    return torch.bfloat16 if bf16 else torch.float32


def refuse_unfit_attention(config: TrainingConfig, device: torch.device, model: ModelConfig) -> None:
    """Check, before anything is prepared, that the requested attention runs on this device, with this model.

    Raises:
        UserError: it does not; the message gives every reason.
    """
    backend = lookup(BACKENDS, config.attention, "training.attention")
    refuse_if(backend.unmet(device, product_type(config.precision, device), model))


def seed_torch(*key: int) -> None:
    """Seed PyTorch for one point of a run (seed, step, micro-batch), so that dropout there depends on nothing else."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    torch.manual_seed(int.from_bytes(digest, "big") >> 1)


def describe(device: torch.device) -> str:
    """The device in words: the GPU's name, or the processor and its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.machine()}, {count_of(torch.get_num_threads(), 'thread')})"
