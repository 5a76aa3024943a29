"""What pretraining asks of an objective, besides what the loop does (bert/training/objective.py)."""

from abc import abstractmethod
from pathlib import Path

from bert.model import BertModel
from bert.serving.served import Served
from bert.tokenizer import Tokenizer
from bert.training.objective import Objective


class PretrainObjective(Objective):
    """A model that learns from text, built as `OBJECTIVES[name](config, tokenizer, sentence_labels, attention)`.

    Its sums have the names that pretrain/validation.py asks for: whatever it learns from, it is judged by masked tokens
    and, with sentence labels, by pairs.

    Attributes:
        bert: the encoder, which is frozen and checkpointed as training.* says, and may get further tokens.
        tokenizer: the vocabulary's.
        goal: the validation metric, lower being better, whose lowest value decides which weights lie in best/.
    """

    bert: BertModel
    tokenizer: Tokenizer
    goal = "valid/masked_lm_loss"

    @abstractmethod
    def start_from(self, folder: Path) -> str:
        """Take up a model that was trained elsewhere; says which parts are new and what was not needed."""

    @abstractmethod
    def compile_parts(self) -> None:
        """Have what is worth it compiled for training; batches must be of one shape."""

    @abstractmethod
    def served(self) -> Served:
        """How the trained model is asked, with an example and its answer."""
