"""Where a run came from, for its tags in MLflow."""

import hashlib
import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from bert import hub
from bert.config import ModelConfig
from bert.training import identity
from bert.training.device import describe
from bert.training.ledger import LEDGER


@dataclass(frozen=True)
class UsedDataset:
    """Files that a run reads, or a part of them.

    Attributes:
        name: the files', and which part.
        digest: 16 digits that differ where what is read differs.
        source: the file, or the folder that the files are below.
        context: what it is read for.
        profile: numbers that describe it, by name.
    """

    name: str
    digest: str
    source: str
    context: Literal["training", "evaluation", "validation", "test"]
    profile: dict[str, int]


def tags(stage: Literal["pretrain", "finetune", "ablation"], device: torch.device) -> dict[str, str]:
    """A run's stage, device, PyTorch version and the commit of this code."""
    return {"stage": stage, "device": describe(device), "torch": torch.__version__, "git_commit": git_commit()}


def of_run(
    stage: Literal["pretrain", "finetune"], device: torch.device, facts: dict[str, str], init: str | None
) -> dict[str, str]:
    """`tags`, and what the run depends on.

    Args:
        stage: of the run.
        device: where it computes.
        facts: fingerprints by name; 16 digits of each are enough.
        init: what its weights come from; None where they are random, or from its own checkpoint, so that whatever is
            named now is not where they come from.
    """
    parents = {} if init is None else parent(Path(init))
    return tags(stage, device) | {name: value[:16] for name, value in facts.items()} | parents


INIT_WEIGHTS = "init_weights"
"""The fact of a run that is the fingerprint of the weights it started from."""


def of_init(output: Path, init: str | None) -> dict[str, str]:
    """INIT_WEIGHTS of a run, so that runs of two models are not taken for runs of one; nothing for random weights.

    A run that goes on from a checkpoint keeps the fingerprint it began with, whatever has become of its start since;
    so does one whose start is no folder any more.
    """
    if init is None:
        return {}
    if identity.has_begun(output):
        began = identity.started_with(output, INIT_WEIGHTS)
        if began is None:  # from before this was recorded
            return {}
        if not identity.is_finished(output) or not Path(init).is_dir():
            return {INIT_WEIGHTS: began}
    return {INIT_WEIGHTS: hub.weights_fingerprint(init, "init")}


def model_params(model: nn.Module, config: ModelConfig) -> dict[str, int | float]:
    """A model's sizes as it is built, and how many parameters it has with its heads: for MLflow, as `model.NAME`."""
    return vars(config) | {"parameters": sum(parameter.numel() for parameter in model.parameters())}


def parent(folder: Path) -> dict[str, str]:
    """The run a model came from, wherever in its output folder the model is; only the folder where none is known."""
    for place in (folder, *folder.parents[:2]) if folder.is_dir() else ():
        if (place / LEDGER).is_file():
            ledger = json.loads((place / LEDGER).read_text(encoding="utf-8"))
            known = {} if ledger["run_id"] is None else {"parent_mlflow_run_id": ledger["run_id"]}
            return {"parent": ledger["run"], **known, "parent_folder": str(place)}
    return {"parent_folder": str(folder)}


def fingerprint(parts: Iterable[str]) -> str:
    """SHA-256 of texts, in order."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()


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
