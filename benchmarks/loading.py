"""How long a base-sized model takes to load, and how much memory beyond its weights; against transformers.

python -m benchmarks.loading
"""

import argparse
import json
import subprocess
import sys
import tempfile
from itertools import islice, product
from pathlib import Path

from bert import Bert, tokenizer
from bert.config import ModelOptions, resolve
from bert.tokenizer import TokenizerConfig

_MEASURE = """
import json, sys, time
import torch
{imports}
def resident(name):
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith(name)) / 1024
before, began = resident("VmRSS"), time.perf_counter()
model = {load}
read = sum(float(p.detach().sum()) for p in model.parameters())  # a map of a file is read when it is used
seconds = time.perf_counter() - began
weights = sum(p.numel() * p.element_size() for p in model.parameters()) / 2**20
print(json.dumps({{"seconds": seconds, "weights_mb": weights, "peak_mb": resident("VmHWM") - before}}))
"""
_OURS = _MEASURE.format(imports="from bert import Bert", load="Bert.from_pretrained(sys.argv[1])")
_THEIRS = _MEASURE.format(
    imports="from transformers import BertForPreTraining", load="BertForPreTraining.from_pretrained(sys.argv[1])"
)


def main() -> None:
    """Write a random model, load it in processes of their own in turn, and print what each took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="base", help="the model's size")
    parser.add_argument("--vocab_size", type=int, default=30522, help="tokens, about")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), arguments.preset, arguments.vocab_size)
        for _ in range(arguments.rounds):
            for name, program in (("ours", _OURS), ("transformers", _THEIRS)):
                done = subprocess.run(
                    [sys.executable, "-c", program, folder], capture_output=True, text=True, check=True
                )
                found = json.loads(done.stdout.splitlines()[-1])
                found["peak_over_weights"] = found["peak_mb"] / found["weights_mb"]
                print(name, json.dumps({key: round(value, 3) for key, value in found.items()}), flush=True)


def _write(folder: Path, preset: str, vocab_size: int) -> None:
    words = ["".join(letters) for letters in islice(product("abcdefghijklmnopqrstuvwxyz", repeat=4), vocab_size)]
    lines = [" ".join(words[first : first + 1000]) for first in range(0, len(words), 1000)]
    size = TokenizerConfig(vocab_size=vocab_size, min_frequency=1)
    trained = tokenizer.train(lines, size)
    Bert(resolve(ModelOptions(preset=preset), trained.vocab_size), trained).save_pretrained(folder)


if __name__ == "__main__":
    main()
