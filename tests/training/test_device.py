import contextlib
import os

import pytest
import torch

from bert.errors import UserError
from bert.training.config import TrainingConfig
from bert.training.device import autocast, choose_device, default_workers, describe, seed_torch

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def threads_put_back():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_auto_is_the_cpu_where_there_is_no_gpu(no_gpu):
    assert choose_device(TrainingConfig(device="auto")) == CPU


def test_a_gpu_that_is_not_there_is_never_replaced_in_silence(no_gpu):
    with pytest.raises(UserError, match=r"^training\.device: 'cuda', but PyTorch sees no GPU on this machine"):
        choose_device(TrainingConfig(device="cuda"))


def test_threads_and_determinism_are_set_as_asked(no_gpu):
    choose_device(TrainingConfig(device="cpu", threads=2, deterministic=True))
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == (2, True)
    choose_device(TrainingConfig(device="cpu", threads=1))
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == (1, False)
    # Compiled gradients of embeddings would be summed in whatever order the threads come.
    choose_device(TrainingConfig(device="cpu", compile=True, batch_size=None, batch_tokens=2048))
    assert torch.are_deterministic_algorithms_enabled()


def test_determinism_on_a_gpu_gets_the_workspace_that_pytorch_asks_for(no_gpu, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    choose_device(TrainingConfig(device="cpu"))
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    choose_device(TrainingConfig(device="cpu", deterministic=True))
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_a_seed_of_several_numbers_decides_what_is_drawn():
    def drawn(*key: int) -> list[float]:
        seed_torch(*key)
        return torch.rand(4).tolist()

    assert drawn(0, 5, 1) == drawn(0, 5, 1)
    different = [drawn(*key) for key in ((0, 5, 1), (0, 5, 2), (0, 6, 1), (1, 5, 1), (0, 51), (0, 5), (5, 0, 1))]
    assert len({tuple(numbers) for numbers in different}) == 7


@pytest.mark.parametrize(
    ("precision", "where", "half"), [("auto", CPU, False), ("fp32", CPU, False), ("bf16", CPU, True)]
)
def test_precision_decides_the_type_of_a_matrix_product(precision, where, half):
    with autocast(precision, where):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if half else torch.float32)


@pytest.mark.parametrize(
    ("precision", "has", "said"),
    [
        ("bf16", {"avx512_bf16": False, "avx2": True}, True),
        ("bf16", {"avx512_bf16": True, "cpu_name": "AMD EPYC"}, False),
        ("bf16", {"avx512_bf16": True, "cpu_name": "Intel Xeon"}, True),
        ("bf16", {"amx_bf16": True, "cpu_name": "Intel Xeon"}, False),
        ("auto", {}, False),
    ],
)
def test_bf16_on_a_processor_without_it_is_said_to_be_the_slower(precision, has, said, no_gpu, monkeypatch, capsys):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    choose_device(TrainingConfig(precision=precision))
    assert ("fp32 may be faster" in capsys.readouterr().out) == said


def test_auto_is_half_precision_on_a_gpu_alone(monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *arguments: arguments)
    assert autocast("auto", GPU) == ("cuda", torch.bfloat16)
    assert isinstance(autocast("fp32", GPU), contextlib.nullcontext)
    assert isinstance(autocast("auto", CPU), contextlib.nullcontext)


def test_a_gpu_is_fed_by_two_workers_and_a_cpu_by_none():
    assert [default_workers(TrainingConfig(), where) for where in (CPU, GPU)] == [0, 2]
    assert [default_workers(TrainingConfig(workers=n), CPU) for n in (0, 3)] == [0, 3]


def test_the_cpu_is_described_with_its_threads(no_gpu):
    choose_device(TrainingConfig(device="cpu", threads=2))
    assert describe(CPU).startswith("cpu (") and describe(CPU).endswith(", 2 threads)")
