"""Where a run came from: what its tags in MLflow say."""

import subprocess
from pathlib import Path

import torch

from bert.training.device import describe


def tags(device: torch.device) -> dict[str, str]:
    """Device, PyTorch and the commit of this code."""
    return {"device": describe(device), "torch": torch.__version__, "git_commit": git_commit()}


def git_commit() -> str:
    """The commit of this code, with a mark where files differ from it."""
    here = Path(__file__).parent
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return said.stdout.strip()
