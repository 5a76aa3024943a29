"""Several processes on one run, started by `torchrun`: their ranks, and what they send each other.

Every process (rank) knows the whole step: it builds all micro-batches and computes its own share of them. So the counts
that a loss is divided by need no communication, and the sums are the same whatever the number of ranks. Without
torchrun there is one rank, and nothing is sent.
"""

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

_IN_A_STEP = timedelta(minutes=10)
"""How long a rank waits for the others in the middle of a step: one may compile, or read from a disk that stalls."""

_WHILE_ONE_WORKS = timedelta(days=2)
"""... and while rank 0 prepares text, audits or saves."""

_GRACE = 3.0
"""Seconds that a rank has to end by itself once another one is gone."""

_left = threading.Event()
_store: list[dist.Store] = []
_patient: list[dist.ProcessGroup] = []


def started_by_torchrun() -> bool:
    """Whether this process is a rank of a torchrun."""
    return "TORCHELASTIC_RUN_ID" in os.environ and "RANK" in os.environ


def join() -> None:
    """Join the process group; ranks other than 0 print nothing from then on."""
    if not started_by_torchrun() or dist.is_initialized():
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    store, number, count = next(dist.rendezvous("env://", timeout=_IN_A_STEP))
    # torchrun keeps its store across restarts, with the addresses of the ranks that are gone.
    store = dist.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    dist.init_process_group(backend, store=store, rank=number, world_size=count, timeout=_IN_A_STEP)
    _patient.append(dist.new_group(backend="gloo", timeout=_WHILE_ONE_WORKS))
    _store.append(store)
    watched = threading.Thread(target=_watch, args=(store, _neighbours()), name="watch-ranks", daemon=True)
    watched.start()
    if not is_first():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the process ends


def leave() -> None:
    """Leave the process group once all is done; not after an error, when the others are to end too."""
    if dist.is_initialized():
        _left.set()
        _store[0].set(f"left {rank()}", "")
        _patient.clear()
        dist.destroy_process_group()


def _neighbours() -> dict[int, int]:
    """The processes of the other ranks on this machine, by rank."""
    mine = (rank(), socket.gethostname(), os.getpid())
    return {number: process for number, host, process in gathered([mine]) if host == mine[1] and number != mine[0]}


def _watch(store: dist.Store, neighbours: dict[int, int]) -> None:
    """End this process when a neighbour, or torchrun, has ended before it was done.

    gloo and NCCL mostly, but not always, tell a waiting rank that another one is gone; and while it waits, it handles
    no signals.
    """
    parent = os.getppid()
    while not _left.wait(1.0):
        gone = [number for number, process in neighbours.items() if not _alive(process)]
        orphaned = os.getppid() != parent
        if orphaned or any(not store.check([f"left {number}"]) for number in gone):
            if not _left.wait(_GRACE):
                who = "torchrun" if orphaned else f"rank {gone[0]}"
                print(f"rank {rank()}: {who} has ended, so this rank ends too", file=sys.stderr, flush=True)
                os._exit(1)
            return


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def ranks() -> int:
    """How many there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this is rank 0, which alone writes files and talks to MLflow."""
    return rank() == 0


def is_or_will_be_first() -> bool:
    """Whether this is rank 0, or will be once it has joined the others."""
    return not started_by_torchrun() or os.environ["RANK"] == "0"


def wait() -> None:
    """Wait until all ranks are here, however long one of them takes."""
    if dist.is_initialized():
        dist.barrier(_patient[0])


@contextlib.contextmanager
def first_alone() -> Iterator[None]:
    """Run the block on rank 0 first, then on the others, which find what it left on disk."""
    if not is_first():
        wait()
    yield
    if is_first():
        wait()


def from_first(make: Callable[[], Any]) -> Any:
    """What `make` returns on rank 0, for all ranks; the others do not call it."""
    if not dist.is_initialized():
        return make()
    box = [make() if is_first() else None]
    dist.broadcast_object_list(box, src=0, group=_patient[0])
    return box[0]


def any_of(said: bool) -> bool:
    """Whether it is true on any rank."""
    if not dist.is_initialized():
        return said
    flag = torch.tensor(float(said))
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)


def total(values: dict[str, Tensor | float]) -> dict[str, float]:
    """Each value summed over the ranks; all have the same names."""
    if not dist.is_initialized() or not values:
        return {name: float(value) for name, value in values.items()}
    summed = torch.tensor([float(value) for value in values.values()], dtype=torch.float64)
    dist.all_reduce(summed)
    return dict(zip(values, summed.tolist(), strict=True))


def gathered(mine: list[Any]) -> list[Any]:
    """The lists of all ranks, concatenated."""
    if not dist.is_initialized():
        return mine
    of_each: list[Any] = [None] * ranks()
    dist.all_gather_object(of_each, mine, group=_patient[0])
    return [item for some in of_each for item in some]


def wrap(objective: nn.Module) -> nn.Module:
    """The objective as called in training: wrapped in DistributedDataParallel where there are several ranks."""
    if ranks() == 1:
        return objective
    device = next(objective.parameters()).device
    wait()  # for ranks that had more to do before; what follows has a step's timeout
    return nn.parallel.DistributedDataParallel(objective, device_ids=[device] if device.type == "cuda" else None)


def unwrapped(forward: nn.Module) -> nn.Module:
    """The objective in what `wrap` returned."""
    return forward.module if isinstance(forward, nn.parallel.DistributedDataParallel) else forward
