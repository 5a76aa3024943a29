"""Two single sentences (Liu et al. 2019, section 4.2, SENTENCE-PAIR)."""

from pretrain.inputs.format import Format


def cut(cumulative: list[int], start: int, target: int, uniform: float) -> tuple[int, int] | None:
    """A sentence and the next one, however short; target and uniform are not needed here."""
    last = len(cumulative) - 1
    return (start + 1, start + 2) if last - start >= 2 else None


FORMAT = Format(segments=2, cut=cut, single_sentences=True)
