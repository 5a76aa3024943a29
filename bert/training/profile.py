"""What a few steps spend their time on."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from bert.training import distributed

_LEFT_ALONE, _STEPS = 5, 5
"""Steps before the profiled ones, and how many of these."""


@contextlib.contextmanager
def profiled(wanted: bool, output: Path, device: torch.device) -> Iterator[Callable[[], None]]:
    """Profile some steps of this start, if wanted; yields what to call after each step.

    Leaves `profile/trace.json`, which chrome://tracing and Perfetto open, and `profile/operations.txt`, the ten
    costliest operations.
    """
    if not wanted or not distributed.is_first():
        yield lambda: None
        return

    def leave(found: profile) -> None:
        folder = output / "profile"
        folder.mkdir(parents=True, exist_ok=True)
        found.export_chrome_trace(str(folder / "trace.json"))
        by = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
        table = found.key_averages().table(sort_by=by, row_limit=10, max_name_column_width=60)
        (folder / "operations.txt").write_text(table + "\n", encoding="utf-8")
        print(f"{table}\nprofile of {_STEPS} steps: {folder}")

    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    plan = schedule(wait=_LEFT_ALONE - 1, warmup=1, active=_STEPS, repeat=1)
    with profile(activities=activities, schedule=plan, on_trace_ready=leave) as profiler:
        yield profiler.step
