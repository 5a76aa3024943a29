"""The source of every random draw of the sampler: keyed by purpose and place, independent of what ran before.

So any block of any epoch can be built on its own, by any worker, and one purpose's draws never affect another's.
"""

import numpy as np

ORDER, PAIRS, MASKS = 1, 2, 3

_WORD = 2**64 - 1


def generator(seed: int, purpose: int, epoch: int, block: int, micro_batch: int = 0) -> np.random.Generator:
    """The generator of one purpose (ORDER, PAIRS, MASKS) at one place (Salmon et al. 2011: Philox, counter-based).

    Pairs and order are keyed by the block, masks also by the micro-batch.
    """
    key = np.array([seed, purpose], np.uint64)
    counter = np.array([0, micro_batch, epoch, block], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


class Permutation:
    """A keyed permutation of 0 .. size-1 whose memory does not grow with size.

    A Feistel network over the smallest even number of bits that holds size, walked until it lands inside (Black and
    Rogaway 2002, sections 4 and 5).
    """

    ROUNDS = 6

    def __init__(self, size: int, seed: int, epoch: int) -> None:
        self.size = size
        self._half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
        self._mask = np.uint64((1 << self._half) - 1)
        self._keys = generator(seed, ORDER, epoch, _WORD).integers(0, 2**64, self.ROUNDS, np.uint64)

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """Where each place of the permuted order comes from: (P,) -> (P,), int64."""
        numbers = self._network(np.asarray(places, np.uint64))
        outside = numbers >= self.size
        while outside.any():
            numbers[outside] = self._network(numbers[outside])
            outside = numbers >= self.size
        return numbers.astype(np.int64)

    def _network(self, numbers: np.ndarray) -> np.ndarray:
        half = np.uint64(self._half)
        left, right = numbers >> half, numbers & self._mask
        for key in self._keys:
            left, right = right, left ^ (_mix(right ^ key) & self._mask)
        return (left << half) | right


def _mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele et al. 2014, figure 12), modulo 2**64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
