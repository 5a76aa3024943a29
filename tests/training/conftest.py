"""A task small enough to work out by hand, and the pieces of a run around it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from bert.packed import PackedBatch, starts_of
from bert.training.objective import Objective
from bert.training.position import Position


class Toy(Objective):
    """One weight matrix; predicts 0 for every token, and is off by the token's vector."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Parameter(torch.randn(10, 3))
        self.bias = torch.nn.Parameter(torch.ones(3))
        self.dropout = torch.nn.Dropout(dropout)
        self.weights = {"token_loss": 1.0, "sequence_loss": 0.5}

    def counts(self, batch: PackedBatch) -> dict[str, float]:
        return {"token_loss": batch.num_tokens, "large": batch.num_tokens, "sequence_loss": batch.num_sequences}

    def forward(self, batch: PackedBatch) -> dict[str, torch.Tensor]:
        vectors = self.dropout(torch.nn.functional.embedding(batch.token_ids, self.table) + self.bias)  # (T, 3)
        firsts = vectors.index_select(0, batch.cu_seqlens[:-1])
        losses = {"token_loss": vectors.square().sum(), "sequence_loss": (firsts - 1).abs().sum()}
        return losses | {"large": (vectors.detach().abs().sum(1) > 2).sum()}

    def export(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: t.detach().clone() for name, t in self.state_dict().items()}, folder / "model.safetensors")

    def restore(self, folder: Path) -> None:
        self.load_state_dict(load_file(folder / "model.safetensors"))


def batch_of(*sequences: list[int]) -> PackedBatch:
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    ids = torch.tensor([number for sequence in sequences for number in sequence])
    places = torch.cat([torch.arange(n) for n in lengths])
    return PackedBatch(ids, torch.zeros_like(ids), places, starts_of(lengths), int(lengths.max()))


class ToyData:
    """Epochs of two blocks of three micro-batches, made from their place alone; notes where it was begun."""

    def __init__(self, micro_batch_size: int = 2) -> None:
        self.size = micro_batch_size
        self.begun: list[Position] = []

    def __call__(self, position: Position) -> Iterator[tuple[PackedBatch, Position]]:
        self.begun.append(position)
        return self._from(position)

    def _from(self, position: Position) -> Iterator[tuple[PackedBatch, Position]]:
        epoch, block, micro_batch = position.epoch, position.block, position.micro_batch
        while True:
            rng = np.random.default_rng([epoch, block, micro_batch])
            sequences = [rng.integers(0, 10, rng.integers(1, 6)).tolist() for _ in range(self.size)]
            micro_batch += 1
            if micro_batch == 3:
                epoch, block, micro_batch = epoch + block, 1 - block, 0
            yield batch_of(*sequences), Position(epoch, block, micro_batch, 3)

    def epochs(self, position: Position) -> float:
        return position.epoch + (position.block + position.micro_batch / 3) / 2


class Log:
    """A tracker that keeps what it is told: {metric: {step: value}}."""

    def __init__(self) -> None:
        self.values: dict[str, dict[int, float]] = {}

    def flush(self) -> None:
        pass

    def log(self, step: int, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self.values.setdefault(name, {})[step] = value

    @property
    def without_speed(self) -> dict[str, dict[int, float]]:
        return {name: values for name, values in self.values.items() if not name.startswith("speed/")}
