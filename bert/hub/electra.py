"""ELECTRA read as the BERT that computes the same (Clark et al. 2020): its encoder is BERT's, under other names.

Of the heads, the generator's becomes the masked-LM head; the discriminator's has no counterpart.
"""

from bert.config import ModelConfig
from bert.hub.files import StoredTensor
from bert.hub.names import rename

DEFAULTS = {"embedding_size": 128}
"""Its values for what config.json leaves out, where they are not BERT's."""

_NAMES = {
    "electra.": "bert.",
    "generator_predictions.": "cls.predictions.transform.",
    "generator_lm_head.": "cls.predictions.decoder.",
}


def tensors_as_bert(tensors: dict[str, StoredTensor], config: ModelConfig) -> dict[str, StoredTensor]:
    """The same tensors under BERT's names."""
    return {rename(name, _NAMES): tensor for name, tensor in tensors.items()}
