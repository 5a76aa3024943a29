import contextlib
import math

import pytest
import torch

from bert.packed import PackedBatch
from bert.training.evaluation import evaluate
from tests.training.conftest import Toy, batch_of

CPU = torch.device("cpu")


class Lengths(Toy):
    """Sums that can be read off a batch, and its ids as rows."""

    def counts(self, batch: PackedBatch) -> dict[str, float]:
        return {"mean_id": batch.num_tokens, "mean_length": batch.num_sequences}

    def forward(self, batch: PackedBatch) -> dict[str, torch.Tensor]:
        dropped = self.dropout(torch.ones(batch.num_tokens))
        return {"mean_id": (batch.token_ids * dropped).sum(), "mean_length": torch.tensor(float(batch.num_tokens))}

    def judge(self, batch: PackedBatch) -> tuple[dict[str, torch.Tensor], list[dict]]:
        return self(batch), [{"id": number} for number in batch.token_ids.tolist()]


def judge(objective, *batches: PackedBatch) -> dict[str, float]:
    return evaluate(objective, batches, CPU, contextlib.nullcontext())[0]


def test_sums_are_divided_once_by_counts_over_the_whole_split():
    # Ids 1 | 5 6 7 | 2: means of means would be (1 + 6 + 2) / 3 = 3; over all tokens it is 21 / 5.
    found = judge(Lengths(), batch_of([1]), batch_of([5, 6], [7]), batch_of([2]))
    assert found == {"mean_id": 21 / 5, "mean_length": 5 / 4}


def test_a_mean_over_nothing_is_no_number():
    class Labelled(Lengths):
        def counts(self, batch):
            return super().counts(batch) | {"label_loss": 0}

        def forward(self, batch):
            return super().forward(batch) | {"label_loss": torch.tensor(0.0)}

    found = judge(Labelled(), batch_of([1, 3]))
    assert found["mean_id"] == 2.0 and math.isnan(found["label_loss"])


def test_how_the_split_is_cut_into_batches_does_not_matter():
    sequences = [[1, 2, 3], [4], [5, 6], [7, 8, 9, 0]]
    whole = judge(Toy(), batch_of(*sequences))
    for cuts in ((1, 2), (2,), (1, 2, 3), (3,)):
        pieces = [sequences[a:b] for a, b in zip((0, *cuts), (*cuts, 4), strict=True)]
        assert judge(Toy(), *(batch_of(*piece) for piece in pieces)) == pytest.approx(whole, rel=1e-6)


def test_dropout_is_off_and_the_mode_is_put_back():
    objective = Lengths(dropout=0.9)
    assert objective.training
    assert judge(objective, batch_of([1, 3]))["mean_id"] == 2.0
    assert objective.training
    judge(objective.eval(), batch_of([1, 3]))
    assert not objective.training


def test_nothing_is_kept_for_a_backward_pass():
    objective = Toy()
    seen = []
    objective.register_forward_hook(lambda module, inputs, output: seen.append(output["token_loss"].requires_grad))
    judge(objective, batch_of([1]))
    assert seen == [False]


def test_a_long_split_adds_up_without_losing_digits():
    class Ones(Lengths):
        def forward(self, batch):
            return {"mean_id": torch.tensor(2.0**24 if batch.num_sequences == 2 else 1.0)}

    # In single precision 2^24 + 1 is 2^24: the sum would stand still.
    found = judge(Ones(), batch_of([1], [1]), *[batch_of([1])] * 98)
    assert found["mean_id"] == (2**24 + 98) / 100


def test_the_rows_of_all_batches_are_given_in_their_order():
    _, rows = evaluate(Lengths(), [batch_of([1]), batch_of([5, 6], [7]), batch_of([2])], CPU, contextlib.nullcontext())
    assert rows == [{"id": number} for number in (1, 5, 6, 7, 2)]


def test_a_split_without_a_batch_has_no_means_and_no_rows():
    assert evaluate(Lengths(), [], CPU, contextlib.nullcontext()) == ({}, [])
