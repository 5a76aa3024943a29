"""Reading tokenizers from files: tokenizer.json or vocab.txt, and the checks that both must pass."""

import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from bert.errors import UserError
from bert.tokenizer import ROLES, SPECIAL_TOKENS, Tokenizer

_BERT_CLASSES = ("BertTokenizer", "BertTokenizerFast")
_AS_BERT = ("DistilBert", "Electra", "MobileBert", "ConvBert", "Bert")
"""Whose tokenizers read a vocab.txt as BERT's does."""

_ROBERTA = ("<pad>", "<unk>", "<s>", "</s>", "<mask>")
_PROBE = ("A line, of text: 3.5!", "한글 한 줄과 é", "漢字 😀\t\u200b", "x" * 200, "")
"""Texts that a tokenizer must encode without failing before it is trusted."""


def load(path: Path, argument: str = "tokenizer.path") -> Tokenizer:
    """Read a tokenizer.json or a vocab.txt, or the one in a folder.

    The special tokens are those named by tokenizer_config.json or special_tokens_map.json beside it; without them
    BERT's, or else RoBERTa's.

    Args:
        path: the file or the folder.
        argument: what to call it in errors.

    Raises:
        UserError: there is none, it cannot be read, or it fails to encode text.
    """
    file = path
    if path.is_dir():
        file = path / "tokenizer.json"
        file = path / "vocab.txt" if not file.is_file() and (path / "vocab.txt").is_file() else file
    if not file.is_file():
        raise UserError(f"{argument}: no such file: {str(file)!r}.{_how_to_make_it(file.parent)}")
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{argument}: {str(file)!r} is not a tokenizer: not UTF-8: {error}.") from error
    described = _json_beside(file.parent / "special_tokens_map.json")
    described |= _json_beside(file.parent / "tokenizer_config.json")
    with _one_line(file, argument):
        backend = (_of_vocabulary if file.suffix == ".txt" else _of_json)(file, text, described, argument)
        backend.no_truncation()
        backend.encode_batch(list(_PROBE))
    _refuse_stray_ids(file, backend, argument)
    return Tokenizer(backend, _special_tokens(described, backend), argument)


def _how_to_make_it(folder: Path) -> str:
    """How transformers writes the tokenizer.json of a folder with an older kind of tokenizer; nothing where none is."""
    if not any((folder / name).is_file() for name in ("vocab.json", "sentencepiece.bpe.model", "spiece.model")):
        return ""
    return " transformers writes one: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)."


def _of_json(file: Path, text: str, described: dict, argument: str) -> Backend:
    try:
        content = json.loads(text)
        twice = _ids_given_twice(content)
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise UserError(f"{argument}: {str(file)!r} is not a tokenizer: {type(error).__name__}: {error}.") from error
    if twice:
        raise UserError(f"{argument}: {str(file)!r} gives one id to several tokens: {'; '.join(twice[:3])}.")
    normalizer = content.get("normalizer") or {}
    if described.get("tokenizer_class") in _BERT_CLASSES and normalizer.get("type") == "BertNormalizer":
        # As in transformers, whose BertTokenizer follows its own settings where the two files differ.
        renamed = {"do_lower_case": "lowercase", "strip_accents": "strip_accents"}
        normalizer |= {ours: described[theirs] for theirs, ours in renamed.items() if theirs in described}
    return Backend.from_str(json.dumps(content))


@contextlib.contextmanager
def _one_line(file: Path, argument: str) -> Iterator[None]:
    """Turn any failure of the library into one line: its panics are not Exceptions, and write to stderr."""
    sys.stderr.flush()
    before, silence = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    try:
        yield
    except (KeyboardInterrupt, SystemExit, UserError):
        raise
    except BaseException as error:
        why = " ".join(str(error).split())
        raise UserError(f"{argument}: {str(file)!r} is not a tokenizer: {why}.") from error
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
    """Refuse an id far beyond the number of tokens, which would need a table of that many rows."""
    vocabulary = backend.get_vocab(with_added_tokens=True)
    token, highest = max(vocabulary.items(), key=lambda item: item[1], default=("", 0))
    if highest >= 2 * len(vocabulary) + 1000:
        raise UserError(
            f"{argument}: {str(file)!r} gives {token!r} the id {highest}, in a vocabulary of {len(vocabulary)} tokens."
        )


def _of_vocabulary(file: Path, text: str, described: dict, argument: str) -> Backend:
    """BERT's WordPiece over a vocab.txt, set up as transformers' BertTokenizer does.

    Where nothing says whether text is lower-cased, it is if the vocabulary has no capital letters.
    """
    lines = text.removesuffix("\n").split("\n")
    vocabulary = {token.removesuffix("\r"): number for number, token in enumerate(lines)}
    _refuse_others(file, vocabulary, described, argument)
    cased = any(token != token.lower() for token in vocabulary if token not in SPECIAL_TOKENS and token[:1] != "[")
    if "do_lower_case" not in described:
        print(f"{argument}: {file}: nothing says whether text is lower-cased; {'it is not' if cased else 'it is'}")
    unknown = _content(described.get("unk_token") or "[UNK]")
    backend = Backend(models.WordPiece(vocabulary, unk_token=unknown, max_input_chars_per_word=100))
    backend.normalizer = normalizers.BertNormalizer(
        lowercase=described.get("do_lower_case", not cased),
        strip_accents=described.get("strip_accents"),
        handle_chinese_chars=described.get("tokenize_chinese_chars", True),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(cleanup=False)
    special = [token for token in _special_tokens(described, backend) if token in vocabulary]
    backend.add_special_tokens(special)
    _add_tokens(file, described, backend, argument)
    return backend


def _refuse_others(file: Path, vocabulary: dict[str, int], described: dict, argument: str) -> None:
    """Refuse the vocab.txt of a tokenizer that splits texts differently: read as BERT's, it would give other pieces."""
    name = described.get("tokenizer_class") or _json_beside(file.parent / "config.json").get("tokenizer_class")
    known = [f"{of}Tokenizer" for of in _AS_BERT]
    if name is not None and str(name).removesuffix("Fast") not in known:
        raise UserError(
            f"{argument}: '{file.parent}' is for {name}, which splits texts in its own way; give a tokenizer.json, or "
            f"a vocab.txt of {', '.join(known[:-1])} or {known[-1]}."
        )
    if any(token.startswith("\u2581") for token in vocabulary) and not any(token[:2] == "##" for token in vocabulary):
        raise UserError(
            f"{argument}: '{file}' has SentencePiece's pieces, which begin words with \u2581, not WordPiece's, which "
            "continue them with ##; give that tokenizer as a tokenizer.json."
        )


def _add_tokens(file: Path, described: dict, backend: Backend, argument: str) -> None:
    """Add the tokens of added_tokens.json and of tokenizer_config.json's added_tokens_decoder to a vocab.txt's."""
    added = {number: AddedToken(token) for token, number in _json_beside(file.parent / "added_tokens.json").items()}
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    for number, token in described.get("added_tokens_decoder", {}).items():
        added[int(number)] = AddedToken(token["content"], **{flag: token[flag] for flag in flags if flag in token})
    for number, token in sorted(added.items()):
        backend.add_tokens([token])
        if backend.token_to_id(token.content) != number:
            raise UserError(
                f"{argument}: {str(file.parent)!r} adds {token.content!r} with the id {number}, which is not the next."
            )


def _special_tokens(described: dict, backend: Backend) -> tuple[str, ...]:
    """The tokens in the order of ROLES, as the files beside the vocabulary have them."""
    known = next((tokens for tokens in (SPECIAL_TOKENS, _ROBERTA) if backend.token_to_id(tokens[2]) is not None), None)
    usual = dict(zip(ROLES, known or SPECIAL_TOKENS, strict=True))
    return tuple(_content(described.get(role) or usual[role]) for role in ROLES)


def _content(token: str | dict) -> str:
    return token["content"] if isinstance(token, dict) else str(token)


def _json_beside(file: Path) -> dict:
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file}: not JSON: {error}.") from error
    return found if isinstance(found, dict) else {}
