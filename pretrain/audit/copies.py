"""Documents with the same text, found by their hashes in memory that does not grow with the corpus.

Letters: D documents.
"""

from collections.abc import Iterator

import numpy as np

_AT_ONCE = 1 << 19
"""About how many documents' hashes are in memory at once; the corpus is scanned once for each this many."""


def duplicates(hashes: np.ndarray, documents: np.ndarray) -> int:
    """How many documents repeat the text of an earlier one.

    Args:
        hashes: of every document's text, uint64, mapped from disk.
        documents: numbers of those to check, (D,).
    """
    distinct = (len(np.unique(_within(hashes, documents, *ends))) for ends in _ranges(len(documents)))
    return len(documents) - sum(distinct)


def copied(hashes: np.ndarray, documents: np.ndarray, of_hashes: np.ndarray, of_documents: np.ndarray) -> int:
    """How many of the first documents are a copy of one of the second; likewise."""
    return sum(
        int(np.isin(_within(hashes, documents, *ends), _within(of_hashes, of_documents, *ends)).sum())
        for ends in _ranges(len(documents) + len(of_documents))
    )


def _ranges(count: int) -> Iterator[tuple[int, int]]:
    """Ranges of hashes with about _AT_ONCE of `count` documents each, since hashes are uniform."""
    ranges = 1 + count // _AT_ONCE
    ends = [number * 2**64 // ranges for number in range(ranges + 1)]
    return zip(ends[:-1], (end - 1 for end in ends[1:]), strict=True)


def _within(hashes: np.ndarray, documents: np.ndarray, lowest: int, highest: int) -> np.ndarray:
    """The documents' hashes from the lowest to the highest."""
    parts = [np.zeros(0, np.uint64)]
    for start in range(0, len(documents), _AT_ONCE):
        some = np.asarray(hashes[documents[start : start + _AT_ONCE]])
        parts.append(some[(some >= np.uint64(lowest)) & (some <= np.uint64(highest))])
    return np.concatenate(parts)
