"""What a pretrained model predicts for [MASK]."""

from dataclasses import dataclass

from bert.errors import UserError
from bert.pretrained import Bert


@dataclass(frozen=True)
class FillMaskConfig:
    """Fill the [MASK]s of a text."""

    text: str
    """A text with one or more [MASK]; each stands for one token."""

    checkpoint: str = "runs/pretrain"
    """A model's folder: a run's output, its best/, one of its checkpoints/, or any BERT from transformers; or an id on
    the Hugging Face hub."""

    top: int = 5
    """How many candidates to show for each [MASK]."""


def print_filled(config: FillMaskConfig) -> None:
    """Print the candidates for each [MASK]."""
    if config.top < 1:
        raise UserError(f"top: {config.top}, but it must be at least 1.")
    bert = Bert.from_pretrained(config.checkpoint, argument="checkpoint")
    for number, candidates in enumerate(bert.fill_mask(config.text, config.top), 1):
        print(f"{bert.tokenizer.mask_token} {number}")
        for candidate in candidates:
            print(f"  {candidate.probability:6.1%}  {candidate.token}")
