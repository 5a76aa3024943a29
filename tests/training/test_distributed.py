"""Several ranks, as torchrun starts them: the same run, and an end for all when one of them ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from bert.errors import UserError
from bert.training import device, distributed
from bert.training.config import TrainingConfig
from tests.pretrain.conftest import made_up_text, write_text

ROOT = Path(__file__).parent.parent.parent
SPEC = {
    "data": {"max_length": 32},
    "tokenizer": {"vocab_size": 300},
    "model": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32},
    "audit": {"sequences": 0},
    "tracking": {"uri": "none"},
}
TRAINING = {"steps": 12, "batch_size": 16, "micro_batch_size": 4, "lr": 0.01, "save_every": 4, "log_every": 1}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a corpus in it."""
    folder = tmp_path_factory.mktemp("ranks")
    write_text(folder / "corpus.txt", made_up_text())
    return folder


def configured(place: Path, name: str, model: dict | None = None, **training) -> Path:
    """A configuration file of a run without dropout."""
    spec = SPEC | {"data": SPEC["data"] | {"train": str(place / "corpus.txt"), "cache": str(place / "cache")}}
    spec |= {"model": SPEC["model"] | {"hidden_dropout_prob": 0.0} | (model or {}), "output": str(place / name)}
    spec |= {"training": TRAINING | {"eval_every": 6, "device": "cpu", "threads": 1} | training}
    (place / f"{name}.yaml").write_text(yaml.safe_dump(spec))
    return place / f"{name}.yaml"


def plain(config: Path) -> list[str]:
    """The command of a run without torchrun."""
    return [sys.executable, str(ROOT / "run.py"), "pretrain", "--config", str(config)]


def torchrun(ranks: int, config: Path, *options: str) -> subprocess.Popen:
    """The ranks of a run, all in a process group of their own."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}", *options]
    command += plain(config)[1:]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=environment, start_new_session=True, cwd=config.parent, **streams)


def finish(process: subprocess.Popen, seconds: float = 120) -> str:
    """What it said, once it has ended."""
    try:
        return process.communicate(timeout=seconds)[0]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def losses(output: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["metrics"]["train/loss"] for line in lines if "train/loss" in line["metrics"]}


def steps_of(output: Path) -> int:
    """How far its newest checkpoint is."""
    return max((int(folder.name[-8:]) for folder in (output / "checkpoints").glob("step-????????")), default=0)


def cut(output: Path, step: int) -> None:
    """Leave a finished run as if it had ended there."""
    for folder in (output / "checkpoints").iterdir():
        if int(folder.name[-8:]) > step:
            shutil.rmtree(folder)
    (output / "metrics.json").unlink()


def wait_for_checkpoint(output: Path, process: subprocess.Popen) -> None:
    """Until one is saved."""
    while process.poll() is None and not list((output / "checkpoints").glob("step-*")):
        time.sleep(0.02)
    assert process.poll() is None, finish(process)


def children(process: subprocess.Popen) -> list[int]:
    """The ranks' process ids."""
    return [int(n) for n in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


@pytest.fixture(scope="module")
def one(place) -> Path:
    """The run on one rank, without torchrun."""
    subprocess.run(plain(configured(place, "one", keep_checkpoints=9)), check=True, cwd=place)
    return place / "one"


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_change_neither_losses_nor_figures(ranks, place, one):
    process = torchrun(ranks, configured(place, f"ranks_{ranks}"))
    said = finish(process)
    assert process.returncode == 0, said
    assert said.count("step 6 (50%)") == said.count("model: ") == 1  # rank 0 alone speaks
    of_one, of_many = losses(one), losses(place / f"ranks_{ranks}")
    assert of_many.keys() == of_one.keys()
    assert max(abs(of_many[step] / of_one[step] - 1) for step in of_one) < 1e-5
    figures = [json.loads((folder / "metrics.json").read_text()) for folder in (one, place / f"ranks_{ranks}")]
    assert figures[1] == pytest.approx(figures[0], rel=1e-5)
    weights = [load_file(folder / "model.safetensors") for folder in (one, place / f"ranks_{ranks}")]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=1e-4, rtol=1e-3)


def test_what_one_rank_left_two_take_up_and_leave_to_one(place, one):
    config, output = configured(place, "moved", keep_checkpoints=9), place / "moved"
    shutil.copytree(one, output)
    cut(output, 4)
    process = torchrun(2, config)
    said = finish(process)
    assert process.returncode == 0 and "resuming from" in said, said
    cut(output, 8)
    done = subprocess.run(plain(config), capture_output=True, text=True)
    assert done.returncode == 0 and "resuming from" in done.stdout + done.stderr
    of_one, of_many = losses(one), losses(output)
    assert max(abs(of_many[step] / of_one[step] - 1) for step in of_one) < 1e-5


def test_a_killed_rank_ends_them_all_and_a_restart_goes_on_by_itself(place):
    process = torchrun(2, configured(place, "killed", steps=9000, save_every=5, eval_every=9000), "--max-restarts=1")
    wait_for_checkpoint(place / "killed", process)
    first = children(process)
    os.kill(first[1], signal.SIGKILL)
    left = steps_of(place / "killed")
    while process.poll() is None and steps_of(place / "killed") < left + 50:
        time.sleep(0.02)
    second = children(process)
    assert len(second) == 2 and not set(first) & set(second)
    os.kill(second[1], signal.SIGKILL)
    began = time.monotonic()
    said = finish(process, 30)
    assert process.returncode != 0 and time.monotonic() - began < 10
    assert said.count("resuming from") == 1


def test_a_stop_that_is_asked_for_is_saved_marked_and_not_started_again(place):
    config = configured(place, "stopped", steps=9000, save_every=9000, eval_every=9000)
    process = torchrun(2, config, "--max-restarts=1")
    lines = place / "stopped" / "metrics.jsonl"
    while process.poll() is None and not (lines.exists() and lines.stat().st_size):
        time.sleep(0.02)
    for child in children(process):
        os.kill(child, signal.SIGTERM)
    said = finish(process, 60)
    assert process.returncode == 0, said
    assert "resuming" not in said
    assert (place / "stopped" / "stopped").read_text().startswith("asked to stop at step")
    assert len(list((place / "stopped" / "checkpoints").iterdir())) == 1


def of_ranks(number: int, folder: Path, program: str) -> list[dict]:
    """What each of so many ranks that run this program leaves in RANK.json."""
    (folder / "program.py").write_text(program)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc_per_node={number}",
        "program.py",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(number)]


def test_every_rank_has_the_means_and_the_rows_of_all_batches_in_their_order(tmp_path):
    first, second = of_ranks(2, tmp_path, _RANKS_SHARE_AN_EVALUATION)
    # Batches 0 and 2 are rank 0's, 1 is rank 1's.
    assert first == second == {"means": {"mean_id": 21 / 5, "mean_length": 5 / 4}, "ids": [1, 5, 6, 7, 2]}


_RANKS_SHARE_AN_EVALUATION = """
import contextlib, json
from pathlib import Path
import torch
from bert.training import distributed
from bert.training.evaluation import evaluate
from tests.training.conftest import batch_of
from tests.training.test_evaluation import Lengths

distributed.join()
batches = [batch_of([1]), batch_of([5, 6], [7]), batch_of([2])]
means, rows = evaluate(Lengths(), batches, torch.device("cpu"), contextlib.nullcontext())
Path(f"{distributed.rank()}.json").write_text(json.dumps({"means": means, "ids": [row["id"] for row in rows]}))
distributed.leave()
"""


def test_a_gradient_that_is_no_number_on_one_rank_is_skipped_on_all(tmp_path):
    first, second = of_ranks(2, tmp_path, _ONE_RANK_FAILS)
    assert first == second == {"skipped": [0.0, 1.0, 0.0], "unchanged": [False, True, False]}


_ONE_RANK_FAILS = """
import json, math
from pathlib import Path
import torch
from bert.training import distributed
from bert.training.config import TrainingConfig
from bert.training.step import training_step
from bert.training.optim import build_optimizer
from tests.training.conftest import Toy, batch_of

class Faulty(Toy):
    def forward(self, batch):
        found = super().forward(batch)
        if int(batch.token_ids[0]) == 9:
            found["token_loss"] = found["token_loss"] * math.nan
        return found

distributed.join()
objective, config = Faulty(), TrainingConfig(steps=3, lr=0.1)
optimizer, forward = build_optimizer(objective, config), distributed.wrap(objective)
skipped, unchanged = [], []
for step, first in enumerate([1, 9, 2]):
    before = objective.table.detach().clone()
    batches = [batch_of([1, 2]), batch_of([first, 3])]  # the second is rank 1's
    did = training_step(forward, batches, optimizer, config, step, torch.device("cpu"))
    skipped.append(float(did.skipped))
    unchanged.append(torch.equal(before, objective.table))
Path(f"{distributed.rank()}.json").write_text(json.dumps({"skipped": skipped, "unchanged": unchanged}))
distributed.leave()
"""


def test_a_checkpoint_may_take_longer_to_load_on_one_rank_than_a_step_may(tmp_path):
    # The last of four: of two, rank 0 would wait for the other one where it tells it which checkpoint is the newest.
    assert of_ranks(4, tmp_path, _ONE_RANK_LOADS_SLOWLY) == 4 * [{"steps": 4}]


_ONE_RANK_LOADS_SLOWLY = """
import json, time
from datetime import timedelta
from pathlib import Path
from torch.distributed.distributed_c10d import _set_pg_timeout
from bert.training import checkpoint, distributed
from tests.training.test_loop import config_of, run

restore = checkpoint.restore

def slowly(*given):
    time.sleep(12 * (distributed.rank() == 3))
    return restore(*given)

checkpoint.restore = slowly
distributed.join()
_set_pg_timeout(timedelta(seconds=8))
run(Path("run"), config_of(steps=2, micro_batch_size=1))
found = run(Path("run"), config_of(steps=4, micro_batch_size=1))
Path(f"{distributed.rank()}.json").write_text(json.dumps({"steps": found["steps"]}))
distributed.leave()
"""


@pytest.mark.parametrize(
    ("ranks", "step", "said"),
    [
        (4, {"batch_size": 64, "micro_batch_size": 32}, "into 2 micro-batches, which 4 ranks .* evenly; 16 makes 4 of"),
        (8, {"batch_size": 100}, "micro_batch_size: .* into 1 micro-batch, .* evenly; 13 makes 8 of them"),
        (2, {"batch_size": 12, "micro_batch_size": 4}, "into 3 micro-batches, .* evenly; 3 makes 4 of them"),
        (4, {"batch_size": 10, "micro_batch_size": 2}, "into 5 micro-batches, .* evenly; no smaller one helps; give"),
        (8, {"batch_size": 9}, "which 8 ranks cannot .*; no smaller one helps; give a batch_size that 8 divides"),
        (8, {"batch_tokens": 4096, "micro_batch_tokens": 1024}, "micro_batch_tokens: .* evenly; 512 makes 8 of them"),
    ],
)
def test_a_step_that_ranks_cannot_share_is_refused_with_what_would_do(ranks, step, said, monkeypatch):
    monkeypatch.setattr(distributed, "ranks", lambda: ranks)
    config = TrainingConfig(**{"steps": 1, "device": "cpu"} | step)
    with pytest.raises(UserError, match=said):
        device.choose_device(config)


def test_alone_nothing_is_sent():
    assert (distributed.rank(), distributed.ranks(), distributed.is_first()) == (0, 1, True)
    assert distributed.total({"a": torch.tensor(2.0), "b": 1}) == {"a": 2.0, "b": 1.0}
    assert distributed.gathered([1, 2]) == [1, 2] and distributed.any_of(True) and not distributed.any_of(False)
    assert distributed.from_first(lambda: "made") == "made"
    with distributed.first_alone():
        distributed.wait()
    module = torch.nn.Linear(1, 1)
    assert distributed.wrap(module) is module
