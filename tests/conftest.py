import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: these tensors are too small to share out
os.environ["HF_HUB_OFFLINE"] = "1"  # no test asks the network
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # where a test does: no spinning on a busy machine

import hypothesis
import pytest
import torch

from bert import hub, tokenizer
from bert.tokenizer import TokenizerConfig

hypothesis.settings.register_profile("bert", deadline=None)  # a first call into torch may take half a second
hypothesis.settings.load_profile("bert")


@pytest.fixture(autouse=True, scope="session")
def several_rectangles():
    """Batches as small as those of the tests would have one rectangle of attention each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bert.attention.rectangle._PADDING", 30)
        yield


@pytest.fixture(scope="session")
def small_tokenizer() -> tokenizer.Tokenizer:
    """A WordPiece vocabulary of a few words, some of them in pieces."""
    words = "the cat sat on a mat and saw the dog run in the sun while rain fell on tin roofs of old towns"
    return tokenizer.train([words] * 3, TokenizerConfig(vocab_size=100))


@pytest.fixture(scope="session")
def transformers_twin():
    """From an objective of ours to transformers' model with the same weights: BertForPreTraining or BertForMaskedLM."""
    from transformers import BertConfig, BertForMaskedLM, BertForPreTraining

    def build(objective):
        config = BertConfig(**vars(objective.bert.config), attn_implementation="eager")
        theirs = (BertForMaskedLM if objective.sentence_head is None else BertForPreTraining)(config)
        theirs.to(objective.masked_lm_head.bias.dtype)
        result = theirs.load_state_dict(hub.to_transformers(objective.state_dict()), strict=False)
        assert set(result.missing_keys) <= {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
        assert result.unexpected_keys == []
        return theirs.train(objective.training)

    return build


@pytest.fixture(scope="session")
def unsettled():
    """Moves every parameter off its initial value, so that no bias is 0 and no norm's scale is 1 by chance."""

    def move(module: torch.nn.Module, seed: int = 0, amount: float = 0.1) -> torch.nn.Module:
        noise = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += amount * torch.randn(parameter.shape, generator=noise)
        return module

    return move
