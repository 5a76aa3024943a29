"""RoBERTa read as the BERT that computes the same (Liu et al. 2019, section 4; fairseq's numbering of positions).

It differs from BERT in three ways: its positions begin after the padding token's id, it has one segment, and other
special tokens. The first two are settled in the tables: the rows before the first position are dropped, and the one
segment's is duplicated, so that pairs can be learned. The special tokens stay, in BERT's roles.
"""

from dataclasses import replace

from bert.config import ModelConfig
from bert.hub.files import StoredTensor
from bert.hub.names import rename

DEFAULTS = {"pad_token_id": 1}
"""Its values for what config.json leaves out, where they are not BERT's."""

_NAMES = {
    "roberta.": "bert.",
    "lm_head.dense.": "cls.predictions.transform.dense.",
    "lm_head.layer_norm.": "cls.predictions.transform.LayerNorm.",
    "lm_head.bias": "cls.predictions.bias",
    "lm_head.decoder.": "cls.predictions.decoder.",
}


def as_bert(config: ModelConfig) -> ModelConfig:
    """The sizes of the BERT that a RoBERTa becomes."""
    rows = config.max_position_embeddings - _first_position(config)
    return replace(config, max_position_embeddings=rows, type_vocab_size=2)


def tensors_as_bert(tensors: dict[str, StoredTensor], config: ModelConfig) -> dict[str, StoredTensor]:
    """The same tensors under BERT's names, with BERT's positions and segments."""
    renamed = {rename(name, _NAMES): tensor for name, tensor in tensors.items()}
    for name, tensor in renamed.items():
        if name.endswith("embeddings.position_embeddings.weight"):
            renamed[name] = tensor.without_rows(_first_position(config))
        if name.endswith("embeddings.token_type_embeddings.weight") and tensor.shape[0] == 1:
            renamed[name] = tensor.row_twice()
    return renamed


def _first_position(config: ModelConfig) -> int:
    return config.pad_token_id + 1
