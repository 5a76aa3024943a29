"""Processes that share a step: the same gradient as alone, the same batches, and an end with the run."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bert.errors import UserError
from bert.training import device, distributed, team
from bert.training.config import TrainingConfig, check
from bert.training.goal import Goal
from bert.training.loop import fit
from bert.training.step import Piece, add_gradient, refuse_division, training_step
from tests.training.conftest import Log, Toy, ToyData, batch_of

CPU = torch.device("cpu")
SEQUENCES = ([1, 2, 3, 4, 5], [6, 7, 8, 9], [0, 1, 2], [3, 4, 5], [6])
ALONE = TrainingConfig(steps=12, batch_size=4, micro_batch_size=2, lr=0.05, log_every=4, eval_every=12, processes=1)

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="needs Linux"),
    pytest.mark.skipif(torch.accelerator.is_available(), reason="needs a machine without a GPU"),
]


class Shared(Toy):
    """A toy whose batches may be divided."""

    targets: ClassVar = {}


@pytest.fixture
def begin():
    """Helpers of an objective, which are ended."""
    begun = []

    def make(objective, count: int, config: TrainingConfig = ALONE):
        def gradient(objective, pieces, counts):
            return add_gradient(objective, pieces, counts, config, CPU)

        begun.append(team.Team(objective, gradient, count))
        return begun[-1]

    yield make
    for some in begun:
        some.end()


def one_step(objective, some, batches=None):
    """The gradient's effect on every parameter by plain descent, and what the step says of itself."""
    optimizer = torch.optim.SGD(objective.parameters(), lr=1.0, fused=True)
    batches = batches or [batch_of(*SEQUENCES), batch_of(*SEQUENCES[1:3])]
    before = [parameter.detach().clone() for parameter in objective.parameters()]
    did = training_step(objective, batches, optimizer, ALONE, 0, CPU, some)
    return [a - b for a, b in zip(objective.parameters(), before, strict=True)], did


@pytest.mark.parametrize("count", [1, 2, 4, 9])
def test_any_number_of_processes_gives_the_gradient_and_the_sums_of_one(begin, count):
    expected, alone = one_step(Shared(), None)
    shared = Shared()
    found, did = one_step(shared, begin(shared, count))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(did.norm, alone.norm)
    assert {name: float(value) for name, value in did.sums.items()} == pytest.approx(
        {name: float(value) for name, value in alone.sums.items()}
    )
    assert did.counts == alone.counts


def test_a_step_of_the_helpers_sees_the_weights_of_the_step_before(begin):
    alone, shared = Shared(), Shared()
    some = begin(shared, 1)
    for _ in range(3):
        one_step(alone, None)
        one_step(shared, some)
    for a, b in zip(shared.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_what_has_no_gradient_in_any_process_stays_without_one(begin):
    class Partly(Shared):
        def __init__(self) -> None:
            super().__init__()
            self.unused, self.frozen = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
            self.frozen.requires_grad_(False)

    objective = Partly()
    some = begin(objective, 1)
    sums = some.add_gradient([Piece(batch_of(*SEQUENCES), (0,))], {"token_loss": 16, "large": 16, "sequence_loss": 5})
    assert float(sums["large"]) == float(int(sums["large"])) and objective.bias.grad is not None
    assert objective.unused.grad is None and objective.frozen.grad is None


def test_what_only_a_helper_reaches_has_its_gradient(begin):
    class Picky(Shared):
        def __init__(self) -> None:
            super().__init__()
            self.rare = torch.nn.Parameter(torch.ones(()))

        def forward(self, batch):
            found = super().forward(batch)
            if int(batch.token_ids[0]) == 6:
                found["token_loss"] = found["token_loss"] + 3 * self.rare
            return found

    objective = Picky()
    counts = {"token_loss": 2, "large": 2, "sequence_loss": 2}
    begin(objective, 1).add_gradient([Piece(batch_of([1, 1], [6, 6]), (0,))], counts)
    assert float(objective.rare.grad) == 1.5


def test_each_process_draws_its_own_dropout_and_draws_it_again(begin):
    batch = batch_of([1, 2, 3, 4], [1, 2, 3, 4])
    gradients = []
    for _ in range(2):
        objective = Shared(dropout=0.5)
        begin(objective, 1).add_gradient([Piece(batch, (7,))], {"token_loss": 1, "large": 1, "sequence_loss": 1})
        gradients.append(objective.table.grad.clone())
    assert torch.equal(*gradients)
    drawn_alike = Shared(dropout=0.5)
    first = Piece(batch_of([1, 2, 3, 4]), (7,))
    add_gradient(drawn_alike, [first, first], {"token_loss": 1, "large": 1, "sequence_loss": 1}, ALONE, CPU)
    assert not torch.allclose(drawn_alike.table.grad, gradients[0])


def test_a_pair_that_is_two_sequences_is_learned_by_any_number_of_processes_as_by_one(begin):
    class Pairs(Shared):
        """Adds how far a pair's first tokens are from each other."""

        together: ClassVar = 2

        def forward(self, batch):
            firsts = torch.nn.functional.embedding(batch.token_ids[batch.cu_seqlens[:-1].long()], self.table)
            found = super().forward(batch)
            return found | {"sequence_loss": (firsts[::2] - firsts[1::2]).square().sum()}

    batches = [batch_of([1, 2, 3, 4], [5, 6], [7, 8, 9], [0], [3, 4], [6])]
    expected, _ = one_step(Pairs(), None, batches)
    shared = Pairs()
    found, _ = one_step(shared, begin(shared, 3), batches)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_sequences_that_belong_together_go_to_one_part():
    class Pairs(Shared):
        together: ClassVar = 2

    batch = batch_of(*([number] for number in range(10)))
    divided = team._divided(Piece(batch, ()), 2, Pairs())
    #                     there:  0 1    back:        6 7    and there again: 8 9
    assert [piece.batch.token_ids.tolist() for piece in divided] == [[0, 1, 6, 7, 8, 9], [2, 3, 4, 5]]
    assert len(team._divided(Piece(batch_of([1], [2]), ()), 2, Pairs())) == 1


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=24), st.integers(1, 6))
def test_parts_have_each_sequence_once_and_about_equally_many_tokens(lengths, parts):
    lengths = sorted(lengths, reverse=True)
    batch = batch_of(*([number] * length for number, length in enumerate(lengths)))
    divided = team._divided(Piece(batch, (3, 1)), parts, Shared())
    assert len(divided) == min(parts, len(lengths))
    assert sorted(number for piece in divided for number in piece.batch.token_ids.tolist()) == batch.token_ids.tolist()
    tokens = [piece.batch.num_tokens for piece in divided]
    assert max(tokens) - min(tokens) <= max(lengths)
    assert [piece.key for piece in divided] == [(3, 1), *((3, 1, part) for part in range(1, len(divided)))]
    for piece in divided:
        assert piece.batch.cu_seqlens.diff().tolist() == sorted(piece.batch.cu_seqlens.diff().tolist(), reverse=True)


def test_several_threads_in_each_of_several_processes(begin):
    torch.ones(300, 300) @ torch.ones(300, 300)  # the run's own threads are there before the fork
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        objective = Shared()
        some = begin(objective, 1)
        assert some.threads_each == 2
        long = batch_of(*([1] * 40_000 for _ in range(4)))  # enough for PyTorch to use them
        one_step(objective, some, [long])
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def run(objective, output: Path, config: TrainingConfig, disturb=lambda number: None) -> dict[str, float]:
    class Data(ToyData):
        def __call__(self, position):
            for number, item in enumerate(super().__call__(position)):
                disturb(number)
                yield item

    goal = Goal("valid/x", higher_is_better=False, root="last")
    return fit(objective, Data(4), lambda: {"valid/x": 0.0}, config, goal, output, Log())


def two(**changes) -> TrainingConfig:
    return TrainingConfig(**vars(ALONE) | {"processes": 2, "save_every": 4} | changes)


def test_a_run_of_two_processes_learns_what_one_does_and_leaves_none_behind(tmp_path):
    alone, shared, before = Shared(), Shared(), children()
    run(alone, tmp_path / "alone", ALONE)
    run(shared, tmp_path / "shared", two())
    for a, b in zip(shared.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert children() <= before


def test_a_run_that_is_resumed_ends_as_one_that_was_not(tmp_path):
    def crash(number: int) -> None:
        if number == 15:
            raise ZeroDivisionError

    whole, half, again = Shared(0.3), Shared(0.3), Shared(0.3)
    run(whole, tmp_path / "whole", two())
    with pytest.raises(ZeroDivisionError):
        run(half, tmp_path / "half", two(), crash)
    run(again, tmp_path / "half", two())
    for a, b in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_objective_that_says_nothing_of_its_targets_computes_alone(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert team.start(Toy(), two(processes=None), CPU) is None
    with pytest.raises(UserError, match=r"training.processes: 2, but Toy does not say how its batches divide"):
        team.start(Toy(), two(), CPU)
    some = team.start(Shared(), two(), CPU)
    assert len(some.helpers) == 1
    some.end()


def test_a_step_whose_sequences_are_compared_is_computed_whole_or_refused(monkeypatch, tmp_path):
    class Contrastive(Shared):
        compares_sequences = True

    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    whole = TrainingConfig(**vars(ALONE) | {"micro_batch_size": None, "processes": None})
    assert team.start(Contrastive(), whole, CPU) is None
    run(Contrastive(), tmp_path / "whole", whole)
    why = "but the loss of Contrastive compares the sequences of a whole one, and would be another."
    with pytest.raises(UserError) as refused:
        run(Contrastive(), tmp_path / "divided", two())
    assert refused.value.messages == (
        f"training.micro_batch_size: 2 divides a step into 2, {why}",
        f"training.processes: 2 divide a step, {why}",
    )
    monkeypatch.setattr(distributed, "ranks", lambda: 2)
    with pytest.raises(UserError) as refused:
        refuse_division(Contrastive(), whole)
    assert refused.value.messages == (f"torchrun: 2 ranks divide a step, {why}",)
    tokens = replace(whole, batch_size=None, batch_tokens=512, micro_batch_tokens=256)
    with pytest.raises(UserError, match=r"training.micro_batch_tokens: 256 divides a step into 2, but"):
        refuse_division(Contrastive(), tokens)
    refuse_division(Shared(), two())


@pytest.mark.parametrize(
    ("threads", "options", "processes"),
    [
        (1, {}, 1),
        (2, {}, 2),
        (16, {}, 2),
        (16, {"processes": 8}, 8),
        (2, {"processes": 1}, 1),
        (8, {"batch_size": None, "batch_tokens": 512}, 1),
    ],
)
def test_two_processes_by_default_where_each_has_a_thread(threads, options, processes, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    config = TrainingConfig(**{"steps": 1} | options)
    assert device.default_processes(config, CPU) == processes
    assert device.default_processes(config, torch.device("cuda")) == 1


@pytest.mark.parametrize("name", ["OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY"])
def test_threads_that_are_bound_to_cores_compute_alone_unless_processes_are_asked_for(name, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setenv(name, "true")
    assert device.default_processes(TrainingConfig(steps=1), CPU) == 1
    assert device.default_processes(TrainingConfig(steps=1, processes=2), CPU) == 2


def test_beside_a_gpu_a_cpu_run_computes_alone(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    config = TrainingConfig(steps=1, device="cpu")
    assert device.default_processes(config, CPU) == 1
    with pytest.raises(UserError, match=r"training.processes: 2, but PyTorch sees a GPU, beside which it cannot fork"):
        device.choose_device(TrainingConfig(**vars(config) | {"processes": 2}))


def test_a_system_that_starts_no_further_process_has_the_run_compute_alone(monkeypatch, capsys):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    fork, before, mask = os.fork, children(), signal.pthread_sigmask(signal.SIG_BLOCK, [])
    calls = []

    def only_one() -> int:
        calls.append(1)
        if len(calls) % 2 == 0:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return fork()

    monkeypatch.setattr(os, "fork", only_one)
    with pytest.raises(UserError, match=r"training.processes: .* \(Resource temporarily unavailable\); 1 needs"):
        team.start(Shared(), two(processes=3), CPU)
    calls[:] = [1]
    assert team.start(Shared(), two(processes=None), CPU) is None
    assert "the run computes alone" in capsys.readouterr().out
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask and children() <= before


def test_after_a_run_a_forked_process_changes_its_own_weights_only(begin):
    objective = Shared()
    begin(objective, 1).end()
    before = objective.table.detach().clone()
    process = team._fork()
    if process == 0:
        objective.table.data.zero_()
        os._exit(0)
    os.waitpid(process, 0)
    assert torch.equal(objective.table, before)


def test_ranks_share_a_step_by_themselves(monkeypatch):
    monkeypatch.setattr(distributed, "ranks", lambda: 2)
    config = TrainingConfig(steps=1, batch_size=4, micro_batch_size=2, device="cpu")
    assert device.default_processes(config, CPU) == 1
    with pytest.raises(UserError, match=r"training.processes: 2, but torchrun has started ranks, which do the same"):
        device.choose_device(TrainingConfig(**vars(config) | {"processes": 2}))


def test_one_shape_stays_whole():
    config = TrainingConfig(steps=1, batch_size=None, batch_tokens=512, processes=2)
    assert [fault.split(";")[0] for fault in check(config)] == [
        "training.processes: 2, but with training.batch_tokens each micro-batch has one shape and stays whole"
    ]


def test_a_helper_that_is_killed_ends_the_run_with_advice(tmp_path):
    before = children()

    def kill(number: int) -> None:
        if number == 13:
            (helper,) = children() - before
            os.kill(helper, signal.SIGKILL)

    with pytest.raises(
        UserError, match=r"training.processes: process \d+ is gone; .* lack of memory. The same command"
    ):
        run(Shared(), tmp_path, two(), kill)
    run(Shared(), tmp_path, two())


def children() -> set[int]:
    """The processes that this one has started and not yet taken leave of."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):  # it has ended
            if f"\nPPid:\t{os.getpid()}\n" in status.read_text():
                found.add(int(status.parent.name))
    return found


def test_an_error_in_a_helper_is_the_run_s_with_its_traceback(begin):
    class Faulty(Shared):
        def forward(self, batch):
            if int(batch.token_ids[0]) == 6:
                raise ValueError("what is this")
            return super().forward(batch)

    objective = Faulty()
    some = begin(objective, 1)
    with pytest.raises(RuntimeError, match=r"(?s)Traceback .* in forward.*ValueError: what is this"):
        one_step(objective, some, [batch_of([1], [6])])
    one_step(objective, some, [batch_of([1], [2])])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_helpers_ignore_what_asks_the_run_to_stop(begin, number):
    objective = Shared()
    some = begin(objective, 1)
    os.kill(some.helpers[0].process, number)
    one_step(objective, some)


def test_helpers_end_with_a_run_that_is_killed(tmp_path):
    script = """
import json, sys, torch
from bert.training import team
from tests.training.test_team import Shared
some = team.Team(Shared(), None, 3)
print(json.dumps([helper.process for helper in some.helpers]), flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        forked = json.loads(process.stdout.readline())
        assert len(forked) == 3 and all(Path(f"/proc/{number}").exists() for number in forked)
        process.kill()
        deadline = time.monotonic() + 20
        while any(alive(number) for number in forked) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not any(alive(number) for number in forked)


def alive(process: int) -> bool:
    """Whether a process runs; one that has ended may still be listed until its new parent takes note."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
