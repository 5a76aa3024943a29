import torch

from benchmarks.same_work import without_fillers
from bert.packed import PackedBatch
from pretrain.packing import Shape, fill


def test_without_its_fillers_a_batch_is_what_it_was():
    targets = {"masked_index": [1, 3], "masked_labels": [8, 9], "sentence_labels": [0, 1]}
    targets = {name: torch.tensor(values) for name, values in targets.items()}
    batch = PackedBatch.from_sequences([[5, 6], [7, 8, 9]], [[0, 0], [0, 0, 1]], 4, **targets)
    for some in (batch, fill(batch, Shape(tokens=12, sequences=4, masked=3, longest=4))):
        again = without_fillers(some)
        assert (again.token_ids.tolist(), again.segment_ids.tolist()) == ([5, 6, 7, 8, 9], [0, 0, 0, 0, 1])
        assert (again.position_ids.tolist(), again.cu_seqlens.tolist()) == ([0, 1, 0, 1, 2], [0, 2, 5])
        assert {name: values.tolist() for name, values in again.targets.items()} == {
            "masked_index": [1, 3],
            "masked_labels": [8, 9],
            "sentence_labels": [0, 1],
        }
        assert again.real is None
