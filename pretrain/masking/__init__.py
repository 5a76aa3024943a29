"""Which tokens are predicted. A strategy is a file with `choose` and a line in MASKING (and LONGEST, if by words)."""

from pretrain.masking import ngram, span, token, whole_word

MASKING = {
    "token": token.choose,
    "whole_word": whole_word.choose,
    "ngram": ngram.choose,
    "span": span.choose,
}

LONGEST = {"whole_word": 1, "ngram": ngram.LONGEST, "span": span.LONGEST}
"""Maximum words masked as a unit, for strategies that mask words; checked by the audit."""
