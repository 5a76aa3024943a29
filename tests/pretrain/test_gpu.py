"""A whole run in bf16: on a GPU in every way there is, and on a CPU too, so that the test itself is tried."""

from dataclasses import replace
from functools import partialmethod
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bert.config import ModelOptions
from bert.tokenizer import TokenizerConfig
from bert.training import checkpoint, loop
from bert.training.config import TrainingConfig
from bert.training.step import training_step
from bert.training.tracking import TrackingConfig
from pretrain import launch
from pretrain.config import AuditConfig, DataConfig, PretrainConfig
from pretrain.launch import pretrain

WITHOUT_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
IN_TOKENS = {"batch_size": None, "batch_tokens": 2048, "micro_batch_tokens": 1024}
WAYS = {
    "cpu": ({"device": "cpu", "attention": "sdpa"} | IN_TOKENS),
    "cpu, compiled": ({"device": "cpu", "attention": "sdpa", "compile": True} | IN_TOKENS),
    "gpu, sdpa": {"device": "cuda", "attention": "sdpa", "batch_size": 64, "micro_batch_size": 32},
    "gpu, varlen": {"device": "cuda", "attention": "varlen", "batch_size": 64, "micro_batch_size": 32},
    "gpu, varlen, tokens": ({"device": "cuda", "attention": "varlen"} | IN_TOKENS),
    "gpu, varlen, tokens, compiled": ({"device": "cuda", "attention": "varlen", "compile": True} | IN_TOKENS),
    "gpu, varlen, tokens, compiled, workers, recomputed": (
        {"device": "cuda", "attention": "varlen", "compile": True, "workers": 2, "gradient_checkpointing": True}
        | IN_TOKENS
    ),
    "gpu, sdpa, tokens, compiled": ({"device": "cuda", "attention": "sdpa", "compile": True} | IN_TOKENS),
}


@pytest.fixture(autouse=True)
def nothing_compiled_before():
    """The compiler keeps so many graphs of a layer in a process, and refuses another; a run has few, all ways many."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


class Killed(Exception):
    """Stands for a crash."""


def config_of(text_file: Path, cache: Path, output: Path, way: str) -> PretrainConfig:
    """20 steps of a small model, with a checkpoint after the tenth."""
    every = {"save_every": 10, "eval_every": 20, "log_every": 1, "workers": 0}
    sizes = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 64}
    return PretrainConfig(
        data=DataConfig(train=str(text_file), cache=str(cache), max_length=32),
        tokenizer=TokenizerConfig(vocab_size=300),
        model=ModelOptions(max_position_embeddings=48, **sizes),
        audit=AuditConfig(sequences=0),
        training=TrainingConfig(steps=20, lr=0.02, precision="bf16", **every | WAYS[way]),
        tracking=TrackingConfig(uri="none"),
        output=str(output),
    )


@pytest.mark.filterwarnings("default")  # the compiler reads deprecated attributes of its own
@pytest.mark.parametrize("way", [pytest.param(way, marks=[WITHOUT_GPU] if "gpu" in way else []) for way in WAYS])
def test_a_run_in_bf16_learns_and_goes_on_from_its_checkpoint(way, text_file, cache, tmp_path, monkeypatch):
    config = config_of(text_file, cache, tmp_path / "run", way)
    if "cpu" in way:  # graphs are captured, and run by PyTorch: C++ takes too long here
        monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend="aot_eager"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "Stream", _killed_after(29))  # in the fifteenth step
        with pytest.raises(Killed):
            pretrain(config)
    assert checkpoint.newest(tmp_path / "run").name == "step-00000010"
    result = pretrain(config)
    lines = [line for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines() if "train/loss" in line]
    losses = [float(line.split('"train/masked_lm_loss": ')[1].split(",")[0]) for line in lines]
    assert result["steps"] == len(losses) == 20
    assert sum(losses[-3:]) / 3 < losses[0] - 0.2
    assert all("_orig_mod" not in name for name in load_file(tmp_path / "run" / "model.safetensors"))


@WITHOUT_GPU
@pytest.mark.parametrize("way", [way for way in WAYS if "gpu" in way])
@pytest.mark.filterwarnings("default")
def test_no_step_waits_for_the_gpu_once_it_is_warm(way, text_file, cache, tmp_path, monkeypatch):
    def watched(*of, **named):
        torch.cuda.set_sync_debug_mode("error" if len(steps) > 2 else "default")  # compiling may wait
        try:
            steps.append(training_step(*of, **named))
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return steps[-1]

    steps = []
    monkeypatch.setattr(loop, "training_step", watched)
    pretrain(config_of(text_file, cache, tmp_path / "run", way))
    assert len(steps) == 20


@WITHOUT_GPU
@pytest.mark.parametrize("way", [way for way in WAYS if "gpu" in way])
@pytest.mark.filterwarnings("default")
def test_a_deterministic_run_repeats_to_the_last_bit(way, text_file, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    found = []
    try:
        for name in ("one", "other"):
            config = config_of(text_file, cache, tmp_path / name, way)
            pretrain(replace(config, training=replace(config.training, deterministic=True)))
            found.append(load_file(tmp_path / name / "model.safetensors"))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(found[0][weights], found[1][weights]) for weights in found[0])


def _killed_after(micro_batches: int) -> type:
    class Killing(launch.Stream):
        def __call__(self, position):
            for number, item in enumerate(super().__call__(position), 1):
                if number == micro_batches:
                    raise Killed
                yield item

    return Killing
