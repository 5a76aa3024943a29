"""A grid small enough to run in tests, and cells written by hand."""

import json
from pathlib import Path

import pytest

from bert.training.tracking import TrackingConfig
from pretrain.ablation.cell_runs import CellRun, cell_folder
from pretrain.ablation.grid import AblateConfig, FinetuneTask, cells
from pretrain.validation import JUDGED_ON

AXES = {"sentence.objective": ["nsp", "none"], "masking.strategy": ["token", "span"]}
BASELINE = {"sentence.objective": "nsp", "masking.strategy": "token"}


@pytest.fixture
def make_grid(tmp_path):
    """A grid of two axes of two values, with two seeds."""

    def make(**changes) -> AblateConfig:
        settings = {
            "axes": AXES,
            "baseline": BASELINE,
            "effects": ["sentence.objective", "masking.strategy"],
            "seeds": [0, 1],
            "tokens": 3000,
            "output": str(tmp_path / "grid"),
            "tracking": TrackingConfig(uri="none"),
        }
        return AblateConfig(**settings | changes)

    return make


def write_run(folder: Path, metrics: dict[str, float], facts: dict[str, str]) -> None:
    """What every finished run leaves in its output folder."""
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "run_facts.json").write_text(json.dumps(facts))
    write_ledger(folder)


def write_ledger(folder: Path, device: str = "cpu", examples: int = 1_000_000) -> None:
    """A run's tracking.json. With so many examples a score is two standard errors above its floor once it is above."""
    tags = {"git_commit": "abc", "torch": "2", "device": device}
    datasets = [{"context": "training"}, {"context": "evaluation", "profile": {"used": examples}}]
    (folder / "tracking.json").write_text(json.dumps({"run_id": None, "tags": tags, "datasets": datasets}))


def write_cells(config: AblateConfig, score, below: float = 1.0, leave_out=()) -> None:
    """Finished cells whose metrics are `score(cell)`, and whose models lie so far below the unigram."""
    for cell in cells(config):
        if cell.name in leave_out:
            continue
        folder = cell_folder(config, cell) / "pretrain"
        loss = score(cell)
        metrics = {"valid/masked_lm_loss": loss, "valid/unigram_cross_entropy": loss + below}
        write_run(folder, metrics, {"corpus": "a", "tokenizer": "b"})
        (folder / JUDGED_ON).write_text(json.dumps({"masked_lm": "c"}))
        lines = [
            {
                "step": step,
                "time": 60.0 * step,
                "metrics": {"train/tokens": 1000 * step, "speed/tokens_per_second": 50, "speed/seconds": 50.0},
            }
            for step in (1, 2)
        ]
        lines += [{"step": 2, "time": 120.0, "metrics": {"valid/masked_lm_loss": loss, "speed/evaluation_seconds": 10}}]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        for name, task in config.finetune.items():
            for seed in task.seeds:
                tuned = CellRun(name, seed).output(cell_folder(config, cell))
                write_run(tuned, {"valid/macro_f1": score(cell) / 10 + seed / 100}, {"train": "d", "eval": "e"})


@pytest.fixture
def with_task() -> dict[str, FinetuneTask]:
    return {"topic": FinetuneTask(options={}, seeds=[0, 1])}
