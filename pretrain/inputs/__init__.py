"""How a document's sentences are cut into examples of one or two segments.

An input format is one file with a Format and one line here. Its `cut` says where the next example ends:

    cut(cumulative, start, target, uniform) -> (A's end, B's end), or None if too little is left for an example

with sentences as indices, ends exclusive, and `cumulative[i]` the document's tokens before sentence i. With one segment
B is empty: both ends are the same.
"""

from pretrain.inputs import doc_sentences, full_sentences, segment_pair, sentence_pair

INPUTS = {
    "segment_pair": segment_pair.FORMAT,
    "sentence_pair": sentence_pair.FORMAT,
    "doc_sentences": doc_sentences.FORMAT,
    "full_sentences": full_sentences.FORMAT,
}
