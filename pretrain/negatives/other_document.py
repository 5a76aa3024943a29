"""Random Bs from anywhere in the training split, where the negatives allow: the true Bs of other pairs."""

import numpy as np

from bert.errors import UserError
from pretrain.examples import Examples, Text
from pretrain.negatives.negatives import Drawn, NegativeSource
from pretrain.negatives.runs import draw_runs, nearest


def draw(examples: Examples, text: Text, pool: NegativeSource, rng: np.random.Generator) -> Drawn:
    """A run for each example with label 1, as `Negatives.draw` says; all examples are kept.

    Raises:
        UserError: the documents have no run that could serve.
    """
    random = examples.take(np.flatnonzero(examples.labels == 1))
    if len(random) == 0:
        return Drawn(examples, np.zeros(0, np.int64), np.zeros(0, np.int64), {})
    runs = draw_runs(pool, len(random), rng)
    if len(runs) == 0:
        raise UserError(
            "sentence.objective: nsp needs documents of at least two sentences, and hardly any has them. In a text "
            "file blank lines separate documents, and each line is a sentence unless data.split_sentences=true."
        )
    chosen = nearest(random, text, runs, pool, rng)
    if (chosen < 0).any():
        raise UserError(
            "sentence.objective: nsp found no random B that is not the true one; it needs more documents of two "
            "sentences or more, and copies do not count."
        )
    return Drawn(examples, runs.first[chosen], runs.last[chosen], {})
