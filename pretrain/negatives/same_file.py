"""Random Bs from another document of A's file: where files differ in language or kind of text, this must not tell."""

from dataclasses import replace

import numpy as np

from pretrain.examples import Examples, Text
from pretrain.negatives.negatives import Drawn, NegativeSource, keep_those_with_a_run
from pretrain.negatives.runs import draw_runs, nearest


def draw(examples: Examples, text: Text, pool: NegativeSource, rng: np.random.Generator) -> Drawn:
    """A run for each example with label 1, as `Negatives.draw` says.

    Every example draws one, and those whose file has nothing else to offer are left out.
    """
    first, last = np.full(len(examples), -1), np.full(len(examples), -1)
    begins = np.searchsorted(pool.documents, pool.source.corpus.file_offsets)  # of each file's documents in the pool
    files = pool.source.file_of(examples.document)
    for file in np.unique(files).tolist():
        of_file = np.flatnonzero(files == file)
        own = replace(pool, documents=pool.documents[begins[file] : begins[file + 1]])
        runs = draw_runs(own, len(of_file), rng)
        if len(np.unique(pool.source.document_hashes[runs.document])) < 2:  # a file of one document, or of its copies
            continue
        chosen = nearest(examples.take(of_file), text, runs, own, rng)
        found = chosen >= 0
        first[of_file[found]], last[of_file[found]] = runs.first[chosen[found]], runs.last[chosen[found]]
    return keep_those_with_a_run(examples, first, last)
