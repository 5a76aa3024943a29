"""Adding words to a WordPiece vocabulary, and the rows they get in a model trained without them."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer as Backend
from torch import nn

from bert.counting import count_of
from bert.errors import UserError, refuse_if
from bert.tokenizer import Tokenizer


def add_words(tokenizer: Tokenizer, file: Path, argument: str) -> tuple[Tokenizer, list[list[int]]]:
    """The tokenizer with a file's words as whole tokens, after all others; existing ids do not change.

    Args:
        tokenizer: with a WordPiece vocabulary; a BPE one, which merges pairs, would never produce the words.
        file: one word per line; blank lines are skipped, and words that are already one token are only counted.
        argument: what to call the file in errors.

    Returns:
        The new tokenizer, and for each new token, in the order of the ids, the pieces it was split into before.

    Raises:
        UserError: no such file, not WordPiece, or a line that is not a single word.
    """
    if not tokenizer.is_wordpiece:
        raise UserError(f"{argument}: words can be added only to a WordPiece vocabulary, and the model's is not one.")
    if not file.is_file():
        raise UserError(f"{argument}: no such file: '{file}'.")
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{argument}: '{file}' is not UTF-8: {error}.") from error
    described = json.loads(tokenizer.to_str())
    vocabulary, pieces, known, faults = described["model"]["vocab"], [], 0, []
    size = tokenizer.vocab_size
    # The library numbers added tokens anew, after the vocabulary, unless they are in it.
    vocabulary |= {added["content"]: added["id"] for added in described["added_tokens"]}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        words = tokenizer.backend.pre_tokenizer.pre_tokenize_str(tokenizer.normalised(line))
        if len(words) != 1:
            faults.append(f"{argument}: {file}:{number}: {line!r} is {len(words)} words to the tokenizer, not 1.")
        elif words[0][0] in vocabulary:
            known += 1
        else:
            pieces.append(tokenizer.encode_text(line).ids)
            vocabulary[words[0][0]] = size + len(pieces) - 1
    refuse_if(faults[:20])
    print(f"{argument}: {file}: {count_of(len(pieces), 'word')} added, {known:,} already in the vocabulary")
    return Tokenizer(Backend.from_str(json.dumps(described)), tokenizer.special_tokens, argument), pieces


@torch.no_grad()
def grow(model: nn.Module, first: int, pieces: list[list[int]]) -> None:
    """Give each new token the mean of its old pieces, in the token table and in the masked-LM head's bias.

    Args:
        model: with `bert` and `masked_lm_head`; its table grows where it has no spare rows.
        first: the id of the first new token.
        pieces: the old ids of each new token's pieces.
    """
    embeddings, head = model.bert.embeddings, model.masked_lm_head
    rows = max(first + len(pieces), embeddings.token.num_embeddings)
    table = embeddings.token.weight.new_empty(rows, embeddings.token.embedding_dim)
    bias = head.bias.new_zeros(rows)
    table[: embeddings.token.num_embeddings] = embeddings.token.weight
    bias[: len(head.bias)] = head.bias
    for number, old in enumerate(pieces, first):
        table[number] = embeddings.token.weight[old].mean(0)
        bias[number] = head.bias[old].mean()
    embeddings.token = nn.Embedding.from_pretrained(table, freeze=False)
    head.bias = nn.Parameter(bias)
    model.bert.config = replace(model.bert.config, vocab_size=rows)
