"""A grid small enough to run in tests, and cells written by hand."""

import json
from pathlib import Path

import pytest

from bert.training.tracking import TrackingConfig
from pretrain.ablation.cell_runs import cell_folder
from pretrain.ablation.grid import AblateConfig, FinetuneTask, cells

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


def write_cells(config: AblateConfig, score, below: float = 1.0, leave_out=()) -> None:
    """Finished cells whose metrics are `score(cell)`, and whose models lie so far below the unigram."""
    for cell in cells(config):
        if cell.name in leave_out:
            continue
        folder = cell_folder(config, cell) / "pretrain"
        folder.mkdir(parents=True)
        loss = score(cell)
        metrics = {"valid/masked_lm_loss": loss, "valid/unigram_cross_entropy": loss + below}
        (folder / "metrics.json").write_text(json.dumps(metrics))
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
                tuned: Path = cell_folder(config, cell) / f"{name}-{seed}"
                tuned.mkdir()
                (tuned / "metrics.json").write_text(json.dumps({"valid/macro_f1": score(cell) / 10 + seed / 100}))


@pytest.fixture
def with_task() -> dict[str, FinetuneTask]:
    return {"topic": FinetuneTask(options={}, seeds=[0, 1])}
