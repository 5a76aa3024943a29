"""N-gram masking: one to three whole words, shorter ones more often (Lan et al. 2020, ALBERT, section 4.1)."""

from functools import partial

import numpy as np

from pretrain.masking.strategy import Strategy
from pretrain.masking.units import choose_spans

LONGEST = 3
_LENGTHS = np.arange(1, LONGEST + 1)
_CHANCES = (1 / _LENGTHS) / (1 / _LENGTHS).sum()
"""Probability of each length in words: 6/11, 3/11, 2/11."""

STRATEGY = Strategy(partial(choose_spans, _CHANCES), longest_words=LONGEST)
