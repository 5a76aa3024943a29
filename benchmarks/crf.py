"""The CRF head against pytorch-crf's own: a training step, and decoding.

    python -m benchmarks.crf --json crf.json

Both have the same weights, emissions and tags, with sequence lengths as in KLUE-NER's pieces; rounds alternate. The
likelihood is the library's on both sides: ours gathers the units first.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence

from finetune.heads.crf import CrfHead

WIDTH, TAGS, ROUNDS = 256, 13, 15


def main() -> None:
    """Print the ratios, and write them as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    lengths = torch.randint(10, 90, (options.sequences,))
    cu_units = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    hidden, labels = torch.randn(int(lengths.sum()), WIDTH), torch.randint(0, TAGS, (int(lengths.sum()),))
    head = CrfHead(WIDTH, TAGS)
    padded = pad_sequence(hidden.split(lengths.tolist()), batch_first=True)  # (N, S, H)
    tags = pad_sequence(labels.split(lengths.tolist()), batch_first=True)
    mask = torch.arange(padded.shape[1]) < lengths[:, None]

    def step_of(loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
        def step() -> None:
            head.zero_grad()
            loss().backward()

        return step

    def decode_theirs() -> list[list[int]]:
        with torch.no_grad():
            return head.crf.decode(head.classifier(padded), mask=mask)

    assert [tag for path in decode_theirs() for tag in path] == head.decode(hidden, cu_units).tolist()
    pairs = {
        "training step": (
            step_of(lambda: head.loss(hidden, labels, cu_units)),
            step_of(lambda: -head.crf(head.classifier(padded), tags, mask=mask, reduction="sum")),
        ),
        "decoding": (lambda: head.decode(hidden, cu_units), decode_theirs),
    }
    found = {name: _ratio(*pair) for name, pair in pairs.items()}
    for name, (middle, low, high) in found.items():
        print(f"{name}: {middle:.2f} times the library's time ({low:.2f} to {high:.2f})")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _ratio(ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[float, float, float]:
    """Median, lowest and highest ratio of our time to theirs, over alternating rounds."""
    ratios = []
    for number in range(ROUNDS + 2):
        times = []
        for call in (ours, theirs):
            began = time.perf_counter()
            call()
            times.append(time.perf_counter() - began)
        if number > 1:  # the first two warm up
            ratios.append(times[0] / times[1])
    return statistics.median(ratios), min(ratios), max(ratios)


if __name__ == "__main__":
    main()
