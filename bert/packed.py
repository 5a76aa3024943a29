"""The only batch format: sequences end to end, without padding.

Letters: T tokens in the batch, N sequences, S longest sequence.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

import torch
from torch import Tensor

from bert.errors import UserError
from bert.targets import PerPosition, PerSequence, PerToken, Positions, Starts, Target


@dataclass(frozen=True)
class PackedBatch:
    """N sequences laid end to end.

    Args:
        token_ids: (T,), int64.
        segment_ids: 0 for the first segment of a sequence, 1 for the second, (T,).
        position_ids: place of the token in its sequence, (T,).
        cu_seqlens: where each sequence starts, and T last, (N + 1,), int32.
        max_seqlen: an upper bound on the sequences' lengths; in pretraining a constant of the run.
        targets: what the objective needs, by name.
        real: how many tokens and how many sequences are not fillers, in a batch of fixed shape, where fillers come last
            and count for nothing; None where there are none.
    """

    token_ids: Tensor
    segment_ids: Tensor
    position_ids: Tensor
    cu_seqlens: Tensor
    max_seqlen: int
    targets: dict[str, Tensor] = field(default_factory=dict)
    real: tuple[int, int] | None = None

    @property
    def num_tokens(self) -> int:
        """T."""
        return self.token_ids.shape[0]

    @property
    def num_sequences(self) -> int:
        """N."""
        return self.cu_seqlens.shape[0] - 1

    @property
    def real_tokens(self) -> int:
        """T without fillers: what counts."""
        return self.num_tokens if self.real is None else self.real[0]

    @property
    def real_sequences(self) -> int:
        """N without fillers: what counts."""
        return self.num_sequences if self.real is None else self.real[1]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "PackedBatch":
        """The same batch on another device.

        Args:
            device: where to.
            non_blocking: whether to return before the copy is done. Copies to a GPU overlap its work only from pinned
                memory, so the batch is pinned first.
        """
        if non_blocking and torch.device(device).type == "cuda":
            return self.map(lambda tensor: tensor.pin_memory().to(device, non_blocking=True))
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def take(self, sequences: Tensor, described: dict[str, Target]) -> "PackedBatch":
        """Some of its sequences, without fillers.

        Args:
            sequences: their numbers, ascending, (n,).
            described: what each target has a value for, by name.
        """
        starts, lengths = self.cu_seqlens[sequences].long(), self.cu_seqlens.diff()[sequences].long()
        cu_seqlens = starts_of(lengths)
        shift = starts - cu_seqlens[:-1]
        tokens = torch.arange(int(cu_seqlens[-1])) + shift.repeat_interleave(lengths)  # (t,), their old places
        place = torch.full((self.num_tokens,), -1)
        place[tokens] = torch.arange(len(tokens))

        def taken(values: Tensor, target: Target) -> Tensor:
            match target:
                case PerSequence():
                    return values[sequences]
                case PerToken():
                    return values[tokens]
                case Positions():
                    places = place[values]
                    return places[places >= 0]
                case PerPosition(positions):
                    return values[place[self.targets[positions]] >= 0]
                case Starts():
                    return starts_of(values.diff()[sequences])
            assert_never(target)

        return PackedBatch(
            token_ids=self.token_ids[tokens],
            segment_ids=self.segment_ids[tokens],
            position_ids=self.position_ids[tokens],
            cu_seqlens=cu_seqlens,
            max_seqlen=self.max_seqlen,
            targets={name: taken(values, described[name]) for name, values in self.targets.items()},
        )

    def map(self, change: Callable[[Tensor], Any]) -> "PackedBatch":
        """The batch with each of its tensors changed."""
        return replace(
            self,
            token_ids=change(self.token_ids),
            segment_ids=change(self.segment_ids),
            position_ids=change(self.position_ids),
            cu_seqlens=change(self.cu_seqlens),
            targets={name: change(tensor) for name, tensor in self.targets.items()},
        )

    @staticmethod
    def from_sequences(
        token_ids: list[list[int]], segment_ids: list[list[int]], max_seqlen: int | None = None, **targets: Tensor
    ) -> "PackedBatch":
        """Lay sequences end to end.

        Args:
            token_ids, segment_ids: of each sequence, equally long.
            max_seqlen: an upper bound on their lengths; by default the longest.
            targets: what the objective needs, by name.
        """
        lengths = [len(sequence) for sequence in token_ids]
        return PackedBatch(
            token_ids=torch.tensor([number for sequence in token_ids for number in sequence]),
            segment_ids=torch.tensor([number for sequence in segment_ids for number in sequence]),
            position_ids=torch.cat([torch.arange(length) for length in lengths]),
            cu_seqlens=starts_of(torch.tensor(lengths)),
            max_seqlen=max_seqlen or max(lengths),
            targets=targets,
        )

    @staticmethod
    def from_padded(
        input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> "PackedBatch":
        """Pack a padded batch, as transformers has it.

        Each token keeps its column as its position, so that left padding agrees with transformers too (except for
        pooled outputs: transformers pools column 0, which is a pad there).

        Args:
            input_ids, attention_mask, token_type_ids: (N, S). A mask of 1 and 0; by default all 1.

        Raises:
            UserError: a sequence without a token.
        """
        inside = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
        lengths = inside.sum(1)  # (N,)
        if not bool((lengths > 0).all()):
            raise UserError(f"attention_mask: row {int(lengths.argmin())} masks every token.")
        segments = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        columns = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        return PackedBatch(
            token_ids=input_ids[inside],
            segment_ids=segments[inside],
            position_ids=columns[inside],
            cu_seqlens=starts_of(lengths),
            max_seqlen=input_ids.shape[1],
        )

    def to_padded(self, values: Tensor | None = None, fill: float = 0) -> Tensor:
        """(T, ...) -> (N, S, ...), each sequence from column 0 on; by default the token ids."""
        values = self.token_ids if values is None else values
        lengths = self.cu_seqlens.diff()
        columns = torch.arange(int(lengths.max()), device=values.device)
        inside = columns < lengths[:, None]  # (N, S)
        padded = values.new_full((*inside.shape, *values.shape[1:]), fill)
        padded[inside] = values
        return padded


def starts_of(lengths: Tensor) -> Tensor:
    """Lengths (N,) -> cumulative starts (N + 1,), int32."""
    return torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).int()
