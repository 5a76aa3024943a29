"""How fast text becomes tokens, and tokens become batches; against the tokenizers library alone.

    python -m benchmarks.data --text ko_corpus.txt

Batches are built (paired, masked, packed) on one core. Tokenising is compared with `encode_batch` of the same lines,
with ids and word ids extracted as Python lists: what a token store needs, and the least that a plain script does.
"""

import os
import shutil
import tempfile
import time
from itertools import islice
from pathlib import Path

from benchmarks.same_work import apart, parser, prepare, prepare_again, report, spread
from bert.training.position import Position
from pretrain.corpus import open_corpus
from pretrain.documents import CorpusFormat
from pretrain.stream import Stream
from pretrain.token_store import open_store


def main() -> None:
    """Measure both and report."""
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--batches", type=int, default=300, help="batches in each measurement")
    arguments = options.parse_args()
    work = prepare(arguments)
    rates = []
    for number in range(arguments.rounds):
        stream = Stream(work.sampler, 0)(Position(epoch=number))
        next(stream)
        began = time.perf_counter()
        tokens = sum(batch.real_tokens for batch, _ in islice(stream, arguments.batches))
        rates.append(tokens / (time.perf_counter() - began))
        print(f"batches: {rates[-1]:,.0f} tokens/s", flush=True)
    stored, encoded = [], []
    for _ in range(arguments.rounds):  # each in a process of its own, so that its memory is its own
        stored.append(apart(_store, arguments))
        encoded.append(apart(_library, arguments))
    ours, theirs = ([found["tokens_per_second"] for found in side] for side in (stored, encoded))
    figures = {
        "batches_tokens_per_second_one_core": spread(rates),
        "tokenising_tokens_per_second": spread(ours),
        "tokenising_tokens_per_second_of_the_library": spread(theirs),
        "tokenising_ratio": spread([a / b for a, b in zip(ours, theirs, strict=True)]),
        "tokenising_peak_anonymous_mb": spread([found["anonymous_mb"] for found in stored]),
    }
    report(figures, arguments.json)


def _store(arguments) -> dict:
    """Our token store, built from text to the last file, with one process for each core."""
    work = prepare_again(arguments)
    with tempfile.TemporaryDirectory() as folder:
        corpus = open_corpus([Path(arguments.text)], "mmap", CorpusFormat(), Path(arguments.cache))
        began = time.perf_counter()
        store = open_store(corpus, work.text.tokenizer, Path(folder), os.cpu_count())
        seconds = time.perf_counter() - began
        tokens = store.manifest["tokens"]
        shutil.rmtree(folder, ignore_errors=True)
    return {"tokens_per_second": tokens / seconds, "anonymous_mb": _peak_anonymous()}


def _library(arguments) -> dict:
    """encode_batch over the same sentences, a thousand at a time, on all cores, with ids and word ids as lists."""
    work = prepare_again(arguments)
    corpus = open_corpus([Path(arguments.text)], "mmap", CorpusFormat(), Path(arguments.cache))
    backend, began, tokens = work.text.tokenizer.backend, time.perf_counter(), 0
    sentences = (line for document in range(corpus.num_documents) for line in corpus.sentences(document))
    while some := list(islice(sentences, 1000)):
        for encoding in backend.encode_batch(some, add_special_tokens=False):
            ids, words = encoding.ids, encoding.word_ids
            tokens += min(len(ids), len(words))
    return {"tokens_per_second": tokens / (time.perf_counter() - began), "anonymous_mb": _peak_anonymous()}


def _peak_anonymous() -> float:
    """Resident memory that belongs to no file, in MB; the peak, in a process that only grows."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


if __name__ == "__main__":
    main()
