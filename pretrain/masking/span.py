"""Span masking: runs of whole words, of geometric length (Joshi et al. 2020, SpanBERT, section 3.1).

The paper draws spans one by one until the share is reached and cuts the last one. Here a sequence is divided into spans
first, and only its end or that of a segment cuts one, so lengths stay geometric, and the share is reached on average.
"""

from functools import partial

import numpy as np

from pretrain.masking.strategy import Strategy
from pretrain.masking.units import choose_spans

P, LONGEST = 0.2, 10
_LENGTHS = np.arange(1, LONGEST + 1)
_CHANCES = P * (1 - P) ** (_LENGTHS - 1) / (1 - (1 - P) ** LONGEST)
"""Probability of each length in words: geometric, cut at LONGEST and normalised, as in the paper's code; mean 3.8."""

STRATEGY = Strategy(partial(choose_spans, _CHANCES), longest_words=LONGEST)
