"""Which tokens are predicted. A strategy is a file with `choose` and a line in MASKING; one of words in LONGEST too."""

from pretrain.masking import ngram, span, token, whole_word

MASKING = {
    "token": token.choose,
    "whole_word": whole_word.choose,
    "ngram": ngram.choose,
    "span": span.choose,
}

LONGEST = {"whole_word": 1, "ngram": ngram.LONGEST, "span": span.LONGEST}
"""Words that are masked as one at most, where words are what counts; the audit holds the sampler to it."""
