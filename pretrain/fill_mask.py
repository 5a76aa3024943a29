"""What a pretrained model would write in place of [MASK]."""

from dataclasses import dataclass
from pathlib import Path

import torch

from bert import hub, tokenizer
from bert.errors import UserError
from bert.packed import PackedBatch, starts_of
from pretrain.objectives.masked_lm import MaskedLM


@dataclass(frozen=True)
class FillMaskConfig:
    """Fill the [MASK]s of a text."""

    text: str
    """A text with one or more [MASK]; each stands for one token."""

    checkpoint: str = "runs/pretrain"
    """A folder that pretraining left: a run's output, its best/, or one of its checkpoints/."""

    top: int = 5
    """How many candidates to show for each [MASK]."""


@dataclass(frozen=True)
class Candidate:
    """A token that may stand in place of a [MASK], and its probability."""

    token: str
    probability: float


def load(folder: Path) -> MaskedLM:
    """The pretrained model of a folder, ready to be asked.

    Raises:
        UserError: the folder holds no model with a masked-LM head.
    """
    if not folder.is_dir():
        raise UserError(f"checkpoint: no such folder: '{folder}'.")
    config, described = hub.load_config(folder)
    architecture = (described.get("architectures") or ["none"])[0]
    if architecture not in ("BertForPreTraining", "BertForMaskedLM"):
        raise UserError(f"checkpoint: '{folder}' holds a {architecture}, which has no masked-LM head.")
    labels = 2 if architecture == "BertForPreTraining" else 0
    vocabulary = tokenizer.load(folder, "checkpoint")
    if vocabulary.vocab_size > config.vocab_size:
        sizes = f"a tokenizer of {vocabulary.vocab_size} tokens and a model of {config.vocab_size}"
        raise UserError(f"checkpoint: '{folder}' holds {sizes}; they do not belong together.")
    objective = MaskedLM(config, vocabulary, labels)
    objective.restore(folder)
    return objective.eval()


@torch.no_grad()
def fill_mask(objective: MaskedLM, text: str, top: int) -> list[list[Candidate]]:
    """For each [MASK] of the text, from left to right, its most probable tokens, best first.

    Raises:
        UserError: there is no [MASK], or the text is longer than the model's position table.
    """
    ids = torch.tensor(objective.tokenizer.encode(text))
    masked = (ids == objective.tokenizer.mask_id).nonzero().flatten()
    longest = objective.bert.config.max_position_embeddings
    if len(masked) == 0:
        raise UserError(f"text: no [MASK] in {text!r}.")
    if len(ids) > longest:
        raise UserError(f"text: {len(ids)} tokens, but the model reads {longest} at most.")
    batch = PackedBatch(
        token_ids=ids,
        segment_ids=torch.zeros_like(ids),
        position_ids=torch.arange(len(ids)),
        cu_seqlens=starts_of(torch.tensor([len(ids)])),
        max_seqlen=len(ids),
    )
    hidden = objective.bert(batch).last_hidden_state[masked]
    logits = objective.masked_lm_head(hidden, objective.bert.embeddings.token.weight)
    probabilities, numbers = logits.softmax(-1).topk(min(top, logits.shape[-1]))
    return [
        [Candidate(objective.tokenizer.token(n), p) for n, p in zip(row_n.tolist(), row_p.tolist(), strict=True)]
        for row_n, row_p in zip(numbers, probabilities, strict=True)
    ]


def print_filled(config: FillMaskConfig) -> None:
    """Show a text's candidates."""
    if config.top < 1:
        raise UserError(f"top: {config.top}, but it must be at least 1.")
    objective = load(Path(config.checkpoint))
    for number, candidates in enumerate(fill_mask(objective, config.text, config.top), 1):
        print(f"[MASK] {number}")
        for candidate in candidates:
            print(f"  {candidate.probability:6.1%}  {candidate.token}")
