"""The corpus' own lines, tokenised on demand: nothing on disk, the same batches, slower."""

from collections import OrderedDict

import numpy as np

from bert.tokenizer import EncodedLines, Tokenizer
from pretrain import ragged
from pretrain.corpus import Corpus
from pretrain.token_source import TokenSource


class OnTheFly(TokenSource):
    """Reads lines through the corpus' reader and tokenises them; caches the most recent documents.

    Attributes:
        remembered: tokens in them at most, besides those of the request at hand.
    """

    remembered = 10_000_000

    def __init__(self, corpus: Corpus, tokenizer: Tokenizer) -> None:
        super().__init__(corpus)
        self.tokenizer = tokenizer
        self._latest: OrderedDict[int, EncodedLines] = OrderedDict()
        self._tokens = 0  # in them

    def __reduce__(self) -> tuple:
        return type(self), (self.corpus, self.tokenizer)  # another process caches documents of its own

    def counts(self, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Tokens of each sentence in the ranges, concatenated."""
        return np.concatenate([encoded.lengths[a:b] for encoded, a, b in self._ranges(first, last)])

    def read(self, first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids and word starts of the ranges' tokens, concatenated."""
        ids, word_starts = [], []
        for encoded, a, b in self._ranges(first, last):
            tokens = ragged.offsets(encoded.lengths)
            ids.append(encoded.ids[tokens[a] : tokens[b]])
            word_starts.append(encoded.word_starts[tokens[a] : tokens[b]])
        return np.concatenate(ids), np.concatenate(word_starts)

    def _ranges(self, first: np.ndarray, last: np.ndarray):
        documents = self.document_of(first)
        self._encode(documents)
        begins = self.sentence_offsets[documents]
        for document, a, b in zip(documents.tolist(), first - begins, last - begins, strict=True):
            yield self._latest[document], a, b

    def _encode(self, documents: np.ndarray) -> None:
        wanted = [d for d in np.unique(documents).tolist() if d not in self._latest]
        self.corpus.expect(np.array(wanted, np.int64))
        texts = [self.corpus.sentences(document) for document in wanted]
        encoded = self.tokenizer.encode_documents(texts)
        lines = ragged.offsets(np.array([len(text) for text in texts], np.int64))
        tokens = ragged.offsets(encoded.lengths)
        for document, a, b in zip(wanted, lines[:-1], lines[1:], strict=True):
            of_document = slice(tokens[a], tokens[b])
            parts = encoded.ids[of_document], encoded.word_starts[of_document], encoded.lengths[a:b]
            self._latest[document] = EncodedLines(*(part.copy() for part in parts))  # a view would keep all of them
            self._tokens += len(parts[0])
        at_hand = np.unique(documents).tolist()
        for document in at_hand:
            self._latest.move_to_end(document)
        while self._tokens > self.remembered and len(self._latest) > len(at_hand):
            self._tokens -= len(self._latest.popitem(last=False)[1].ids)
