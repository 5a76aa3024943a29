"""Which tokens are predicted. A strategy is one file with a STRATEGY (its contract: strategy.py) and one line here."""

from pretrain.masking import ngram, span, token, whole_word

MASKING = {
    "token": token.STRATEGY,
    "whole_word": whole_word.STRATEGY,
    "ngram": ngram.STRATEGY,
    "span": span.STRATEGY,
}
