"""Two segments of one or more sentences each (Devlin et al. 2019, appendix A.2)."""

from bisect import bisect_left

from pretrain.inputs.format import Format


def cut(cumulative: list[int], start: int, target: int, uniform: float) -> tuple[int, int] | None:
    """Sentences until the target is reached, split into A and B at a random sentence boundary.

    Always at least two sentences, however long the first, so that B can follow A in every example; the paper's code
    forces a random B on a chunk of one sentence, which makes random pairs longer, and more than half.
    """
    last = len(cumulative) - 1
    if last - start < 2:
        return None
    end = bisect_left(cumulative, cumulative[start] + target, start + 1)
    end = min(max(end, start + 2), last)
    return start + 1 + int(uniform * (end - start - 1)), end


FORMAT = Format(segments=2, cut=cut)
