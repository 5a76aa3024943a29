import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bert.errors import UserError
from bert.packed import PackedBatch, starts_of
from bert.targets import PerPosition, PerSequence, PerToken, Positions, Starts

lengths_of_batch = st.lists(st.integers(1, 7), min_size=1, max_size=5)


def padded(lengths: list[int], columns: int, left: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids 1, 2, 3, ... over the whole batch, segments 0 and 1, and the mask, (N, S) each; pads are 0."""
    ids = torch.zeros(len(lengths), columns, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        place = slice(columns - length, columns) if left else slice(0, length)
        ids[row, place] = torch.arange(length) + 1 + sum(lengths[:row])
        mask[row, place] = 1
    return ids, mask, (ids % 3 == 0).long() * mask


def test_a_padded_batch_is_laid_end_to_end():
    batch = PackedBatch.from_padded(
        torch.tensor([[5, 6, 0, 0], [7, 8, 9, 4]]),
        torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]]),
        torch.tensor([[0, 1, 0, 0], [0, 0, 1, 1]]),
    )
    assert batch.token_ids.tolist() == [5, 6, 7, 8, 9, 4]
    assert batch.segment_ids.tolist() == [0, 1, 0, 0, 1, 1]
    assert batch.position_ids.tolist() == [0, 1, 0, 1, 2, 3]
    assert (batch.cu_seqlens.tolist(), batch.cu_seqlens.dtype) == ([0, 2, 6], torch.int32)
    assert (batch.num_tokens, batch.num_sequences, batch.max_seqlen) == (6, 2, 4)


def test_a_left_padded_token_keeps_its_column_as_its_position():
    batch = PackedBatch.from_padded(torch.tensor([[0, 0, 5], [7, 8, 9]]), torch.tensor([[0, 0, 1], [1, 1, 1]]))
    assert batch.token_ids.tolist() == [5, 7, 8, 9]
    assert batch.position_ids.tolist() == [2, 0, 1, 2]
    assert batch.cu_seqlens.tolist() == [0, 1, 4]


def test_without_a_mask_every_token_counts_and_without_types_all_are_of_the_first_segment():
    batch = PackedBatch.from_padded(torch.tensor([[0, 6], [7, 0]]))
    assert batch.token_ids.tolist() == [0, 6, 7, 0]
    assert batch.segment_ids.tolist() == [0, 0, 0, 0]
    assert batch.cu_seqlens.tolist() == [0, 2, 4]


@given(lengths_of_batch, st.booleans(), st.integers(0, 3))
def test_packing_and_padding_again_gives_the_tokens_back_on_the_left_edge(lengths, left, extra):
    columns = max(lengths) + extra
    batch = PackedBatch.from_padded(*padded(lengths, columns, left))
    on_the_left, _, segments = padded(lengths, columns, left=False)
    assert torch.equal(batch.to_padded(), on_the_left[:, : max(lengths)])
    assert torch.equal(batch.to_padded(batch.segment_ids), segments[:, : max(lengths)])
    assert batch.cu_seqlens.diff().tolist() == lengths


@given(lengths_of_batch)
def test_vectors_are_padded_with_the_fill_alone(lengths):
    batch = PackedBatch.from_padded(*padded(lengths, max(lengths), left=False))
    values = torch.arange(2.0 * batch.num_tokens).view(-1, 2) + 1
    rectangle = batch.to_padded(values, fill=-1)
    assert rectangle.shape == (len(lengths), max(lengths), 2)
    assert torch.equal(rectangle[rectangle[..., 0] > 0], values)
    assert int((rectangle == -1).all(-1).sum()) == len(lengths) * max(lengths) - batch.num_tokens


def test_a_row_without_a_token_is_refused_by_its_number():
    with pytest.raises(UserError, match=r"^attention_mask: row 1 masks every token\.$"):
        PackedBatch.from_padded(torch.ones(3, 2, dtype=torch.long), torch.tensor([[1, 1], [0, 0], [1, 0]]))


def test_starts_are_the_running_sum_of_the_lengths():
    assert starts_of(torch.tensor([3, 1, 2])).tolist() == [0, 3, 4, 6]


def test_moving_a_batch_takes_its_targets_along():
    batch = PackedBatch.from_padded(torch.tensor([[5, 6]]))
    batch.targets["masked_index"] = torch.tensor([1])
    moved = batch.to("meta")
    tensors = (moved.token_ids, moved.segment_ids, moved.position_ids, moved.cu_seqlens, *moved.targets.values())
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert (moved.max_seqlen, list(moved.targets)) == (2, ["masked_index"])


def test_some_sequences_of_a_batch_with_every_kind_of_target():
    batch = PackedBatch.from_sequences(
        [[10, 11, 12], [20, 21], [30, 31, 32, 33]],
        [[0, 0, 1], [0, 0], [0, 1, 1, 1]],
        max_seqlen=8,
        place_index=torch.tensor([1, 2, 4, 5, 8]),  # 11, 12, 21, 30 and 33
        place_labels=torch.tensor([911, 912, 921, 930, 933]),
        cu_places=torch.tensor([0, 2, 3, 5], dtype=torch.int32),
        row=torch.tensor([100, 200, 300]),
        each=torch.arange(9),
    )
    of_places = {"place_index": Positions(), "place_labels": PerPosition("place_index"), "cu_places": Starts()}
    found = batch.take(torch.tensor([0, 2]), of_places | {"row": PerSequence(), "each": PerToken()})
    assert found.token_ids.tolist() == [10, 11, 12, 30, 31, 32, 33]
    assert found.segment_ids.tolist() == [0, 0, 1, 0, 1, 1, 1]
    assert found.position_ids.tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert (found.cu_seqlens.tolist(), found.cu_seqlens.dtype, found.max_seqlen) == ([0, 3, 7], torch.int32, 8)
    assert {name: target.tolist() for name, target in found.targets.items()} == {
        "place_index": [1, 2, 3, 6],
        "place_labels": [911, 912, 930, 933],
        "cu_places": [0, 2, 4],
        "row": [100, 300],
        "each": [0, 1, 2, 5, 6, 7, 8],
    }


def test_a_target_of_which_nothing_is_said_is_not_guessed_at():
    batch = PackedBatch.from_sequences([[1], [2]], [[0], [0]], new=torch.tensor([1, 2]))
    with pytest.raises(KeyError, match="new"):
        batch.take(torch.tensor([0]), {})
