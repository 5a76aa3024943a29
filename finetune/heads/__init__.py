"""Tagging heads: from token vectors to tags. A head is one file with a module, and one line here.

    head = HEADS[name](hidden_size, num_tags)
    head.loss(hidden, labels, cu_units, smoothing)  # summed over the units, (K, H), (K,), (N + 1,) -> ()
    head.decode(hidden, cu_units, legal)            # the best tags, (K, H), (N + 1,) -> (K,)
    head.log_probability(hidden, tags, cu_units)    # of each sequence's tags, (K, H), (K,), (N + 1,) -> (N,)

K units (tokens that carry a tag) of N sequences are concatenated; cu_units says where each sequence's begin.
"""

from functools import partial

from finetune.heads.crf import CrfHead
from finetune.heads.linear import LinearHead
from finetune.heads.lstm import LstmHead

HEADS = {
    "linear": LinearHead,
    "crf": CrfHead,
    "lstm": partial(LstmHead, tagger=LinearHead),
    "lstm_crf": partial(LstmHead, tagger=CrfHead),
}
AS_TRANSFORMERS = ("linear", "crf")
"""Heads whose linear layer is directly on the encoder, so that BertForTokenClassification can hold it."""
SMOOTHED = ("linear", "lstm")
"""Heads that take label smoothing: those with a loss for each unit."""
