"""What a sentence objective defines."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pretrain.examples import Examples, Text
from pretrain.negatives.negatives import NegativeSource


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
