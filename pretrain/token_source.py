"""What the sampler reads: tokens addressed by sentence, wherever they come from."""

from abc import ABC, abstractmethod

import numpy as np

from pretrain import ragged
from pretrain.corpus import Corpus


class TokenSource(ABC):
    """A tokenised corpus. Sentences and documents are numbered through the whole corpus.

    Attributes:
        corpus: its text.
        sentence_offsets: sentences before each document, and the total last, (documents + 1,).
        document_hashes: of each document's text, (documents,), uint64.
        mean_document_bytes: mean size of a document's text, to size blocks by.
    """

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.sentence_offsets = corpus.document_sentences
        self.document_hashes = corpus.document_hashes
        self.mean_document_bytes = corpus.num_bytes / corpus.num_documents

    @abstractmethod
    def counts(self, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Tokens of each sentence in the ranges, concatenated; `last` is exclusive: (R,), (R,) -> (sentences,)."""

    @abstractmethod
    def read(self, first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids and word starts of the ranges' tokens, concatenated, (T,) each."""

    def tokens_in(self, documents: np.ndarray | None = None) -> int | None:
        """Tokens of these documents together, or of all; None where counting them would mean tokenising them."""
        return None

    def sentences_of(self, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The first sentence of each document, and its end (exclusive)."""
        return self.sentence_offsets[documents], self.sentence_offsets[documents + 1]

    def document_of(self, sentences: np.ndarray) -> np.ndarray:
        """The document each sentence belongs to."""
        return ragged.containing(self.sentence_offsets, sentences)

    def file_of(self, documents: np.ndarray) -> np.ndarray:
        """The file each document is in."""
        return self.corpus.files_of(documents)
