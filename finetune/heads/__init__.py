"""What turns token vectors into tags. A head is one file with a module, and one line here.

    head = HEADS[name](hidden_size, num_tags)
    head.loss(hidden, labels, cu_units)   # summed over the units, (K, H), (K,), (N + 1,) -> ()
    head.decode(hidden, cu_units)         # (K, H), (N + 1,) -> (K,)

K units (tokens that carry a tag) of N sequences lie end to end; cu_units says where each sequence's begin.
"""

from finetune.heads import crf, linear

HEADS = {"linear": linear.LinearHead, "crf": crf.CrfHead}
