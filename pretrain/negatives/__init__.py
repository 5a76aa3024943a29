"""Where a random B comes from. One file with a draw function, and one line here."""

from pretrain.negatives import other_document, same_document, same_file
from pretrain.negatives.negatives import Negatives
from pretrain.negatives.runs import RULE

NEGATIVES = {
    "other_document": Negatives(other_document.draw, own_document=False, rule=RULE),
    "same_document": Negatives(same_document.draw, other_documents=False, rule=same_document.RULE),
    "same_file": Negatives(same_file.draw, own_document=False, other_files=False, rule=RULE),
    "anywhere": Negatives(other_document.draw, rule=RULE),
}
