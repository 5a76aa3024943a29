"""How each target lines up with the batch (per sequence, token or position), so that a batch can be split or filled up
without knowing the task.

An objective describes its targets once:

    targets = {"masked_index": Positions(), "masked_labels": PerPosition("masked_index"), "class_labels": PerSequence()}

Letters: T tokens in the batch, N sequences, K positions.
"""

from dataclasses import dataclass

IGNORED = -100
"""A label that no loss and no metric counts."""


@dataclass(frozen=True)
class PerSequence:
    """A value for each sequence, (N, ...).

    Args:
        padding: a filler's value, in a batch of fixed shape.
    """

    padding: int = IGNORED


@dataclass(frozen=True)
class PerToken:
    """A value for each token, (T, ...).

    Args:
        padding: that of a filler's tokens.
    """

    padding: int = IGNORED


@dataclass(frozen=True)
class Positions:
    """Tokens of which something is to be predicted, as positions in the flat batch, (K,).

    Args:
        padding: any token will do, if what `PerPosition` says of it is ignored.
    """

    padding: int = 0


@dataclass(frozen=True)
class PerPosition:
    """A value for each position that another target holds, (K, ...).

    Args:
        positions: the name of that target.
        padding: the value where there is nothing to predict.
    """

    positions: str
    padding: int = IGNORED


@dataclass(frozen=True)
class Starts:
    """How many positions there are before each sequence's own, and K last, (N + 1,); like `cu_seqlens` for tokens."""


Target = PerSequence | PerToken | Positions | PerPosition | Starts
