"""Concatenated ranges of different lengths: these keep the sampler free of Python loops over tokens."""

import numpy as np


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """start, start + 1, ... of each range, one range after another: (R,), (R,) -> (lengths.sum(),)."""
    shift = starts - offsets(lengths)[:-1]
    return np.repeat(shift, lengths) + np.arange(int(lengths.sum()))


def offsets(lengths: np.ndarray) -> np.ndarray:
    """Where each range starts when they are concatenated, and the total last: (R,) -> (R + 1,), int64."""
    total = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=total[1:])
    return total


def containing(offsets: np.ndarray, places: np.ndarray | int) -> np.ndarray:
    """The range that each place is in, from where the ranges start: (R + 1,), (P,) -> (P,). An empty one has none."""
    return np.searchsorted(offsets, places, side="right") - 1
