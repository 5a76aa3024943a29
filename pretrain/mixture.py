"""How often the files of a corpus are read in an epoch, so that small ones need not drown in large ones.

A file is drawn from in proportion to its size to the power of an exponent (Conneau and Lample 2019, section 3.1, for
languages; multilingual BERT has 0.7). Nothing is left out for that: the largest file is read once, others repeatedly.
"""

import hashlib
from pathlib import Path

import numpy as np

from bert import whole_file
from pretrain.array_cache import GrowingArray
from pretrain.corpus import Corpus
from pretrain.split import OnDisk

_AT_ONCE = 1 << 14  # documents


def times_read(sizes: np.ndarray, exponent: float) -> np.ndarray:
    """How often each file is read in an epoch, at least once; (files,), from sizes of any unit."""
    return (sizes / sizes.max()) ** (exponent - 1.0)


def open_mixture(corpus: Corpus, documents: OnDisk, exponent: float, cache: Path) -> OnDisk:
    """The documents, each as often as its file is read: if that is 2.3 times, 30% of them thrice and the others twice.

    Which ones is decided by their hashes, so that copies are read alike.

    Args:
        corpus: with the files.
        documents: numbers of those to draw from, ascending.
        exponent: from 0 (all files alike) to 1 (as they are).
        cache: where the numbers are written.
    """
    sizes = np.maximum(corpus.text_bytes, 1)
    made_of = [corpus.fingerprint, sizes.tolist(), exponent, len(documents)]
    file = cache / f"mixture-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]}.npy"
    if not file.is_file():
        times = times_read(sizes, exponent)
        with whole_file.replacing(file, shared=True) as unfinished, GrowingArray(unfinished, np.int64) as written:
            for start in range(0, len(documents), _AT_ONCE):
                written.extend(_repeated(corpus, documents[start : start + _AT_ONCE], times))
    return OnDisk(file)


def _repeated(corpus: Corpus, documents: np.ndarray, times: np.ndarray) -> np.ndarray:
    of_each = times[corpus.files_of(documents)]
    # The low bits: by the high ones it is decided what is held out.
    chance = (np.asarray(corpus.document_hashes[documents]) & np.uint64(0xFFFFFFFF)) / 2.0**32
    return np.repeat(documents, (np.floor(of_each) + (chance < of_each % 1.0)).astype(np.int64))


def in_words(corpus: Corpus, exponent: float) -> str:
    """How often the files are read, for the log."""
    sizes = np.maximum(corpus.text_bytes, 1)
    times, shares = times_read(sizes, exponent), sizes**exponent / (sizes**exponent).sum()
    order = np.argsort(-sizes, kind="stable")
    named = [f"{corpus.files.paths[n].name} {times[n]:.2f} times ({shares[n]:.0%} of the text)" for n in order[:8]]
    more = "" if len(order) <= len(named) else f" and {len(order) - len(named):,} smaller ones more often"
    return f"data.exponent={exponent:g}: an epoch reads {', '.join(named)}{more}"
