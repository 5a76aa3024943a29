"""The same text, model and batches for ours and for transformers, so that only the work is compared."""

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import resource
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import torch

from bert import hub
from bert.config import ModelConfig, ModelOptions, resolve
from bert.errors import refuse_if
from bert.packed import PackedBatch
from bert.targets import PerPosition, PerSequence, PerToken, Positions
from bert.tokenizer import TokenizerConfig
from bert.training.config import TrainingConfig
from bert.training.device import choose_device, product_type, refuse_unfit_attention
from pretrain.config import DataConfig, MaskingConfig, PretrainConfig, SentenceConfig
from pretrain.data import Sampler
from pretrain.launch import training_sampler
from pretrain.objectives.masked_lm import MaskedLM
from pretrain.options import check, with_defaults
from pretrain.targets import TARGETS
from pretrain.text import TextToLearn, open_text

_AS_PYTORCH_MAKES_IT = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "300000"}
"""The default spins of GNU's OpenMP, which comes with PyTorch's wheels; with them, `import bert` sets nothing."""


@dataclass(frozen=True)
class Work:
    """What either side has to do."""

    config: PretrainConfig
    model: ModelConfig
    text: TextToLearn
    sampler: Sampler
    device: torch.device

    def ours(self) -> MaskedLM:
        """Our model, with weights that depend only on the seed."""
        torch.manual_seed(0)
        training = self.config.training
        objective = MaskedLM(self.model, self.text.tokenizer, 2, training.attention)
        objective.bert.encoder.gradient_checkpointing = training.gradient_checkpointing
        if training.compile:
            objective.compile_parts()
        return objective.to(self.device).train()

    def theirs(self, attention: str) -> torch.nn.Module:
        """transformers' BertForPreTraining with the same weights."""
        from transformers import BertConfig, BertForPreTraining

        model = BertForPreTraining(BertConfig(**vars(self.model), attn_implementation=attention))
        state = hub.to_transformers(self.ours().state_dict())
        assert model.load_state_dict(state, strict=False).unexpected_keys == []
        if self.config.training.gradient_checkpointing:
            model.gradient_checkpointing_enable()
        return model.to(self.device).train()


def parser(description: str) -> argparse.ArgumentParser:
    """Options that all benchmarks share; the defaults are a small model on a CPU."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--text", required=True, help="a corpus: one sentence per line, blank lines between documents")
    options.add_argument("--preset", default="mini", help="the model's size")
    options.add_argument("--vocab_size", type=int, default=16000)
    options.add_argument("--max_length", type=int, default=128)
    options.add_argument("--batch_size", type=int, default=64, help="sequences in a step")
    options.add_argument("--batch_tokens", type=int, help="tokens in a step of fixed shape, in place of --batch_size")
    options.add_argument("--compile", action="store_true", help="compile our layers; needs --batch_tokens")
    options.add_argument("--attention", default="sdpa", help="our attention backend")
    options.add_argument("--gradient_checkpointing", action="store_true", help="by both")
    options.add_argument("--precision", default="auto", help="auto, fp32 or bf16")
    options.add_argument("--peer_precision", choices=("auto", "fp32", "bf16"), help="the peer's, if not ours")
    add_peer_settings(options)
    options.add_argument("--cache", default="runs/cache", help="where tokenizer and token store are kept")
    options.add_argument("--json", help="a file for the figures")
    return options


def add_peer_settings(options: argparse.ArgumentParser) -> None:
    """The option that says in what kind of process the peer computes."""
    options.add_argument(
        "--peer_settings",
        choices=("own", "ours"),
        default="own",
        help="own: the peer runs with PyTorch's defaults; ours: with our thread and memory settings",
    )


def prepare(options: argparse.Namespace, device: torch.device | None = None) -> Work:
    """The work as the options say: NSP on segment pairs, token masking, dropout 0.1 but none in the attention."""
    config = with_defaults(
        PretrainConfig(
            data=DataConfig(train=options.text, cache=options.cache, max_length=options.max_length),
            tokenizer=TokenizerConfig(vocab_size=options.vocab_size),
            model=ModelOptions(preset=options.preset),
            sentence=SentenceConfig(short_seq_prob=0.1),
            masking=MaskingConfig(strategy="token"),
            training=TrainingConfig(
                steps=10_000,
                batch_size=None if options.batch_tokens else options.batch_size,
                batch_tokens=options.batch_tokens,
                compile=options.compile,
                lr=1e-4,
                precision=options.precision,
                attention=options.attention,
                gradient_checkpointing=options.gradient_checkpointing,
            ),
        )
    )
    refuse_if(check(config))
    device = device or choose_device(config.training)
    text = open_text(config)
    model = resolve(config.model, text.tokenizer.vocab_size, text.tokenizer.pad_id)
    refuse_unfit_attention(config.training, device, model)
    return Work(config, model, text, training_sampler(config, text), device)


def padded(batch: PackedBatch, to_longest: bool = True) -> dict[str, torch.Tensor]:
    """A batch as transformers takes it: padded to its longest sequence, -100 where nothing is to be predicted.

    Our fillers are left out.
    """
    batch = without_fillers(batch)
    labels = torch.full((batch.num_tokens,), -100)
    labels[batch.targets["masked_index"]] = batch.targets["masked_labels"]
    inside = torch.ones(batch.num_tokens, dtype=torch.long)
    rows = {
        "input_ids": batch.to_padded(),
        "token_type_ids": batch.to_padded(batch.segment_ids),
        "attention_mask": batch.to_padded(inside),
        "labels": batch.to_padded(labels, fill=-100),
    }
    if not to_longest:
        missing = batch.max_seqlen - rows["input_ids"].shape[1]
        fills = {"labels": -100}
        rows = {n: torch.nn.functional.pad(t, (0, missing), value=fills.get(n, 0)) for n, t in rows.items()}
    return rows | {"next_sentence_label": batch.targets["sentence_labels"]}


def without_fillers(batch: PackedBatch) -> PackedBatch:
    """The batch as it was before `packing.fill`; any other is returned unchanged."""
    if batch.real is None:
        return batch
    tokens, sequences = batch.real
    masked = batch.targets["masked_labels"] != TARGETS["masked_labels"].padding
    kept = {PerSequence: slice(sequences), PerToken: slice(tokens), Positions: masked, PerPosition: masked}
    return replace(
        batch,
        token_ids=batch.token_ids[:tokens],
        segment_ids=batch.segment_ids[:tokens],
        position_ids=batch.position_ids[:tokens],
        cu_seqlens=batch.cu_seqlens[: sequences + 1],
        targets={name: values[kept[type(TARGETS[name])]] for name, values in batch.targets.items()},
        real=None,
    )


def apart(call: Callable, *given, environment: dict[str, str] | None = None):
    """What a module's function returns in a fresh process, while this one waits and holds next to nothing.

    Where the system places a process's memory may make a side that moves much of it half as fast, and what a side
    leaves behind in a process slows the other.

    Args:
        call: the function.
        given: its arguments.
        environment: variables of the process, besides or in place of those of this one.
    """
    fresh = multiprocessing.get_context("spawn")
    with patch.dict(os.environ, environment or {}), ProcessPoolExecutor(1, fresh) as process:
        return process.submit(call, *given).result()


def apart_for_peer(options: argparse.Namespace, call: Callable, *given):
    """`apart` for the peer: with PyTorch's default settings, or with ours, as --peer_settings says."""
    return apart(call, *given, environment=_AS_PYTORCH_MAKES_IT if options.peer_settings == "own" else None)


def device_of_peer(options: argparse.Namespace) -> torch.device:
    """The peer's device; without what `choose_device` sets, unless it is to have our settings."""
    if options.peer_settings == "ours":
        return choose_device(TrainingConfig())
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def described(options: argparse.Namespace) -> dict:
    """What every measurement has in common; tokenizer and token store are in the cache from here on."""
    work = prepare(options)
    on_gpu = work.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name() if on_gpu else f"cpu, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "model": vars(work.model),
        "batch_size": options.batch_size if options.batch_tokens is None else None,
        "batch_tokens": options.batch_tokens,
        "compile": options.compile,
        "max_length": options.max_length,
        "attention": options.attention,
        "precision": str(product_type(options.precision, work.device)),
        "precision_peer": str(product_type(_of_peer(options), work.device)),
        "peer_settings": options.peer_settings,
    }


def prepare_again(options: argparse.Namespace, device: torch.device | None = None) -> Work:
    """`prepare` in another process, without printing again what it says of the text."""
    with contextlib.redirect_stdout(io.StringIO()):
        return prepare(options, device)


def prepare_for_peer(options: argparse.Namespace) -> Work:
    """`prepare_again` with the peer's settings and precision; its attention is chosen elsewhere."""
    changed = argparse.Namespace(**vars(options) | {"precision": _of_peer(options), "attention": "sdpa"})
    return prepare_again(changed, device_of_peer(options))


def _of_peer(options: argparse.Namespace) -> str:
    return options.peer_precision or options.precision


def peak_mb(device: torch.device) -> float:
    """Peak memory up to now: on a GPU what PyTorch allocated; on a CPU what this process had resident, and what those
    that it has forked have now, without what they share with it (they keep what they free)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 + mb_of_forked(os.getpid())


def mb_of_forked(process: int) -> float:
    """Memory of the processes that a process has forked, without what they share with others."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if f"\nPPid:\t{process}\n" in (folder / "status").read_text(encoding="ascii", errors="replace"):
                rows = (folder / "smaps_rollup").read_text(encoding="ascii").splitlines()
                total += sum(int(row.split()[1]) for row in rows if row.startswith("Private_"))
    return total / 1024


@torch.no_grad()
def take_up(objective: torch.nn.Module, model: torch.nn.Module) -> None:
    """Give our model the weights of transformers' model of the same kind, so that the same code evaluates both."""
    theirs = model.state_dict()
    for name, tensor in hub.to_transformers(objective.state_dict()).items():
        tensor.copy_(theirs[name])  # a view of our parameter


def spread(values: list[float]) -> str:
    """Median, lowest and highest."""
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def report(figures: dict, path: str | None) -> None:
    """Print the figures, and write them to a file if one is named."""
    text = json.dumps(figures, indent=2)
    print(text)
    if path:
        Path(path).write_text(text + "\n", encoding="utf-8")
