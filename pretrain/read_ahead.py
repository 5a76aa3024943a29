"""Having the system read parts of mapped files in one go, before they are accessed.

Accessed one by one, scattered ranges of a large file are waited for one by one; and with each the system reads
megabytes around it that are not needed. Where it takes no such advice nothing changes.
"""

import mmap
from contextlib import suppress

import numpy as np


def read_ahead(array: np.memmap, first: np.ndarray, last: np.ndarray) -> None:
    """Read ranges of an array's rows ahead.

    Args:
        array: mapped, of 1 or more dimensions, with contiguous rows.
        first, last: of each range; `last` is exclusive.
    """
    lead = array.offset % mmap.ALLOCATIONGRANULARITY  # a map starts at a page boundary, the array at its offset
    read_bytes_ahead(array.base, lead + first * array.strides[0], lead + last * array.strides[0])


def read_bytes_ahead(mapped: mmap.mmap, first: np.ndarray, last: np.ndarray) -> None:
    """Read ranges of a map's bytes ahead; `last` is exclusive."""
    first, last = first[last > first], last[last > first]
    if not hasattr(mmap, "MADV_WILLNEED") or not len(first):
        return
    order = np.argsort(first)
    begins, ends = first[order] // mmap.PAGESIZE * mmap.PAGESIZE, np.maximum.accumulate(last[order])
    apart = begins[1:] > ends[:-1]  # the others are merged with the one before
    for begin, end in zip(begins[np.r_[True, apart]].tolist(), ends[np.r_[apart, True]].tolist(), strict=True):
        with suppress(OSError):
            mapped.madvise(mmap.MADV_WILLNEED, begin, end - begin)
