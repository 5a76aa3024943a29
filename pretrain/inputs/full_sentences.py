"""One segment of whole sentences that may cross documents (Liu et al. 2019, section 4.2, FULL-SENTENCES)."""

from pretrain.inputs.doc_sentences import cut
from pretrain.inputs.format import Format

FORMAT = Format(segments=1, cut=cut, crosses_documents=True)
