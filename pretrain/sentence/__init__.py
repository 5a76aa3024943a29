"""Which B stands after A, and the label. An objective is one file with an OBJECTIVE and one line here."""

from pretrain.sentence import none, nsp

SENTENCE = {"nsp": nsp.OBJECTIVE, "none": none.OBJECTIVE}
NEGATIVES = nsp.NEGATIVES
