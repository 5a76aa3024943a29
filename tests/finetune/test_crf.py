"""The CRF against every path written out. Letters as in finetune/heads/crf.py."""

import itertools

import pytest
import torch

from finetune.heads.crf import CrfHead


def score(head: CrfHead, hidden: torch.Tensor, tags: tuple[int, ...]) -> torch.Tensor:
    """Of one path of one sequence, by the definition (Lafferty et al. 2001, equation 1)."""
    emissions = head.classifier(hidden)
    total = head.crf.start_transitions[tags[0]] + head.crf.end_transitions[tags[-1]]
    total = total + sum(emissions[place, tag] for place, tag in enumerate(tags))
    return total + sum(head.crf.transitions[a, b] for a, b in itertools.pairwise(tags))


@pytest.fixture
def head() -> CrfHead:
    torch.manual_seed(0)
    head = CrfHead(4, 3)
    torch.nn.init.normal_(head.classifier.weight)
    for parameter in head.crf.parameters():
        torch.nn.init.normal_(parameter)
    return head


LENGTHS = [3, 1, 4]


def test_the_loss_is_minus_the_log_probability_of_the_tags_among_all_paths(head):
    hidden, labels = torch.randn(8, 4), torch.randint(0, 3, (8,))
    expected, start = torch.tensor(0.0), 0
    for length in LENGTHS:
        part, gold = hidden[start : start + length], tuple(labels[start : start + length].tolist())
        paths = torch.stack([score(head, part, path) for path in itertools.product(range(3), repeat=length)])
        expected = expected + paths.logsumexp(0) - score(head, part, gold)
        start += length
    loss = head.loss(hidden, labels, torch.tensor([0, 3, 4, 8]))
    torch.testing.assert_close(loss, expected)


def test_transitions_have_a_gradient_though_no_sequence_has_two_units(head):
    head.loss(torch.randn(2, 4), torch.tensor([0, 2]), torch.tensor([0, 1, 2])).backward()
    assert torch.equal(head.crf.transitions.grad, torch.zeros(3, 3))


def test_decoding_finds_the_best_of_all_paths(head):
    hidden, start, expected = torch.randn(8, 4), 0, []
    for length in LENGTHS:
        part = hidden[start : start + length]
        expected += max(itertools.product(range(3), repeat=length), key=lambda path: score(head, part, path).item())
        start += length
    assert head.decode(hidden, torch.tensor([0, 3, 4, 8])).tolist() == expected


def test_the_probability_of_tags_is_their_share_of_all_paths(head):
    hidden, tags = torch.randn(4, 4), torch.tensor([2, 0, 1, 1])
    paths = torch.stack([score(head, hidden, path) for path in itertools.product(range(3), repeat=4)])
    expected = score(head, hidden, tuple(tags.tolist())) - paths.logsumexp(0)
    torch.testing.assert_close(head.log_probability(hidden, tags, torch.tensor([0, 4])), expected[None])


def test_a_sequence_scores_the_same_whatever_lies_beside_it(head):
    hidden, labels = torch.randn(8, 4), torch.randint(0, 3, (8,))
    together = head.loss(hidden, labels, torch.tensor([0, 3, 8]))
    apart = head.loss(hidden[:3], labels[:3], torch.tensor([0, 3])) + head.loss(
        hidden[3:], labels[3:], torch.tensor([0, 5])
    )
    torch.testing.assert_close(together, apart)
