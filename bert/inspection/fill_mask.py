"""What a pretrained model would write in place of [MASK]."""

from dataclasses import asdict, dataclass

from torch import nn

from bert.errors import UserError
from bert.pretrained import Bert, fill_mask


@dataclass(frozen=True)
class FillMaskConfig:
    """Fill the [MASK]s of a text."""

    text: str
    """A text with one or more [MASK]; each stands for one token."""

    checkpoint: str = "runs/pretrain"
    """A model's folder: a run's output, its best/, one of its checkpoints/, or any BERT of transformers'; or its id on
    the Hugging Face hub."""

    top: int = 5
    """How many candidates to show for each [MASK]."""


def print_filled(config: FillMaskConfig) -> None:
    """Show a text's candidates."""
    if config.top < 1:
        raise UserError(f"top: {config.top}, but it must be at least 1.")
    bert = Bert.from_pretrained(config.checkpoint, argument="checkpoint")
    if bert.masked_lm_head is None:
        raise UserError(f"checkpoint: '{config.checkpoint}' holds a model without a masked-LM head.")
    for number, candidates in enumerate(bert.fill_mask(config.text, config.top), 1):
        print(f"{bert.tokenizer.mask_token} {number}")
        for candidate in candidates:
            print(f"  {candidate.probability:6.1%}  {candidate.token}")


def filled(model: nn.Module, text: str, top: int) -> dict:
    """A text and its candidates, as JSON holds them: {text, masks: for each of them [{token, probability}, ...]}.

    Args:
        model: as `bert.pretrained.fill_mask` takes it, with its masked-LM head.
        text, top: likewise.

    Raises:
        UserError: as there.
    """
    if model.masked_lm_head is None:
        raise UserError("fill_mask: this model has no masked-LM head.")
    masks = [[asdict(candidate) for candidate in mask] for mask in fill_mask(model, text, top)]
    return {"text": text, "masks": masks}
