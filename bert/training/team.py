"""Processes that compute a part of each step on a CPU, each with a share of its threads.

Threads wait for each other after every operation, these processes once a step. They are forked from the run, so that
they start within milliseconds and read its weights in place; batches, optimizer, files and signals stay with the run.
Its other threads (MLflow's, the progress bar's) may hold locks when it forks, but none that a helper ever takes.
"""

import contextlib
import ctypes
import itertools
import math
import mmap
import os
import pickle
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection, Pipe
from threading import Thread
from typing import NoReturn

import torch
from torch import Tensor

from bert.errors import UserError
from bert.training.config import TrainingConfig
from bert.training.device import default_processes, give_back_freed_memory
from bert.training.objective import Objective
from bert.training.step import Piece, add_gradient

Gradient = Callable[[Objective, list[Piece], dict[str, float]], dict[str, Tensor]]
"""Adds to an objective's gradient that of some pieces, given the counts of the whole step; returns their sums."""

_PR_SET_PDEATHSIG = 1
"""Linux's prctl.h: a signal that a process gets when the one that forked it ends."""

_ALIGNMENT = 64
"""Bytes: a cache line."""


class Killed(RuntimeError):
    """A helper was killed, by the system or by a person."""


def start(objective: Objective, config: TrainingConfig, device: torch.device) -> "Team | None":
    """The processes of a run, as training.processes says; None if it computes alone.

    Raises:
        UserError: they were asked for, and the objective or the system does not allow them.
    """
    count, asked = default_processes(config, device) - 1, config.processes
    if not count:
        return None
    if objective.compares_sequences:
        return None  # and where processes were asked for, fit has refused them
    if objective.targets is None:
        if asked:
            name = type(objective).__name__
            raise UserError(f"training.processes: {asked}, but {name} does not say how its batches divide (targets).")
        return None
    try:
        return Team(objective, partial(add_gradient, config=config, device=device), count)
    except OSError as error:
        said = f"training.processes: the system does not start another process ({error.strerror})"
        if asked:
            raise UserError(f"{said}; 1 needs none.") from error
        print(f"{said}; the run computes alone.")
        return None


class Team:
    """The processes beside the run's own that compute its steps.

    Args:
        objective: its parameters move to memory that all processes see. From then on their values may change, and
            whether it trains, but nothing else of it.
        gradient: what each process computes of its part.
        count: how many, above 0.

    Raises:
        OSError: the system starts no more processes, or has no memory for them; none is left.

    Attributes:
        threads_each: of each process, and of the run's own, while they compute their parts.
    """

    def __init__(self, objective: Objective, gradient: Gradient, count: int) -> None:
        self.objective, self.gradient = objective, gradient
        self.threads_each = max(1, torch.get_num_threads() // (count + 1))
        every = list(objective.parameters())
        for parameter, shared in zip(every, _shared_like(every), strict=True):
            parameter.data = shared.copy_(parameter.detach())
        self.learning = [parameter for parameter in every if parameter.requires_grad]
        self.helpers: list[_Helper] = []
        give_back_freed_memory()  # the helpers would keep a copy of every page of it that the run uses again
        try:
            for _ in range(count):
                self.helpers.append(_Helper(self, _shared_like(self.learning)))
        except OSError:
            self.end()
            raise

    def add_gradient(self, pieces: list[Piece], counts: dict[str, float]) -> dict[str, Tensor | float]:
        """Add the gradient of some micro-batches to the objective's; returns their sums.

        Raises:
            Killed: one of the processes is gone.
            RuntimeError: one of them failed; the message is its traceback.
        """
        parts = [_divided(piece, len(self.helpers) + 1, self.objective) for piece in pieces]
        for number, helper in enumerate(self.helpers, start=1):
            helper.start([part[number] for part in parts if number < len(part)], counts)
        with _threads(self.threads_each):
            sums = self.gradient(self.objective, [part[0] for part in parts], counts)
        for helper in self.helpers:
            for name, value in helper.finish().items():
                sums[name] = sums[name] + value
        return sums

    def end(self) -> None:
        """End the processes; their part of a step that is under way is lost."""
        for helper in self.helpers:
            helper.end()
        self.helpers.clear()
        for parameter in self.objective.parameters():  # a process forked later is to change its own weights only
            parameter.data = parameter.detach().clone()


class _Helper:
    """One of them, seen from the run.

    Args:
        team: what it belongs to.
        gradients: where it leaves its gradients.
    """

    def __init__(self, team: Team, gradients: list[Tensor]) -> None:
        self.learning, self.gradients = team.learning, gradients
        self.busy = False
        self.connection, its = Pipe()
        self.process = _fork()
        if self.process == 0:
            _stay(partial(self._serve, its, team))
        its.close()

    def start(self, pieces: list[Piece], counts: dict[str, float]) -> None:
        """Hand over its part of a step."""
        self.busy = bool(pieces)
        if pieces:
            sent = [Piece(piece.batch.map(Tensor.numpy), piece.key) for piece in pieces]  # tensors pickle slowly
            with self._in_touch():
                self.connection.send_bytes(pickle.dumps((sent, dict(counts))))

    def finish(self) -> dict[str, float]:
        """Wait for it, and add its gradients to the run's; returns its sums."""
        if not self.busy:
            return {}
        with self._in_touch():
            reply = pickle.loads(self.connection.recv_bytes())
        self.busy = False
        if isinstance(reply, str):
            raise RuntimeError(reply)
        sums, reached = reply
        for parameter in itertools.compress(self.learning, reached):
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        own = [parameter.grad for parameter in itertools.compress(self.learning, reached)]
        if own:
            torch._foreach_add_(own, list(itertools.compress(self.gradients, reached)))
        return sums

    def end(self) -> None:
        """End it at once: it has nothing to lose."""
        self.connection.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.process, 0)

    @contextlib.contextmanager
    def _in_touch(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError) as error:
            raise Killed(f"process {self.process} is gone") from error

    def _serve(self, connection: Connection, team: Team) -> None:
        """In the helper: compute one part after another, until the run closes the connection."""
        for forked_too in (self, *team.helpers):
            forked_too.connection.close()
        torch.set_num_threads(team.threads_each)
        while True:
            pieces, counts = pickle.loads(connection.recv_bytes())
            try:
                reply = self._part(pieces, counts, team)
            except Exception:
                reply = traceback.format_exc()
            connection.send_bytes(pickle.dumps(reply))

    def _part(self, pieces: list[Piece], counts: dict[str, float], team: Team) -> tuple[dict[str, float], list[bool]]:
        """The sums of some pieces, and which parameters have a gradient, which it leaves in the shared memory."""
        team.objective.train()
        pieces = [Piece(piece.batch.map(torch.from_numpy), piece.key) for piece in pieces]
        sums = {name: value.item() for name, value in team.gradient(team.objective, pieces, counts).items()}
        reached = [parameter.grad is not None for parameter in self.learning]
        found = [parameter.grad for parameter in itertools.compress(self.learning, reached)]
        if found:
            torch._foreach_copy_(list(itertools.compress(self.gradients, reached)), found)
        team.objective.zero_grad(set_to_none=True)  # its memory is for the next part
        return sums, reached


def _divided(piece: Piece, parts: int, objective: Objective) -> list[Piece]:
    """A micro-batch in parts of about equal length, the first with its own key; fewer if there are fewer to deal out.

    Sequences come longest first, so they are dealt out there and back, those that belong together to the same part.
    """
    group = torch.arange(piece.batch.num_sequences) // objective.together
    parts = min(parts, int(group[-1]) + 1)
    if parts == 1:
        return [piece]
    place = group % (2 * parts)
    part_of = torch.minimum(place, 2 * parts - 1 - place)
    divided = []
    for part in range(parts):
        batch = piece.batch.take((part_of == part).nonzero().flatten(), objective.targets)
        divided.append(Piece(batch, (*piece.key, part) if part else piece.key))
    return divided


def _shared_like(tensors: list[Tensor]) -> list[Tensor]:
    """Zeros of the same shapes, in memory that a forked process shares.

    Not in /dev/shm, of which a container may have as little as 64 MB.
    """
    sizes = [math.ceil(tensor.nbytes / _ALIGNMENT) * _ALIGNMENT for tensor in tensors]
    memory, offset, shared = mmap.mmap(-1, max(1, sum(sizes))), 0, []
    with contextlib.suppress(OSError):  # a kernel without large pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    for tensor, size in zip(tensors, sizes, strict=True):
        flat = torch.frombuffer(memory, dtype=tensor.dtype, count=tensor.numel(), offset=offset)
        shared.append(flat.view(tensor.shape))
        offset += size
    return shared


@contextlib.contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _fork() -> int:
    """os.fork; the new process gets no signals, which are for the run to handle."""
    before, process = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()), None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns where there are threads: see above
            process = os.fork()
    finally:
        if process != 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process


def _stay(work: Callable[[], None]) -> NoReturn:
    """In a helper: work until the run is gone, and end without any of the run's own clearing up."""

    def quietly() -> None:
        with contextlib.suppress(EOFError, OSError):
            work()

    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # In a thread of its own, since OpenMP's threads, of which the old one knows, were not forked.
        thread = Thread(target=quietly, name="helper")
        thread.start()
        thread.join()
    finally:
        os._exit(0)
