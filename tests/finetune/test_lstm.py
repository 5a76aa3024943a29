import pytest
import torch

from finetune.heads.linear import LinearHead
from finetune.heads.lstm import LstmHead

CU_UNITS = torch.tensor([0, 3, 4, 8])


@pytest.fixture
def head() -> LstmHead:
    torch.manual_seed(0)
    return LstmHead(6, 3, LinearHead)


def alone(head: LstmHead, hidden: torch.Tensor) -> torch.Tensor:
    """The LSTM over each sequence by itself, (K, H)."""
    bounds = zip(CU_UNITS.tolist(), CU_UNITS[1:].tolist(), strict=False)
    return torch.cat([head.lstm(hidden[None, start:end])[0][0] for start, end in bounds])


def test_units_meet_those_of_their_own_sequence_alone(head):
    hidden, labels = torch.randn(8, 6), torch.randint(0, 3, (8,))
    expected = head.tagger.loss(alone(head, hidden), labels, CU_UNITS)
    torch.testing.assert_close(head.loss(hidden, labels, CU_UNITS), expected)


def test_under_autocast_it_computes_in_fp32(head):
    hidden, labels = torch.randn(8, 6).bfloat16(), torch.randint(0, 3, (8,))
    expected = head.tagger.loss(alone(head, hidden.float()), labels, CU_UNITS)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(head.loss(hidden, labels, CU_UNITS), expected)
