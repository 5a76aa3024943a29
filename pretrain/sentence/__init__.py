"""Which B follows A, and the label. An objective is one file with an OBJECTIVE and one line here.

Where an objective takes a random B from is one of NEGATIVES: a function that draws it, and one line here.
"""

from pretrain.sentence import none, nsp, same_document, sop
from pretrain.sentence.objective import Negatives

SENTENCE = {"nsp": nsp.OBJECTIVE, "sop": sop.OBJECTIVE, "none": none.OBJECTIVE}

NEGATIVES = {
    "other_document": Negatives(nsp.from_training_split, own_document=False),
    "same_document": Negatives(nsp.from_own_document, other_documents=False, rule=same_document.RULE),
    "same_file": Negatives(nsp.from_own_file, own_document=False, other_files=False),
    "anywhere": Negatives(nsp.from_training_split),
}
