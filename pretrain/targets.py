"""The targets of pretraining's batches, as Block.micro_batch makes them; sentence labels only where pairs have some.

A micro-batch of fixed shape (pretrain/packing.py) has room for one set of positions, the masked ones.
"""

from bert.targets import PerPosition, PerSequence, Positions, Target

TARGETS: dict[str, Target] = {
    "masked_index": Positions(),
    "masked_labels": PerPosition("masked_index"),
    "sentence_labels": PerSequence(),
}
