"""Which B follows A, and the label. An objective is one file with an OBJECTIVE and one line here."""

from pretrain.sentence import none, nsp, sop

SENTENCE = {"nsp": nsp.OBJECTIVE, "sop": sop.OBJECTIVE, "none": none.OBJECTIVE}
