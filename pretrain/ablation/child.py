"""A command as a child process: its share of the machine, the lock that it holds, and its output in a file."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import torch


def environment(jobs: int, job: int) -> dict[str, str]:
    """The environment variables of one job's commands: its share of the processors, and its own GPU of several."""
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    there = torch.cuda.device_count()  # CUDA ignores all GPUs named from the first missing one on
    gpus = named[:there] or named or [str(number) for number in range(there)]
    own = {"CUDA_VISIBLE_DEVICES": gpus[job % len(gpus)]} if jobs > 1 and gpus else {}
    threads = str(max(1, _processors() // jobs))  # training.threads, if given, overrides this
    return {"OMP_NUM_THREADS": threads} | os.environ | own


def _processors() -> int:
    """The processors that this process may use: under taskset or Slurm, not all there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(arguments: list[str], log: Path, lock: int, stop_asked: Callable[[], bool], environment: dict[str, str]) -> int:
    """Run a command, its output going to a file; it inherits the lock, and is asked to stop when this process is."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            arguments,
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            pass_fds=(lock,),
            start_new_session=True,
        )
        asked = False
        while process.poll() is None:
            if stop_asked() and not asked:
                process.send_signal(signal.SIGTERM)
                asked = True
            time.sleep(0.1)
    return process.returncode
