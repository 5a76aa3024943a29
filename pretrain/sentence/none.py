"""No sentence objective: B, where there is one, truly follows A (Liu et al. 2019, section 4.2)."""

import numpy as np

from pretrain.examples import Examples, Text
from pretrain.sentence.objective import NegativeSource, SentenceObjective


def arrange(
    examples: Examples, text: Text, pool: NegativeSource, rng: np.random.Generator
) -> tuple[Examples, Text, dict[str, int]]:
    """The examples unchanged."""
    return examples, text, {}


OBJECTIVE = SentenceObjective(labelled=False, replaces_b=False, arrange=arrange)
