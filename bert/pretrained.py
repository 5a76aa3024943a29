"""A pretrained model with its tokenizer, for use from Python.

    from bert import Bert

    bert = Bert.from_pretrained("runs/pretrain")
    bert.fill_mask("the [MASK] of the model")[0][0].token
    bert.encode("a sentence")[0].hidden_states          # (L + 1, S, H)

Letters: N texts, S tokens of a text, H width, L layers, A heads, V vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bert import hub
from bert.config import ModelConfig
from bert.counting import count_of
from bert.errors import UserError, refuse_if
from bert.heads import MaskedLMHead, SentenceHead
from bert.model import BertModel, BertOutput
from bert.packed import PackedBatch
from bert.tokenizer import Tokenizer


@dataclass(frozen=True)
class Candidate:
    """A candidate token for a [MASK], and its probability."""

    token: str
    probability: float


@dataclass(frozen=True)
class Encoded:
    """The encoder's output for a text, or for a pair of texts.

    Attributes:
        ids: with special tokens, S of them.
        tokens: the piece of each id.
        segments: 0 for the first text, 1 for the second.
        offsets: where in its text each piece stands, [start, end); None for special tokens.
        words: the number of the word in its text that each piece belongs to; None for special tokens.
        cut: tokens beyond max_length, which were left out.
        hidden_states: after the embeddings and after each layer, (L + 1, S, H).
        attentions: (L, A, S, S) with attention="eager", else None.
        pooled: (H,), or None for a model without a pooler.
    """

    ids: list[int]
    tokens: list[str]
    segments: list[int]
    offsets: list[tuple[int, int] | None]
    words: list[int | None]
    cut: int
    hidden_states: Tensor
    attentions: Tensor | None
    pooled: Tensor | None


class Bert(nn.Module):
    """An encoder, its tokenizer, and the pretraining heads that came with it.

    Args:
        config: the encoder's sizes.
        tokenizer: the vocabulary's.
        pooler, masked_lm, sentence: which parts there are besides the encoder.
        attention: a name from bert.attention.BACKENDS; `eager` keeps attention probabilities.
    """

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: Tokenizer,
        pooler: bool = True,
        masked_lm: bool = True,
        sentence: bool = True,
        attention: str = "sdpa",
    ) -> None:
        super().__init__()
        self.bert = BertModel(config, pooler, attention)
        self.masked_lm_head = MaskedLMHead(config) if masked_lm else None
        self.sentence_head = SentenceHead(config) if sentence else None
        self.tokenizer = tokenizer

    @staticmethod
    def from_pretrained(name: str | Path, attention: str = "sdpa", argument: str = "from_pretrained") -> "Bert":
        """Load the model of a folder, or of a repository on the Hugging Face hub, in evaluation mode.

        Args:
            name: a run's output, its best/, one of its checkpoints/, any BERT or RoBERTa folder from transformers, or
                the id of one on the hub.
            attention: a name from bert.attention.BACKENDS.
            argument: what to call `name` in errors.

        Raises:
            UserError: there is no such folder, or no BERT in it.
        """
        folder = hub.open_folder(str(name), argument)
        there = hub.parameter_names(folder.path)
        parts = ("bert.pooler.", "masked_lm_head.", "sentence_head.")
        found = [any(parameter.startswith(part) for parameter in there) for part in parts]
        model = Bert(folder.config, folder.tokenizer, *found, attention)
        hub.load_weights(folder.path, model)
        return model.eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that opens here and in transformers, by the class named in its config.json.

        That is BertForPreTraining for a model with both heads, BertForMaskedLM for one with a masked-LM head (which has
        no place for a pooler), BertForNextSentencePrediction for one with a sentence head, else BertModel.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        architecture, left_out = "BertModel", ()
        if self.masked_lm_head is not None:
            architecture = "BertForMaskedLM" if self.sentence_head is None else "BertForPreTraining"
        elif self.sentence_head is not None:
            architecture = "BertForNextSentencePrediction"
        if architecture == "BertForMaskedLM":
            left_out = ("bert.pooler.",)
        hub.save_config(folder, self.bert.config, architecture)
        hub.save_weights(folder, self, left_out)
        self.tokenizer.save(folder, self.bert.config.max_position_embeddings)

    def forward(self, batch: PackedBatch) -> BertOutput:
        """Hidden states, attention probabilities and pooled outputs of a batch."""
        return self.bert(batch)

    @torch.no_grad()
    def encode(
        self,
        texts: str | list[str],
        text_pairs: str | list[str] | None = None,
        max_length: int | None = None,
        places: list[str] | None = None,
    ) -> list[Encoded]:
        """Every layer's output for each text, or for each pair, without dropout; a mask token in a text is the mask.

        All of them are one batch; for many texts call it with some at a time.

        Args:
            texts, text_pairs: the inputs.
            max_length: truncate texts to this many tokens, special ones included; not for pairs.
            places: what to call each text in errors.

        Raises:
            UserError: a text is longer than the model's position table, or is not a string.
        """
        texts = [texts] if isinstance(texts, str) else texts
        pairs = [text_pairs] if isinstance(text_pairs, str) else text_pairs
        refuse_if(
            [
                f"{argument}: {one!r} is not a text; the second texts of pairs go into text_pairs."
                for argument, given in (("texts", texts), ("text_pairs", pairs or []))
                for one in given
                if not isinstance(one, str)
            ][:1]
        )
        if pairs is not None and len(pairs) != len(texts):
            raise UserError(f"text_pairs: {len(pairs)} of them, for {count_of(len(texts), 'text')}.")
        if pairs is not None and (max_length is not None or self.bert.config.type_vocab_size < 2):
            raise UserError("text_pairs: pairs are not cut (give no max_length), and the model must have two segments.")
        if max_length is not None and max_length < 3:
            raise UserError(f"max_length: {max_length}, but it must be at least 3.")
        if not texts:
            return []
        both = zip(texts, pairs or [None] * len(texts), strict=True)
        inputs = [_input(self.tokenizer, text, pair, max_length) for text, pair in both]
        for place, one in zip(places or [f"texts: {n + 1}" for n in range(len(texts))], inputs, strict=True):
            refuse_too_long(len(one["ids"]), self.bert.config, place)
        batch = PackedBatch.from_sequences([one["ids"] for one in inputs], [one["segments"] for one in inputs])
        with _without_dropout(self):
            output = self(batch.to(next(self.parameters()).device))
        starts = batch.cu_seqlens.tolist()
        states = torch.stack(output.hidden_states).cpu()  # (L + 1, T, H)
        attentions = None if output.attentions[0] is None else torch.stack(output.attentions).cpu()  # (L, N, A, S, S)
        return [
            Encoded(
                **one,
                hidden_states=states[:, start:end],
                attentions=None if attentions is None else attentions[:, place, :, : end - start, : end - start],
                pooled=None if output.pooled is None else output.pooled[place].cpu(),
            )
            for place, (one, start, end) in enumerate(zip(inputs, starts, starts[1:], strict=False))
        ]

    def fill_mask(self, text: str, top: int = 5) -> list[list[Candidate]]:
        """For each mask of the text, from left to right, its most probable tokens, best first.

        Raises:
            UserError: the model has no masked-LM head, there is no mask, the text is too long, or it is not a string.
        """
        return fill_mask(self, text, top)


@torch.no_grad()
def fill_mask(model: nn.Module, text: str, top: int) -> list[list[Candidate]]:
    """For each mask of the text, from left to right, its most probable tokens without dropout, best first.

    Args:
        model: with `bert`, `masked_lm_head` and `tokenizer`: a Bert, or a pretraining objective.
        text: with one or more mask tokens.
        top: candidates for each, at least 1; all of the vocabulary at most.

    Raises:
        UserError: the model has no masked-LM head, top is below 1, or the text is not a string, has no mask, or is
            longer than the model's position table.
    """
    if model.masked_lm_head is None:
        raise UserError("fill_mask: this model has no masked-LM head.")
    if not isinstance(text, str):
        raise UserError(f"text: {text!r} is not a text; masks are filled in one text at a time.")
    if top < 1:
        raise UserError(f"top: {top}, but it must be at least 1.")
    tokenizer = model.tokenizer
    ids = tokenizer.encode(text)
    masked = [place for place, number in enumerate(ids) if number == tokenizer.mask_id]
    if not masked:
        raise UserError(f"text: no {tokenizer.mask_token} in {text!r}.")
    refuse_too_long(len(ids), model.bert.config, "text")
    table = model.bert.embeddings.token.weight
    batch = PackedBatch.from_sequences([ids], [[0] * len(ids)]).to(table.device)
    with _without_dropout(model.bert):
        hidden = model.bert(batch).last_hidden_state[masked]
    named = model.masked_lm_head(hidden, table).float().softmax(-1)[:, : tokenizer.vocab_size]  # a table may be padded
    probabilities, numbers = named.topk(min(top, named.shape[-1]))
    return [
        [Candidate(tokenizer.token(n), p) for n, p in zip(row_n.tolist(), row_p.tolist(), strict=True)]
        for row_n, row_p in zip(numbers, probabilities, strict=True)
    ]


def filled(model: nn.Module, text: str, top: int) -> dict:
    """A text and its candidates, for JSON: {text, masks: for each of them [{token, probability}, ...]}.

    Args:
        model, text, top: as for `fill_mask`.

    Raises:
        UserError: likewise.
    """
    masks = [[asdict(candidate) for candidate in mask] for mask in fill_mask(model, text, top)]
    return {"text": text, "masks": masks}


@contextmanager
def _without_dropout(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode, and afterwards in the mode that it was in."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


def refuse_too_long(tokens: int, config: ModelConfig, argument: str) -> None:
    """Refuse a sequence longer than the position table."""
    if tokens > config.max_position_embeddings:
        raise UserError(f"{argument}: {tokens} tokens, but the model reads {config.max_position_embeddings} at most.")


def _input(tokenizer: Tokenizer, text: str, pair: str | None, max_length: int | None) -> dict[str, Any]:
    """[CLS] text [SEP], or [CLS] text [SEP] pair [SEP]: the first fields of Encoded."""
    ids, offsets, words, segments, cut = [tokenizer.cls_id], [None], [None], [0], 0
    for segment, part in enumerate([text] if pair is None else [text, pair]):
        encoding = tokenizer.encode_text(part, "mask")
        kept = len(encoding.ids) if max_length is None else min(len(encoding.ids), max_length - 2)
        ids += [*encoding.ids[:kept], tokenizer.sep_id]
        offsets += [*encoding.offsets[:kept], None]
        words += [*encoding.word_ids[:kept], None]
        segments += [segment] * (kept + 1)
        cut += len(encoding.ids) - kept
    tokens = [tokenizer.token(number) for number in ids]
    return {"ids": ids, "tokens": tokens, "segments": segments, "offsets": offsets, "words": words, "cut": cut}
