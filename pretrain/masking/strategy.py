"""What a masking strategy defines.

Letters: T tokens in the micro-batch, N sequences, K chosen tokens.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pretrain import ragged


@dataclass(frozen=True)
class Tokens:
    """What a strategy sees of a micro-batch.

    Attributes:
        maskable: True where a token may be masked (special tokens may not), (T,).
        word_starts: True where a token begins a word, (T,).
        cu_seqlens: where each sequence starts, and T last, (N + 1,).
    """

    maskable: np.ndarray
    word_starts: np.ndarray
    cu_seqlens: np.ndarray

    def sequence_of(self, positions: np.ndarray) -> np.ndarray:
        """The sequence that each position is in."""
        return ragged.containing(self.cu_seqlens, positions)


class Choose(Protocol):
    """Chooses what to predict in a micro-batch."""

    def __call__(
        self, tokens: Tokens, rate: float, bernoulli: bool, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Choose units of tokens at random: on average, up to rounding, a given share of each sequence's tokens.

        Args:
            tokens: those of the micro-batch.
            rate: share of the maskable tokens to choose, in (0, 1].
            bernoulli: draw each unit independently. Otherwise single tokens meet each sequence's share exactly, up to
                rounding; longer units scatter around it, less than independent ones would.
            rng: the generator of this micro-batch's masks.

        Returns:
            Chosen positions, ascending, (K,), and the unit each belongs to, numbered from 0 in order, (K,): a unit's
            tokens are replaced alike.
        """


@dataclass(frozen=True)
class Strategy:
    """Which tokens are predicted.

    Attributes:
        choose: the drawing.
        longest_words: maximum words masked as a unit, checked by the audit; None if units need not be whole words.
        rule: incremented when masking.count=fixed gives the same text other masks (bernoulli never did); runs are not
            resumed across that.
    """

    choose: Choose
    longest_words: int | None = None
    rule: int = 1
