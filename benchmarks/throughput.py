"""Training steps, ours and transformers' in turn: tokens per second, and the share of a matrix product's rate.

    python -m benchmarks.throughput --text ko_corpus_small.txt
    python -m benchmarks.throughput --text corpus.txt --preset base --vocab_size 32000 --batch_size 512 --json base.json

Ours is the loop's own step with the loader; the peer gets its batches ready on the device, each padded to its longest
sequence. Both have the same weights, batches, dropout, AdamW (fused) and clipping. The matrix products are timed right
before and right after our steps and averaged like them; the best rate of the machine is reported separately. Shares
count the work that bert/flops.py counts; `share_computed` leaves out what our last layer skips. Each measurement has a
process of its own, with the machine to itself, the peer's with PyTorch's default settings; `peak_mb` is the memory it
took in all, on a GPU what PyTorch allocated there.
"""

import time

import torch

from benchmarks.same_work import (
    Work,
    apart,
    apart_for_peer,
    described,
    padded,
    parser,
    peak_mb,
    prepare_again,
    prepare_for_peer,
    report,
    spread,
)
from benchmarks.unread_flops import unread_flops
from bert.flops import matrix_rates
from bert.packed import PackedBatch
from bert.training import team
from bert.training.device import autocast, product_type
from bert.training.optim import build_optimizer, parameter_groups
from bert.training.position import Position
from bert.training.step import training_step
from pretrain.stream import Stream

WARM_UP = 12
"""Untimed steps, for compilation and memory allocation."""


class Ours:
    """The loop's step over the loader's batches, from some epoch on."""

    def __init__(self, work: Work, epoch: int = 0) -> None:
        self.work, self.objective, self.step = work, work.ours(), 0
        self.optimizer = build_optimizer(self.objective, work.config.training)
        self.stream = Stream(work.sampler, 2 if work.device.type == "cuda" else 0)(Position(epoch=epoch))
        self.team = team.start(self.objective, work.config.training, work.device)  # they end with this process

    def run(self, steps: int) -> list[PackedBatch]:
        """Take this many steps, and return their batches."""
        taken = []
        for _ in range(steps):
            batch, _ = next(self.stream)
            training = self.work.config.training
            training_step(self.objective, [batch], self.optimizer, training, self.step, self.work.device, self.team)
            self.step += 1
            taken.append(batch)
        return taken

    def measured(self, steps: int) -> dict[str, float]:
        """Tokens and operations per second, between two measurements of the matrix rate."""
        products = [_products(self.work)]
        taken, seconds = _timed(self.work, lambda: self.run(steps))
        products.append(_products(self.work))
        return {
            "ours": sum(batch.real_tokens for batch in taken) / seconds,
            "flops": sum(self.objective.flops(batch) for batch in taken) / seconds,
            "unread": sum(self._unread(batch) for batch in taken) / seconds,
            "matrix_rate": sum(rate for rate, _ in products) / 2,
            "best_matrix_rate": max(best for _, best in products),
            "peak_mb": peak_mb(self.work.device),
        }

    def _unread(self, batch: PackedBatch) -> float:
        masked = batch.targets["masked_index"][batch.targets["masked_labels"] >= 0]
        read = torch.cat([masked, batch.cu_seqlens[: batch.real_sequences]])
        attend = self.objective.bert.encoder.backend(batch.to(self.work.device))
        return unread_flops(self.work.model, batch, read, queries=attend.answers_some)


class Theirs:
    """transformers' model in a plain training step, on the same batches."""

    def __init__(self, work: Work, attention: str, compiled: bool, epoch: int = 0) -> None:
        self.work, self.model = work, work.theirs(attention)
        self.forward = torch.compile(self.model) if compiled else self.model
        self.rows: int | None = None  # of each batch, where shapes are fixed
        self.fixed_shapes = compiled
        groups = parameter_groups(self.model, 0.01)
        self.optimizer = torch.optim.AdamW(groups, lr=1e-4, fused=True)
        self.stream = Stream(work.sampler, 0)(Position(epoch=epoch))

    def batches(self, steps: int) -> tuple[int, list[dict[str, torch.Tensor]]]:
        """The number of tokens of the next batches, and these, padded, on the device; not timed.

        A compiled model gets batches of one shape, since any other would be compiled anew.
        """
        ready = [padded(next(self.stream)[0], to_longest=not self.fixed_shapes) for _ in range(steps)]
        if self.fixed_shapes:
            ready = self._of_one_shape(ready)
        tokens = sum(int(batch["attention_mask"].sum()) for batch in ready)
        return tokens, [{name: tensor.to(self.work.device) for name, tensor in batch.items()} for batch in ready]

    def _of_one_shape(self, batches: list[dict[str, torch.Tensor]]) -> list[dict[str, torch.Tensor]]:
        """The same sequences in batches of the size that the first ones had on average; some may be left over."""
        rows = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
        there = len(rows["input_ids"])
        self.rows = self.rows or there // len(batches)
        ends = range(self.rows, there + 1, self.rows)
        return [{name: tensor[end - self.rows : end] for name, tensor in rows.items()} for end in ends]

    def run(self, batches: list[dict[str, torch.Tensor]]) -> None:
        """A step for each batch."""
        for batch in batches:
            with autocast(self.work.config.training.precision, self.work.device):
                loss = self.forward(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)

    def measured(self, steps: int) -> dict[str, float]:
        """Tokens per second."""
        tokens, ready = self.batches(steps)
        rate = tokens / _timed(self.work, lambda: self.run(ready))[1]
        return {"theirs": rate, "peak_mb_peer": peak_mb(self.work.device)}


def main() -> None:
    """Measure in turn and report."""
    options = parser(__doc__)
    options.add_argument("--steps", type=int, default=8, help="steps in each measurement")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--peer_attention", default="eager", help="eager or sdpa")
    options.add_argument("--peer_compile", action="store_true")
    arguments = options.parse_args()
    common = apart(described, arguments)
    rounds = []
    for number in range(arguments.rounds):
        of_ours = apart(_measured, "ours", arguments, number)
        rounds.append(of_ours | apart_for_peer(arguments, _measured, "theirs", arguments, number))
        print(f"ours {rounds[-1]['ours']:,.0f} tokens/s, transformers {rounds[-1]['theirs']:,.0f}", flush=True)
    report(_figures(arguments, common, rounds), arguments.json)


def _measured(name: str, arguments, number: int) -> dict[str, float]:
    """What one side measures, warmed up."""
    if name == "ours":
        contestant = Ours(prepare_again(arguments), number)
        contestant.run(WARM_UP)
    else:
        contestant = Theirs(prepare_for_peer(arguments), arguments.peer_attention, arguments.peer_compile, number)
        contestant.run(contestant.batches(WARM_UP)[1])
    return contestant.measured(arguments.steps)


def _products(work: Work, seconds: float = 2.0) -> tuple[float, float]:
    """FLOP/s of matrix products: the average over some seconds, and the best."""
    kind = product_type(work.config.training.precision, work.device)
    began, rates = time.perf_counter(), []
    while time.perf_counter() - began < seconds:
        rates += matrix_rates(work.device, kind, times=10)
    return len(rates) / sum(1 / rate for rate in rates), max(rates)


def _timed(work: Work, call):
    wait = torch.cuda.synchronize if work.device.type == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    result = call()
    wait()
    return result, time.perf_counter() - began


def _figures(arguments, common: dict, rounds: list[dict[str, float]]) -> dict:
    highest = max(of_round["best_matrix_rate"] for of_round in rounds)
    peer = arguments.peer_attention + (", compiled" if arguments.peer_compile else "")
    return common | {
        "peer": f"transformers BertForPreTraining, {peer}",
        "tokens_per_second": spread([of_round["ours"] for of_round in rounds]),
        "tokens_per_second_peer": spread([of_round["theirs"] for of_round in rounds]),
        "ratio": spread([of_round["ours"] / of_round["theirs"] for of_round in rounds]),
        "matrix_tflops": spread([of_round["matrix_rate"] / 1e12 for of_round in rounds]),
        "share_of_matrix_rate": spread([of_round["flops"] / of_round["matrix_rate"] for of_round in rounds]),
        "share_computed": spread([(r["flops"] - r["unread"]) / r["matrix_rate"] for r in rounds]),
        "best_matrix_tflops": highest / 1e12,
        "share_of_best_matrix_rate": spread([of_round["flops"] / highest for of_round in rounds]),
        "peak_mb": spread([of_round["peak_mb"] for of_round in rounds]),
        "peak_mb_peer": spread([of_round["peak_mb_peer"] for of_round in rounds]),
        "rounds": rounds,
    }


if __name__ == "__main__":
    main()
