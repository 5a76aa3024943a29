"""Whether starting, its memory and resuming depend on the corpus's size: 10 GB against 100 MB, both prepared.

    python -m benchmarks.large_corpus --text ko_corpus.txt --folder /tmp/large

Both corpora repeat the text many times. Tokenising 10 GB would take hours, so the line index, the document index and
the token store of the text itself are built as usual and then repeated on disk, with shifted offsets: the same bytes
that the program would have written. Needs about twice the larger size on disk, and leaves it in --folder.

Measured from outside, on the command that a user types, each time with none of the files in memory: the time from its
start to the first training step's line in metrics.jsonl, and the most memory until its end that is not a file's, in
both of its processes. Then, in a separate process, the time to the first batch from an epoch's beginning and from its
last block.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.same_work import mb_of_forked, report, spread
from bert.tokenizer import Tokenizer, TokenizerConfig
from bert.training.config import TrainingConfig
from bert.training.position import Position
from pretrain.array_cache import GrowingArray
from pretrain.config import DataConfig, PretrainConfig
from pretrain.corpus import Corpus
from pretrain.documents import CorpusFormat
from pretrain.launch import training_sampler
from pretrain.options import with_defaults
from pretrain.readers import Files, MmapReader
from pretrain.stream import Stream
from pretrain.text import open_text
from pretrain.token_store import TokenStore, folder_of, write_manifest


def repeat(array: np.ndarray, times: int, step: np.ndarray | int, file: Path) -> None:
    """Write an array `times` times, shifted by another `step` each time."""
    with GrowingArray(file, array.dtype.type, array.shape[1:]) as written:
        for number in range(times):
            written.extend(array + array.dtype.type(number * step))


def repeat_offsets(offsets: np.ndarray, times: int, file: Path) -> None:
    """The same for an array that holds what lies before each item, and the total last."""
    total = int(offsets[-1])
    with GrowingArray(file, np.int64) as written:
        for number in range(times):
            written.extend(offsets[:-1] + number * total)
        written.extend([times * total])


class RepeatedReader(MmapReader):
    """Lines of a file that repeats another; their index is made from the other's."""

    once: MmapReader
    times: int

    def _build(self, folder: Path) -> dict:
        repeat_offsets(self.once._offsets, self.times, folder / "offsets.npy")
        return {}


class RepeatedCorpus(Corpus):
    """The same for documents."""

    once: Corpus
    times: int

    def _build(self, folder: Path) -> dict:
        once, times = self.once, self.times
        lines = int(once.first_lines[-1])
        repeat(once._document_lines, times, lines, folder / "document_lines.npy")
        repeat(once.document_hashes, times, 0, folder / "document_hashes.npy")
        repeat_offsets(once.document_sentences, times, folder / "document_sentences.npy")
        return {
            "empty_documents": 0,
            "blank_lines": 0,
            "refused": 0,
            "faults": [],
            "lines": [times * lines],
            "text_bytes": [0],
        }


def prepare(once: Corpus, store: TokenStore, tokenizer: Tokenizer, times: int, file: Path) -> None:
    """Write a corpus that is another one `times` times, and all that the program would make of it."""
    cache, reader = once.files.cache, once.files.reader(0)
    with file.open("wb") as written:
        for _ in range(times):
            with reader.path.open("rb") as text:
                shutil.copyfileobj(text, written, 1 << 22)
    RepeatedReader.once, RepeatedCorpus.once = reader, once
    RepeatedReader.times = RepeatedCorpus.times = times
    RepeatedReader(file, cache)  # which leaves its index
    corpus = RepeatedCorpus(Files([file], "mmap", cache), once.format)
    folder, before = folder_of(corpus, tokenizer, cache), folder_of(once, tokenizer, cache)
    folder.mkdir()
    for name in ("ids.bin", "word_starts.bin"):
        with (folder / name).open("wb") as written:
            for _ in range(times):
                with (before / name).open("rb") as read:
                    shutil.copyfileobj(read, written, 1 << 22)
    repeat_offsets(store.token_offsets, times, folder / "token_offsets.npy")
    found = store.manifest
    write_manifest(folder, corpus, tokenizer, found["dtype"], times * found["tokens"], found["unknown_share"])


def forget(folder: Path) -> None:
    """Drop the folder's files from the system's page cache."""
    for file in filter(Path.is_file, folder.rglob("*")):
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def start(arguments, text: Path, tokenizer: Path) -> dict[str, float]:
    """A run of a few steps: seconds to the first one, and the highest anonymous memory, in MB."""
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, "run.py", "pretrain", "--data.train", str(text), "--data.cache", arguments.folder]
        command += ["--tokenizer.path", str(tokenizer), "--training.steps", str(arguments.steps), "--output", output]
        command += ["--training.log_every", "1", "--tracking.uri", "none"]
        began, highest = time.time(), 0.0
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None:
                highest = max(highest, anonymous_mb(process.pid))
                time.sleep(0.01)
        assert process.returncode == 0, f"{command} ended with {process.returncode}"
        first = json.loads((Path(output) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[0])
    return {"first_step_s": first["time"] - began, "anonymous_mb": highest}


def anonymous_mb(process: int) -> float:
    """RssAnon and RssShmem of a process, and what those that it has forked have for themselves; 0 once it is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    own = sum(int(line.split()[1]) / 1024 for line in lines if line.startswith(("RssAnon", "RssShmem")))
    return own + mb_of_forked(process)


def resume(arguments, text: Path, tokenizer: Path) -> dict[str, float]:
    """Seconds to the first batch of a stream, from an epoch's beginning and from its last block; medians."""
    command = [sys.executable, "-m", "benchmarks.large_corpus", "--text", str(text), "--folder", arguments.folder]
    done = subprocess.run([*command, "--child", str(tokenizer)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure_resume(arguments) -> dict[str, float]:
    """The same, in this process: each round in another epoch, so that no text is read twice."""
    config = configuration(arguments, TokenizerConfig(path=arguments.child))
    sampler = training_sampler(config, open_text(config))
    stream, found = Stream(sampler, 0), {"first_block_s": [], "last_block_s": []}
    for epoch in range(6):
        for name, block in (("first_block_s", 0), ("last_block_s", sampler.num_blocks - 1)):
            began = time.perf_counter()
            next(stream(Position(epoch, block)))
            found[name].append(time.perf_counter() - began)
    return {name: statistics.median(values[1:]) for name, values in found.items()} | {"blocks": sampler.num_blocks}


def configuration(arguments, tokenizer: TokenizerConfig) -> PretrainConfig:
    """The default run on the text."""
    data = DataConfig(train=str(arguments.text), cache=arguments.folder)
    training = TrainingConfig(batch_size=32, lr=None, steps=arguments.steps)
    return with_defaults(PretrainConfig(data=data, tokenizer=tokenizer, training=training))


def main() -> None:
    """Prepare both corpora, measure them in turn, and report."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--text", required=True, help="a corpus: one sentence per line, blank lines between documents")
    options.add_argument("--folder", required=True, help="where the corpora and their caches are written; not removed")
    options.add_argument("--megabytes", type=float, nargs=2, default=[100, 10_000], help="sizes of the two corpora")
    options.add_argument("--steps", type=int, default=20, help="of each run")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--json", help="a file for the figures")
    options.add_argument("--child", help="used by the benchmark itself")
    arguments = options.parse_args()
    if arguments.child:
        print(json.dumps(measure_resume(arguments)))
        return
    texts, tokenizer = prepare_both(arguments)
    found: dict[str, list[dict]] = {text.stem: [] for text in texts}
    for _ in range(arguments.rounds):
        for text in texts:
            found[text.stem].append({})
            for measured in (start, resume):
                forget(Path(arguments.folder))
                found[text.stem][-1] |= measured(arguments, text, tokenizer)
            print(text.stem, found[text.stem][-1], flush=True)
    report(figures(found), arguments.json)


def prepare_both(arguments) -> tuple[list[Path], Path]:
    """The two corpora and the tokenizer; what exists already is reused."""
    folder = Path(arguments.folder)
    folder.mkdir(parents=True, exist_ok=True)
    once_file = folder / "once.txt"
    once_file.write_bytes(Path(arguments.text).read_bytes().rstrip(b"\n") + b"\n\n")  # the next copy begins a document
    arguments.text = once_file
    text = open_text(configuration(arguments, TokenizerConfig()))
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(text.tokenizer.backend.to_str(), encoding="utf-8")
    once = Corpus(Files([once_file], "mmap", folder), CorpusFormat())
    files = [folder / f"{megabytes:g}MB.txt" for megabytes in arguments.megabytes]
    for file, megabytes in zip(files, arguments.megabytes, strict=True):
        if not file.is_file():
            prepare(once, text.source, text.tokenizer, round(megabytes * 1e6 / once.num_bytes), file)
    return files, tokenizer


def figures(found: dict[str, list[dict]]) -> dict:
    """Each measure by corpus, and the ratio of the larger one's to the smaller one's."""
    small, large = found.values()
    names = ("first_step_s", "anonymous_mb", "first_block_s", "last_block_s")
    by_corpus = {f"{name}_{corpus}": spread([one[name] for one in r]) for corpus, r in found.items() for name in names}
    ratios = {
        f"{name}_ratio": spread([b[name] / a[name] for a, b in zip(small, large, strict=True)])
        for name in ("first_step_s", "anonymous_mb")
    }
    last = [one["last_block_s"] / one["first_block_s"] for one in large]
    return by_corpus | ratios | {"last_block_over_first": spread(last), "rounds": found}


if __name__ == "__main__":
    main()
