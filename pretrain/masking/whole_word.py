"""Whole-word masking: all tokens of a word, or none (google-research/bert's whole-word release, 2019)."""

import numpy as np

from pretrain.masking.strategy import Strategy, Tokens
from pretrain.masking.units import draw, words


def choose(tokens: Tokens, rate: float, bernoulli: bool, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Choose words as `strategy.Choose` says, enough for a sequence's share of tokens.

    The expected number of tokens is exact and every word is equally likely, short or long; a sequence of few, long
    words may get none. The release takes words while they fit: too few tokens, and long words too seldom.
    """
    return draw(words(tokens), tokens, rate, bernoulli, rng)


STRATEGY = Strategy(choose, longest_words=1, rule=2)
"""Since rule 2, no word is added where chance gives a sequence none."""
