"""The tokenizer: WordPiece trained on the user's own text, or one loaded; ids, and where words start.

Underneath is the `tokenizers` library; this file sets it up so that pretraining, fine-tuning and transformers read a
text as the same ids.
"""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from tokenizers import Encoding, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend

from bert.errors import UserError

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROLES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
"""transformers' name for the role of each; another vocabulary may have other tokens for it."""


@dataclass(frozen=True)
class TokenizerConfig:
    """The vocabulary: trained on the corpus, or loaded."""

    path: str | None = None
    """A tokenizer.json, or a folder with one or with BERT's vocab.txt, to use as it is. Without it, one is trained on
    data.train."""

    vocab_size: int = 8000
    """Tokens in a vocabulary trained here, special ones included."""

    min_frequency: int = 2
    """A piece seen less often than this while training gets no entry of its own."""

    max_characters: int = 4000
    """Distinct characters that get an entry of their own while training, a quarter of vocab_size at most; rarer ones
    become [UNK]."""

    lowercase: bool = False
    """Lower-case all text. Off: case is kept."""

    strip_accents: bool = False
    """Remove accents. Off: they are kept. Hangul stays composed either way."""

    add: str | None = None
    """With init: a file of words, one per line, to add to that model's vocabulary. Each is initialised to the mean of
    its old pieces. For domain terms that split into many pieces."""


@dataclass(frozen=True)
class EncodedLines:
    """Lines as ids, end to end.

    Attributes:
        ids: (T,), int64.
        word_starts: True where a token begins a word, by the pre-tokenizer's word numbers, (T,).
        lengths: tokens of each line, (L,).
    """

    ids: np.ndarray
    word_starts: np.ndarray
    lengths: np.ndarray


class Tokenizer:
    """A `tokenizers` tokenizer with five special tokens in BERT's roles.

    Where these stand in a text they are text, unless a call says otherwise. A vocabulary's further special tokens, such
    as [E1] around an entity, are for texts to contain: these are always found there.

    Args:
        backend: the library's tokenizer; it is set up to neither pad nor truncate, and to give [CLS] A [SEP] B [SEP].
        special_tokens: the tokens in the order of ROLES.
        argument: what to call it in errors.

    Raises:
        UserError: one of the special tokens is missing.
    """

    def __init__(
        self, backend: Backend, special_tokens: Sequence[str] = SPECIAL_TOKENS, argument: str = "tokenizer.path"
    ) -> None:
        missing = [token for token in special_tokens if backend.token_to_id(token) is None]
        if missing:
            raise UserError(f"{argument}: the vocabulary has no {', '.join(missing)}.")
        further = [token.content for token in backend.get_added_tokens_decoder().values() if token.special]
        self.markers = [token for token in further if token not in special_tokens]
        backend = _flagged(backend, self.markers, special=False)
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = True  # set once, since threads may encode at once
        self.backend, self.special_tokens = backend, tuple(special_tokens)
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = map(backend.token_to_id, special_tokens)
        self.mask_token = special_tokens[-1]
        backend.post_processor = self._pair_template()

    def __reduce__(self) -> tuple:
        # A copy of the backend alone forgets how it is set up.
        return type(self), (_flagged(self.backend, self.markers, special=True), self.special_tokens)

    def _pair_template(self) -> processors.PostProcessor:
        _, _, cls, sep, _ = self.special_tokens
        template = processors.BertProcessing((sep, self.sep_id), (cls, self.cls_id))
        if "ByteLevel" not in repr(self.backend.pre_tokenizer):
            return template
        # A byte-level piece includes the space before it; its offsets should not.
        return processors.Sequence([processors.ByteLevel(trim_offsets=True), template])

    @property
    def vocab_size(self) -> int:
        """One more than the highest id."""
        return max(self.backend.get_vocab().values()) + 1

    @property
    def special_ids(self) -> np.ndarray:
        """Ids of every special token, ascending, (K,): never masked and never a replacement."""
        return np.array(sorted({self.backend.token_to_id(token) for token in (*self.special_tokens, *self.markers)}))

    @property
    def ordinary_ids(self) -> np.ndarray:
        """Ids that stand for text, ascending: what a random replacement is drawn from."""
        text = {number for token, number in self.backend.get_vocab().items() if not token.startswith("[unused")}
        return np.array(sorted(text - set(self.special_ids.tolist())))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides how text becomes ids."""
        return hashlib.sha256((self.backend.to_str() + self.between_sentences).encode()).hexdigest()

    @cached_property
    def between_sentences(self) -> str:
        """What to put before a sentence so that its ids are those that it has after another one.

        That is a space where pieces include the one before them (GPT-2's and RoBERTa's bytes), and nothing elsewhere.
        """
        alone, after_a_space, together = (self.encode_text(text).ids for text in ("a", " a", "a a"))
        return " " if together == alone + after_a_space != alone + alone else ""

    @property
    def is_wordpiece(self) -> bool:
        """Whether pieces are found by the longest match, ## marking those inside words."""
        return isinstance(self.backend.model, models.WordPiece)

    def encode_lines(self, lines: Sequence[str]) -> EncodedLines:
        """Text as ids without special tokens; '[MASK]' and the like in the text are text.

        A word is what the pre-tokenizer splits off; ours splits at spaces and punctuation. Word starts come from the
        word numbers or, where both always agree, from the pieces without ##, which is faster.
        """
        encode = self.backend.encode_batch if self._begins_word is None else self.backend.encode_batch_fast
        encodings = encode(lines, add_special_tokens=False)
        lengths = np.fromiter(map(len, encodings), np.int64, len(encodings))
        total = int(lengths.sum())
        ids = np.fromiter(itertools.chain.from_iterable(e.ids for e in encodings), np.int64, total)
        if self._begins_word is not None:
            return EncodedLines(ids, self._begins_word[ids], lengths)
        words = np.fromiter(itertools.chain.from_iterable(e.word_ids for e in encodings), np.int64, total)
        word_starts = np.ones(total, bool)
        word_starts[1:] = words[1:] != words[:-1]
        firsts = np.cumsum(lengths) - lengths
        word_starts[firsts[lengths > 0]] = True
        return EncodedLines(ids, word_starts, lengths)

    def encode_documents(self, documents: Sequence[Sequence[str]]) -> EncodedLines:
        """The sentences of documents, each encoded as it is after the one before it."""
        before = self.between_sentences
        return self.encode_lines(
            [before + line if number else line for sentences in documents for number, line in enumerate(sentences)]
        )

    @cached_property
    def _begins_word(self) -> np.ndarray | None:
        """Whether each id begins a word, (V,), where that can be told from the piece alone, else None.

        BertPreTokenizer splits off every #, so a WordPiece of its words begins with ## only if it continues one.
        """
        splits_off_marks = isinstance(self.backend.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
        if not (self.is_wordpiece and splits_off_marks and self.backend.model.continuing_subword_prefix == "##"):
            return None
        begins = np.ones(self.vocab_size, bool)
        for token, number in self.backend.get_vocab().items():
            begins[number] = not token.startswith("##") or token == "##"
        return begins

    def encode_text(self, text: str, special: Literal["none", "mask", "all"] = "none") -> Encoding:
        """One text, with the offsets of its pieces.

        Args:
            text: the text.
            special: which special tokens are recognised in it; others, '[SEP]' and the like, are text.
        """
        backend = self.backend
        if special != "none":
            backend = self._with_mask if special == "mask" else self._with_all
        return backend.encode(text, add_special_tokens=False)

    @cached_property
    def _with_all(self) -> Backend:
        """The same, but '[MASK]' and the like in a text are special tokens."""
        return Backend.from_str(self.backend.to_str())

    @cached_property
    def _with_mask(self) -> Backend:
        """The same, but '[MASK]' in a text is the mask."""
        backend = _flagged(self.backend, [self.mask_token], special=False)  # what is not special is always recognised
        backend.encode_special_tokens = True
        return backend

    def encode(self, text: str) -> list[int]:
        """[CLS] text [SEP]; special tokens in the text are such, as in transformers."""
        return [self.cls_id, *self.encode_text(text, "all").ids, self.sep_id]

    def normalised(self, text: str) -> str:
        """The text as the vocabulary sees it: cleaned, composed, lower-cased if so configured."""
        return text if self.backend.normalizer is None else self.backend.normalizer.normalize_str(text)

    def token(self, number: int) -> str:
        """The piece with that id."""
        return self.backend.id_to_token(number)

    def decode(self, ids: Iterable[int]) -> str:
        """Ids as text, special tokens kept."""
        return self.backend.decode(list(ids), skip_special_tokens=False)

    def to_str(self, pretty: bool = False) -> str:
        """The content of a tokenizer.json."""
        return _flagged(self.backend, self.markers, special=True).to_str(pretty=pretty)

    def save(self, folder: Path, max_length: int) -> None:
        """Write tokenizer.json, and a tokenizer_config.json with which transformers reads it unchanged.

        The class named is PreTrainedTokenizerFast: BertTokenizer would replace our normaliser with its own.
        """
        (folder / "tokenizer.json").write_text(self.to_str(pretty=True), encoding="utf-8")
        described = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
            "model_max_length": max_length,
            "clean_up_tokenization_spaces": False,
            **dict(zip(ROLES, self.special_tokens, strict=True)),
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def _flagged(backend: Backend, tokens: Sequence[str], special: bool) -> Backend:
    """The backend with these added tokens special, or not."""
    if not tokens:
        return backend
    described = json.loads(backend.to_str())
    for added in described["added_tokens"]:
        if added["content"] in tokens:
            added["special"] = special
    return Backend.from_str(json.dumps(described))


def check(config: TokenizerConfig) -> list[str]:
    """Everything that is wrong with the values, one line each."""
    least = {"vocab_size": 100, "min_frequency": 1, "max_characters": 1}
    return [
        f"tokenizer.{name}: {getattr(config, name)}, but it must be at least {value}."
        for name, value in least.items()
        if getattr(config, name) < value
    ]


def train(lines: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """Train a WordPiece vocabulary on the lines (Wu et al. 2016, section 4.1; trained as in `tokenizers`).

    Args:
        lines: the text; read twice, so not a generator.
        config: its size, and how text is normalised.
    """
    backend = Backend(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    # NFC comes last: stripping accents decomposes Hangul into jamo, and this recomposes it.
    cleaning = normalizers.BertNormalizer(lowercase=config.lowercase, strip_accents=config.strip_accents)
    backend.normalizer = normalizers.Sequence([cleaning, normalizers.NFC()])
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    characters = _characters(lines, backend, min(config.max_characters, config.vocab_size // 4))
    # Passed as special tokens, the characters get fixed ids; left to the trainer, their order, and with it the choice
    # among tied merges, would differ from one run to the next.
    trainer = trainers.WordPieceTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        initial_alphabet=characters,
        limit_alphabet=len(characters),
        special_tokens=[*SPECIAL_TOKENS, *(f"##{character}" for character in characters)],
        show_progress=False,
    )
    backend.train_from_iterator(lines, trainer)
    return Tokenizer(_with_five_specials(backend))


def _characters(lines: Iterable[str], backend: Backend, most: int) -> list[str]:
    """The most frequent characters of the cleaned text, sorted; ties go to the lower code point."""
    counts: Counter = Counter()
    for line in lines:
        counts.update(backend.normalizer.normalize_str(line))
    ranked = sorted((character for character in counts if not character.isspace()), key=lambda c: (-counts[c], c))
    return sorted(ranked[:most])


def _with_five_specials(trained: Backend) -> Backend:
    """The trained vocabulary with BERT's five tokens as the only special ones."""
    vocabulary = trained.get_vocab()
    backend = Backend(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    backend.normalizer, backend.pre_tokenizer = trained.normalizer, trained.pre_tokenizer
    backend.decoder = decoders.WordPiece(cleanup=False)
    backend.add_special_tokens(list(SPECIAL_TOKENS))
    return backend
