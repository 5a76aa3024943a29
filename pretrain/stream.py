"""The micro-batches of block after block: the stream that a run trains on, and frozen sets to evaluate it on.

The state of the data is a Position (epoch, block, micro-batch), so a resume rebuilds at most one block.
"""

from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch.utils.data import DataLoader, Dataset

from bert.packed import PackedBatch
from bert.training.position import Position
from pretrain.block import Block
from pretrain.data import Sampler
from pretrain.loader_workers import follow_the_run, unsignalled


class Stream:
    """An endless stream of micro-batches, from any position.

    Args:
        sampler: builds the blocks.
        workers: processes that build blocks ahead; 0 builds them in this one. The batches are the same.
    """

    def __init__(self, sampler: Sampler, workers: int) -> None:
        self.sampler = sampler
        self.workers = workers

    def epochs(self, position: Position) -> float:
        """The epochs completed at a position, as a fraction."""
        within = position.micro_batch / position.micro_batches if position.micro_batches else 0.0
        return position.epoch + (position.block + within) / self.sampler.num_blocks

    def __call__(self, position: Position) -> Iterator[tuple[PackedBatch, Position]]:
        """Micro-batches from a position on, each with the position after it."""
        for (epoch, number), block in self._blocks(position.epoch, position.block):
            # A run may be resumed with its steps split differently.
            start = position.micro_batch * len(block) // max(1, position.micro_batches)
            for micro_batch in range(start, len(block)):
                yield block.micro_batch(micro_batch), self._after(epoch, number, micro_batch, len(block))
            position = Position(epoch, number)

    def _blocks(self, epoch: int, number: int) -> Iterator[tuple[tuple[int, int], Block]]:
        """Blocks from a place on, each with its place."""
        loader = DataLoader(
            _Blocks(self.sampler),
            batch_size=None,
            sampler=self._places(epoch, number),
            num_workers=self.workers,
            collate_fn=_as_it_is,
            worker_init_fn=follow_the_run,
            pin_memory=bool(self.workers) and torch.cuda.is_initialized(),  # a thread then reads blocks from the pipe
            # Not forked: the process has threads by now, and a fork copies the locks they hold.
            multiprocessing_context="spawn" if self.workers else None,
        )
        threads = torch.get_num_threads()
        with unsignalled() if self.workers else nullcontext():
            blocks = iter(loader)  # starts the workers
        for place, block in zip(self._places(epoch, number), blocks, strict=False):
            if loader.pin_memory:  # whose thread sets the number for threads yet to come, as of the backward pass, to 1
                torch.set_num_threads(threads)
            yield place, block

    def _after(self, epoch: int, number: int, micro_batch: int, micro_batches: int) -> Position:
        if micro_batch + 1 < micro_batches:
            return Position(epoch, number, micro_batch + 1, micro_batches)
        if number + 1 < self.sampler.num_blocks:
            return Position(epoch, number + 1)
        return Position(epoch + 1)

    def _places(self, epoch: int, number: int) -> Iterator[tuple[int, int]]:
        while True:
            for block in range(number, self.sampler.num_blocks):
                yield epoch, block
            epoch, number = epoch + 1, 0


def frozen_batches(sampler: Sampler, sequences: int) -> list[PackedBatch]:
    """The first micro-batches of a sampler's first epoch: at most this many sequences, but at least one micro-batch."""
    batches, total = [], 0
    for number in range(sampler.num_blocks):
        block = sampler.block(0, number)
        for micro_batch in range(len(block)):
            batch = block.micro_batch(micro_batch)
            total += batch.num_sequences
            if total > sequences and batches:
                return batches
            batches.append(batch)
    return batches


class _Blocks(Dataset):
    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler

    def __getitem__(self, place: tuple[int, int]) -> Block:
        return self.sampler.block(*place).to_send()


def _as_it_is(block: Block) -> Block:
    return block
