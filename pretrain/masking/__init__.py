"""Which tokens are predicted. A strategy is one file with `choose` and one line here."""

from pretrain.masking import ngram, span, token, whole_word

MASKING = {
    "token": token.choose,
    "whole_word": whole_word.choose,
    "ngram": ngram.choose,
    "span": span.choose,
}
