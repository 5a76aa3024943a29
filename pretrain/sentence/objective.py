"""What a sentence objective defines."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pretrain.examples import Cutting, Examples, Text
from pretrain.token_source import TokenSource


@dataclass(frozen=True)
class Negatives:
    """Where a random B comes from.

    Attributes:
        draw: (examples, text, pool, rng) -> (examples, first, last, tally): the examples that can be kept, a run of
            sentences (first and end) for each of these with label 1, and counts.
        own_document: whether it may be A's own document.
        other_documents: whether it may be another; if not, B's length inevitably reveals a little about the label.
        other_files: whether it may be in another file than A.
        rule: incremented when the same text gets different random Bs; runs are not resumed across that.
    """

    draw: Callable[
        [Examples, Text, "NegativeSource", np.random.Generator],
        tuple[Examples, np.ndarray, np.ndarray, dict[str, int]],
    ]
    own_document: bool = True
    other_documents: bool = True
    other_files: bool = True
    rule: int = 1


@dataclass(frozen=True)
class NegativeSource:
    """What negatives may be drawn from.

    Attributes:
        source: the corpus.
        documents: numbers of the documents to draw from.
        negatives: how they are drawn.
        cutting: how examples are cut from documents, including those that negatives are taken from.
    """

    source: TokenSource
    documents: np.ndarray
    negatives: Negatives
    cutting: Cutting


def _no_facts(pool: NegativeSource) -> dict[str, str]:
    """Not a lambda, which could not be sent to a loader worker."""
    return {}


@dataclass(frozen=True)
class SentenceObjective:
    """How pairs are labelled. All of its functions have names, since it is sent to loader workers.

    Attributes:
        labelled: whether pairs have a label to learn, 0 or 1.
        replaces_b: whether label 1 means that B was replaced by another text.
        arrange: (examples, text, pool, rng) -> (examples, text, tally): makes the labels true.
        options: those of sentence.* that it reads and not every objective does; they are refused with another.
        facts: what its draws depend on besides options, by name: a run is not resumed with others.
    """

    labelled: bool
    replaces_b: bool
    arrange: Callable[[Examples, Text, NegativeSource, np.random.Generator], tuple[Examples, Text, dict[str, int]]]
    options: tuple[str, ...] = ()
    facts: Callable[[NegativeSource], dict[str, str]] = _no_facts
