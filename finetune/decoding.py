"""Viterbi decoding of all sequences at once.

Letters: K units, N sequences, S most units of a sequence, L tags.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


class Padding:
    """Where each of K concatenated units goes in an (N, S) rectangle, each sequence flush left.

    Args:
        cu_units: where each sequence's units begin, and K last, (N + 1,).
    """

    def __init__(self, cu_units: Tensor) -> None:
        self.lengths = cu_units.diff()
        longest = int(self.lengths.max())
        self.inside = torch.arange(longest, device=cu_units.device) < self.lengths[:, None]  # (N, S)

    @cached_property
    def cells(self) -> Tensor:
        """Each unit's index in the flattened rectangle, (K,)."""
        return self.inside.flatten().nonzero().flatten()

    def pad(self, values: Tensor) -> Tensor:
        """(K, ...) -> (N, S, ...), zero outside."""
        empty = values.new_zeros(self.inside.numel(), *values.shape[1:])
        return empty.index_copy(0, self.cells, values).view(*self.inside.shape, *values.shape[1:])

    def unpad(self, values: Tensor) -> Tensor:
        """(N, S, ...) -> (K, ...)."""
        return values.flatten(0, 1).index_select(0, self.cells)


@dataclass(frozen=True)
class Scores:
    """A path's scores besides its emissions.

    Attributes:
        transitions: from a tag (row) to the next (column), (L, L).
        start, end: of the first and the last tag, (L,), or one for each sequence, (N, L).
    """

    transitions: Tensor
    start: Tensor
    end: Tensor

    def __add__(self, other: "Scores") -> "Scores":
        return Scores(self.transitions + other.transitions, self.start + other.start, self.end + other.end)

    def for_windows(self, begins: Tensor, ends: Tensor) -> "Scores":
        """The same, with start and end scores 0 at window edges that do not begin or end a text: (N,), (N,)."""
        start, end = (
            torch.where(edge[:, None], of_edge.to(edge.device), 0.0)
            for edge, of_edge in ((begins, self.start), (ends, self.end))
        )
        return Scores(self.transitions.to(begins.device), start, end)


def forbidding(labels: list[str], follows: Callable[[str, str], bool]) -> Scores:
    """Minus infinity where one tag may not follow another; O is before the first and after the last."""
    cost = torch.tensor([[0.0 if follows(before, tag) else -torch.inf for tag in labels] for before in labels])
    outside = labels.index("O")
    return Scores(cost, cost[outside], cost[:, outside])


def viterbi(emissions: Tensor, inside: Tensor, scores: Scores) -> Tensor:
    """The tags of each sequence's highest-scoring path (Forney 1973): (N, S, L), (N, S) -> (N, S).

    Backtracking runs over all sequences at once: where one has no unit, its tag points to itself.
    """
    longest, tags = emissions.shape[1:]
    stay = torch.arange(tags, device=emissions.device).expand(len(emissions), tags)
    best, came_from = scores.start + emissions[:, 0], []  # (N, L)
    for place in range(1, longest):
        earned, before = (best[:, :, None] + scores.transitions).max(1)  # (N, L)
        here = inside[:, place, None]
        best = torch.where(here, earned + emissions[:, place], best)
        came_from.append(torch.where(here, before, stay))
    path = [(best + scores.end).argmax(1, keepdim=True)]  # (N, 1)
    for before in reversed(came_from):
        path.append(before.gather(1, path[-1]))
    return torch.cat(path[::-1], 1)
