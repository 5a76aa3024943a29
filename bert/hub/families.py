"""Models of transformers that are read as the BERT that computes the same: a file and a line of FAMILIES for each."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bert.config import ModelConfig
from bert.hub import electra, roberta
from bert.hub.files import StoredTensor


@dataclass(frozen=True)
class Family:
    """How such a model is read.

    Attributes:
        defaults: its values for what config.json leaves out, where they are not BERT's.
        sizes: from its own sizes to those of the BERT.
        tensors: from its tensors, by their names there, and the BERT's sizes to the same under BERT's names there.
    """

    defaults: dict[str, Any] = field(default_factory=dict)
    sizes: Callable[[ModelConfig], ModelConfig] = lambda config: config
    tensors: Callable[[dict[str, StoredTensor], ModelConfig], dict[str, StoredTensor]] = lambda tensors, config: tensors


_ROBERTA = Family(roberta.DEFAULTS, roberta.as_bert, roberta.tensors_as_bert)

FAMILIES = {
    "bert": Family(),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "electra": Family(electra.DEFAULTS, tensors=electra.tensors_as_bert),
}
"""By the model_type in config.json."""
