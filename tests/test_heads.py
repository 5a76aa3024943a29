import math

import torch

from bert.config import ModelConfig
from bert.heads import MaskedLMHead, SentenceHead

CONFIG = ModelConfig(
    vocab_size=3, hidden_size=2, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4, initializer_range=0.5
)


def test_the_masked_lm_head_transforms_normalises_and_meets_the_token_table():
    head = MaskedLMHead(CONFIG)
    with torch.no_grad():
        head.transform.weight.copy_(torch.eye(2))
        head.bias.copy_(torch.tensor([0.0, 10.0, 0.0]))
    # The transform leaves (1, 2) alone, GELU keeps its order, and a norm over two values gives (-1, 1).
    logits = head(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 3.0]]))
    torch.testing.assert_close(logits, torch.tensor([[-1.0, 11.0, 1.0]]))


def test_the_activation_is_the_exact_gelu():
    head = MaskedLMHead(CONFIG)
    head.norm = torch.nn.Identity()
    with torch.no_grad():
        head.transform.weight.copy_(torch.eye(2))
    logits = head(torch.tensor([[1.0, -2.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
    exact = [x * (1 + math.erf(x / math.sqrt(2))) / 2 for x in (1.0, -2.0)]  # the tanh form is off by 1e-4 and more
    torch.testing.assert_close(logits, torch.tensor([[*exact, 0.0]]), atol=1e-6, rtol=0)


def test_the_loss_is_that_of_the_logits_whatever_the_number_of_labels():
    torch.manual_seed(0)
    head, table = MaskedLMHead(CONFIG), torch.randn(3, 2)
    for number in (1, 255, 257, 300):
        hidden, labels = torch.randn(number, 2), torch.arange(number) % 3
        loss, right = head.loss(hidden, table, labels)
        logits = head(hidden, table)
        expected = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
        torch.testing.assert_close(loss, expected, atol=1e-4, rtol=1e-5)
        assert int(right) == int((logits.argmax(-1) == labels).sum())


def test_the_masked_lm_head_owns_a_bias_and_no_matrix_of_the_vocabulary():
    shapes = {name: tuple(parameter.shape) for name, parameter in MaskedLMHead(CONFIG).named_parameters()}
    expected = {"transform.weight": (2, 2), "transform.bias": (2,), "norm.weight": (2,), "norm.bias": (2,)}
    assert shapes == expected | {"bias": (3,)}


def test_the_sentence_head_is_one_linear_layer_to_two_logits():
    head = SentenceHead(CONFIG)
    with torch.no_grad():
        head.classifier.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        head.classifier.bias.copy_(torch.tensor([0.5, -0.5]))
    assert head(torch.tensor([[1.0, 10.0]])).tolist() == [[21.5, 42.5]]
