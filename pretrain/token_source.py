"""What the sampler reads: tokens addressed by sentence, wherever they come from."""

from abc import ABC, abstractmethod

import numpy as np


class TokenSource(ABC):
    """A tokenised corpus. Sentences are numbered through the whole corpus, documents too.

    Attributes:
        sentence_offsets: sentences before each document, and all of them last, (documents + 1,).
        document_hashes: of each document's text, (documents,), uint64.
        mean_document_bytes: of text, for blocks of a fixed amount of it.
    """

    sentence_offsets: np.ndarray
    document_hashes: np.ndarray
    mean_document_bytes: float

    @abstractmethod
    def counts(self, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Tokens of each sentence of the ranges, end to end; `last` is exclusive: (R,), (R,) -> (sentences,)."""

    @abstractmethod
    def read(self, first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids and word starts of the ranges' tokens, end to end, (T,) each."""

    def document_of(self, sentences: np.ndarray) -> np.ndarray:
        """The document each sentence belongs to."""
        return np.searchsorted(self.sentence_offsets, sentences, side="right") - 1
