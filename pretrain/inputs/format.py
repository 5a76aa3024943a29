"""What an input format defines."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """How sentences become examples.

    Attributes:
        segments: 1 or 2.
        cut: see the package's docstring.
        single_sentences: whether each segment is a single sentence.
        crosses_documents: whether an example continues into the next document, after one more [SEP].
    """

    segments: int
    cut: Callable[[list[int], int, int, float], tuple[int, int] | None]
    single_sentences: bool = False
    crosses_documents: bool = False

    @property
    def special_tokens(self) -> int:
        """[CLS], and a [SEP] after each segment."""
        return 1 + self.segments
