"""Tokenizers as they lie in folders: tokenizer.json or vocab.txt, and the checks that neither can skip."""

import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers

from bert.errors import UserError
from bert.tokenizer import ROLES, SPECIAL_TOKENS, Tokenizer

_ROBERTA = ("<pad>", "<unk>", "<s>", "</s>", "<mask>")
_PROBE = ("A line, of text: 3.5!", "한글 한 줄과 é", "漢字 😀\t\u200b", "x" * 200, "")
"""What a tokenizer has to read without failing before it is trusted."""


def load(path: Path, argument: str = "tokenizer.path") -> Tokenizer:
    """Read a tokenizer.json or a vocab.txt, or the one in a folder.

    Which tokens are special says tokenizer_config.json or special_tokens_map.json beside it; without them they are
    BERT's, or else RoBERTa's.

    Args:
        path: the file or the folder.
        argument: what to call it in errors.

    Raises:
        UserError: there is none, it cannot be read, or it fails at reading text.
    """
    file = path
    if path.is_dir():
        file = path / "tokenizer.json"
        file = path / "vocab.txt" if not file.is_file() and (path / "vocab.txt").is_file() else file
    if not file.is_file():
        raise UserError(f"{argument}: no such file: {str(file)!r}.")
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{argument}: {str(file)!r} is no tokenizer: not UTF-8: {error}.") from error
    backend = _of_vocabulary(file, text) if file.suffix == ".txt" else _of_json(file, text, argument)
    special_tokens = _special_tokens(file.parent, backend)
    if file.suffix == ".txt":
        backend.add_special_tokens([token for token in special_tokens if backend.token_to_id(token) is not None])
    _refuse_stray_ids(file, backend, argument)
    return Tokenizer(backend, special_tokens, argument)


def _of_json(file: Path, text: str, argument: str) -> Backend:
    try:
        twice = _ids_given_twice(json.loads(text))
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise UserError(f"{argument}: {str(file)!r} is no tokenizer: {type(error).__name__}: {error}.") from error
    if twice:
        raise UserError(f"{argument}: {str(file)!r} gives one id to several tokens: {'; '.join(twice[:3])}.")
    with _one_line(file, argument):
        backend = Backend.from_str(text)
        backend.no_truncation()
        backend.encode_batch(list(_PROBE))
    return backend


@contextlib.contextmanager
def _one_line(file: Path, argument: str) -> Iterator[None]:
    """Turn whatever the library does wrong into one line: its panics are no Exception, and write to stderr."""
    sys.stderr.flush()
    before, silence = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        why = " ".join(str(error).split())
        raise UserError(f"{argument}: {str(file)!r} is no tokenizer: {why}.") from error
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(silence)


def _ids_given_twice(described: dict) -> list[str]:
    """Ids that stand for several tokens, with their tokens."""
    vocabulary = described["model"].get("vocab", {})
    pairs = {(str(token), number) for token, number in vocabulary.items()} if isinstance(vocabulary, dict) else set()
    pairs |= {(token["content"], token["id"]) for token in described.get("added_tokens") or []}
    counted = Counter(number for _, number in pairs)
    return [
        f"{number} to {' and '.join(sorted(repr(token) for token, of in pairs if of == number))}"
        for number, times in sorted(counted.items())
        if times > 1
    ]


def _refuse_stray_ids(file: Path, backend: Backend, argument: str) -> None:
    """An id far beyond the number of tokens would ask for a table of that many rows."""
    vocabulary = backend.get_vocab(with_added_tokens=True)
    token, highest = max(vocabulary.items(), key=lambda item: item[1], default=("", 0))
    if highest >= 2 * len(vocabulary) + 1000:
        raise UserError(
            f"{argument}: {str(file)!r} gives {token!r} the id {highest}, in a vocabulary of {len(vocabulary)} tokens."
        )


def _of_vocabulary(file: Path, text: str) -> Backend:
    """BERT's WordPiece over a vocab.txt, set up as transformers' BertTokenizer does.

    Where nothing says whether text is lower-cased, it is if the vocabulary has no capital letter.
    """
    lines = text.removesuffix("\n").split("\n")
    vocabulary = {token.removesuffix("\r"): number for number, token in enumerate(lines)}
    described = _json_beside(file.parent / "tokenizer_config.json")
    cased = any(token != token.lower() for token in vocabulary if token not in SPECIAL_TOKENS and token[:1] != "[")
    backend = Backend(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    backend.normalizer = normalizers.BertNormalizer(
        lowercase=described.get("do_lower_case", not cased),
        strip_accents=described.get("strip_accents"),
        handle_chinese_chars=described.get("tokenize_chinese_chars", True),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(cleanup=False)
    return backend


def _special_tokens(folder: Path, backend: Backend) -> tuple[str, ...]:
    """The tokens in the order of ROLES, as the files beside the vocabulary have them."""
    named = _json_beside(folder / "special_tokens_map.json") | _json_beside(folder / "tokenizer_config.json")
    known = next((tokens for tokens in (SPECIAL_TOKENS, _ROBERTA) if backend.token_to_id(tokens[2]) is not None), None)
    found = []
    for role, usual in zip(ROLES, known or SPECIAL_TOKENS, strict=True):
        token = named.get(role) or usual
        found.append(token["content"] if isinstance(token, dict) else str(token))
    return tuple(found)


def _json_beside(file: Path) -> dict:
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file}: not JSON: {error}.") from error
    return found if isinstance(found, dict) else {}
