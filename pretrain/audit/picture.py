"""The audit as a picture."""

from pathlib import Path

import numpy as np

from bert.picture import blank, save
from pretrain.audit.checks import Check
from pretrain.audit.measures import BUCKETS, Measures


def draw(measures: Measures, checks: list[Check], path: Path) -> None:
    """Draw sequence lengths with the share of label 1 at each, and how many words are masked as a unit."""
    figure = blank(9, 3.6)
    lengths, units = figure.subplots(1, 2)
    buckets = np.arange(1, BUCKETS + 1)
    lengths.bar(buckets, measures.lengths, color="lightgrey")
    lengths.set_xlabel("sequence length, in eighths of the longest")
    lengths.set_ylabel("sequences")
    pairs = measures.labels_by_length.sum(1)
    if pairs.any():
        shares = lengths.twinx()
        shares.plot(buckets[pairs > 0], measures.labels_by_length[pairs > 0, 1] / pairs[pairs > 0], "o-")
        shares.set_ylim(0, 1)
        shares.set_ylabel("share of label 1")
    words = sorted(length for length, count in measures.span_lengths.items() if count)
    units.bar(words, [measures.span_lengths[length] for length in words])
    units.set_xlabel("words masked as one")
    units.set_ylabel("units")
    breaches = [check.name for check in checks if check.breach]
    figure.suptitle(f"breach: {', '.join(breaches)}" if breaches else "no breach")
    save(figure, path)
