"""What pretraining requires of an objective, besides what the loop does (bert/training/objective.py)."""

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from bert.config import ModelConfig
from bert.heads import MaskedLMHead
from bert.model import BertModel
from bert.serving.served import Served
from bert.tokenizer import Tokenizer
from bert.training.objective import Objective
from pretrain.sentence import SENTENCE

if TYPE_CHECKING:
    from pretrain.config import PretrainConfig  # which reads the table of objectives


class PretrainObjective(Objective):
    """A model that learns from text.

    It reads these targets (pretrain/targets.py), each where a batch has it: `masked_index` (M,), positions in the flat
    batch; `masked_labels` (M,), the original tokens there; `sentence_labels` (N,), 0 where B follows A. A label of -100
    is a filler's and is ignored. With `targets = TARGETS` it lets processes share a batch; an objective whose loss
    compares sequences sets `compares_sequences`.

    Whatever it learns from, it is evaluated on masked tokens, which validation replaces 80-10-10, and on labelled
    pairs: its sums are `masked_lm_loss` and `masked_lm_accuracy`, `sentence_loss` and `sentence_accuracy`, and others
    that `scores` names. An evaluation is not seeded; random draws in it need a generator of their own.

    `export` names the transformers class that opens the folder; parameters that this class has no place for go beside
    it (`beside` of hub.save_weights and hub.load_weights).

    Attributes:
        bert: the encoder, which is frozen as training.* says, and may get further tokens. Checkpointing and attention
            are set in every bert.encoder.Encoder among the modules.
        masked_lm_head: from hidden states to tokens; it may get further ones.
        tokenizer: the vocabulary's.
        goal: the validation metric, lower being better, that decides which weights are in best/.
        options: the field of config.PretrainConfig that holds its own options, a dataclass; None if it has none. Given
            for another objective, they are refused.
    """

    bert: BertModel
    masked_lm_head: MaskedLMHead
    tokenizer: Tokenizer
    goal = "valid/masked_lm_loss"
    options: ClassVar[str | None] = None

    @classmethod
    def check(cls, config: "PretrainConfig") -> list[str]:
        """What is wrong with a run's options for this objective, a line each; nothing is read from disk."""
        return []

    @classmethod
    def facts(cls, config: "PretrainConfig") -> dict[str, str]:
        """Fingerprints of what it reads besides the text, by name: a run is not resumed with others."""
        return {}

    @classmethod
    def scores(cls, config: "PretrainConfig") -> list[str]:
        """The names of its metrics besides those of masked tokens and pairs, without `valid/`."""
        return []

    @classmethod
    def build(cls, config: "PretrainConfig", model: ModelConfig, tokenizer: Tokenizer) -> Self:
        """The objective with random weights, as a run's options say."""
        return cls(model, tokenizer, SENTENCE[config.sentence.objective].labelled, config.training.attention)

    @abstractmethod
    def start_from(self, folder: Path) -> str:
        """Load a model that was trained elsewhere; returns a line on which parts are new and what was not needed."""

    @abstractmethod
    def compile_parts(self) -> None:
        """Compile the parts worth compiling for training; batches must have one shape."""

    def served(self) -> Served | None:
        """How the trained model is served, with an example and its answer; None if it is not."""
        return None
