"""A small run as a process, and what has to be the same at its end whatever happened on the way."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

from tests.pretrain.conftest import made_up_text, write_text

ROOT = Path(__file__).parent.parent.parent
SPEC = {
    "data": {"max_length": 32},
    "tokenizer": {"vocab_size": 300},
    "model": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "audit": {"sequences": 0},
    "tracking": {"uri": "none"},
}
TRAINING = {"steps": 120, "batch_size": 32, "micro_batch_size": 16, "lr": 0.005, "save_every": 10, "eval_every": 40}
TRAINING |= {"log_every": 5, "device": "cpu", "threads": 1}


class Place:
    """A folder with a corpus, and runs beside each other in it."""

    def __init__(self, folder: Path, **training) -> None:
        self.folder, self.training = folder, TRAINING | training
        write_text(folder / "corpus.txt", made_up_text(200))

    def config(self, name: str, **training) -> Path:
        """The configuration file of a run."""
        data = SPEC["data"] | {"train": str(self.folder / "corpus.txt"), "cache": str(self.folder / "cache")}
        spec = SPEC | {"data": data, "training": self.training | training, "output": str(self.folder / name)}
        (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(spec))
        return self.folder / f"{name}.yaml"

    def start(self, name: str, fault: str = "none:die:1", **training) -> subprocess.Popen:
        """The run's process."""
        command = [sys.executable, "-m", "tests.faults.run_with_fault", fault, "--config"]
        command.append(str(self.config(name, **training)))
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, **streams)

    def run(self, name: str, fault: str = "none:die:1", **training) -> tuple[int, str]:
        """The run to its end: exit code and what it said."""
        process = self.start(name, fault, **training)
        said = process.communicate(timeout=120)[0]
        return process.returncode, said

    def wait_for_training(self, name: str, process: subprocess.Popen) -> None:
        """Until the run has logged its first line, or has ended."""
        lines = self.folder / name / "metrics.jsonl"
        while process.poll() is None and not (lines.exists() and lines.stat().st_size):
            time.sleep(0.01)

    def end(self, name: str) -> str:
        """SHA-256 over the last checkpoint (weights, moments, position, budget) and every logged figure but speeds.

        The metrics hold the losses of all steps; two runs that read other samples anywhere have other ones.
        """
        output, digest = self.folder / name, hashlib.sha256()
        newest = sorted((output / "checkpoints").glob("step-*"))[-1]
        for file in (newest / "model.safetensors", newest / "optimizer.safetensors", output / "model.safetensors"):
            digest.update(file.read_bytes())
        state = json.loads((newest / "state.json").read_text())
        state.pop("window")  # holds seconds
        digest.update(json.dumps(state, sort_keys=True).encode())
        for line in (output / "metrics.jsonl").read_text().splitlines():
            described = json.loads(line)
            figures = {n: v for n, v in described["metrics"].items() if not n.startswith("speed/")}
            digest.update(json.dumps([described["step"], figures]).encode())
        return digest.hexdigest()


def kill(process: subprocess.Popen, number: int = signal.SIGKILL) -> None:
    """Send a signal, if there is still somebody to get it."""
    if process.poll() is None:
        process.send_signal(number)
