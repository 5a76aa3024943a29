"""What a sentence objective defines."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pretrain.examples import Cutting, Examples, Text
from pretrain.token_source import TokenSource


@dataclass(frozen=True)
class NegativeSource:
    """What negatives may be drawn from.

    Attributes:
        source: the corpus.
        documents: numbers of the documents to draw from.
        negatives: a name from the objective's own choices.
        cutting: how examples are cut from documents, including those that negatives are taken from.
    """

    source: TokenSource
    documents: np.ndarray
    negatives: str
    cutting: Cutting


@dataclass(frozen=True)
class SentenceObjective:
    """How pairs are labelled.

    Attributes:
        labels: number of classes; 0 where there is nothing to learn from the pair.
        replaces_b: whether label 1 means that B was replaced by another text.
        arrange: (examples, text, pool, rng) -> (examples, text, tally): makes the labels true.
    """

    labels: int
    replaces_b: bool
    arrange: Callable[[Examples, Text, NegativeSource, np.random.Generator], tuple[Examples, Text, dict[str, int]]]
