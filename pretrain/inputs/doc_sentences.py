"""One segment of whole sentences that never leaves its document (Liu et al. 2019, section 4.2, DOC-SENTENCES)."""

from bisect import bisect_right

from pretrain.inputs.format import Format


def cut(cumulative: list[int], start: int, target: int, uniform: float) -> tuple[int, int] | None:
    """As many sentences as fit the target, at least one; uniform is not needed here."""
    last = len(cumulative) - 1
    if start >= last:
        return None
    end = bisect_right(cumulative, cumulative[start] + target) - 1
    end = max(end, start + 1)
    return end, end


FORMAT = Format(segments=1, cut=cut)
