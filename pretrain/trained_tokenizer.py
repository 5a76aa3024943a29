"""The tokenizer that a run trains on its text, and how much of the text it, or another one, cannot read."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bert import tokenizer as tokenizers
from bert import tokenizer_files, whole_file
from bert.tokenizer import Tokenizer
from bert.unknown import MUCH_UNKNOWN, unknown_characters
from pretrain.config import PretrainConfig
from pretrain.corpus import Corpus
from pretrain.randomness import Permutation
from pretrain.split import OnDisk, Split

TOKENIZER_BYTES = 200 << 20
"""About how much text a tokenizer is trained on at most; documents are drawn uniformly."""

_SEARCHED_BYTES = 1 << 18
"""About how much training text is searched for these; documents are drawn uniformly."""

_AT_ONCE, _BYTES_AT_ONCE = 10_000, 16 << 20  # documents read together, and about how much text


def trained_tokenizer(config: PretrainConfig, corpus: Corpus, split: Split, drawn: OnDisk) -> Tokenizer:
    """A tokenizer trained on the documents as they are drawn, and kept in the cache."""
    options = config.tokenizer
    made_of = [corpus.fingerprint, len(split.valid), asdict(options)]
    if drawn is not split.train:
        made_of.append(drawn.file.stem)
    key = json.dumps(made_of, sort_keys=True)
    file = Path(config.data.cache) / f"tokenizer-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    if not file.is_file():
        print(f"training a tokenizer of {options.vocab_size:,} tokens")
        trained = tokenizers.train(_Sentences(corpus, drawn, TOKENIZER_BYTES), options)
        corpus.files.refuse_changed()
        whole_file.write(file, trained.to_str())
    tokenizer = tokenizer_files.load(file)
    if tokenizer.vocab_size < options.vocab_size:
        print(f"the text gives only {tokenizer.vocab_size:,} tokens of tokenizer.vocab_size={options.vocab_size:,}")
    return tokenizer


@dataclass(frozen=True)
class _Sentences:
    """Sentences of training documents, drawn uniformly, up to the document that exceeds so many bytes."""

    corpus: Corpus
    documents: OnDisk
    most: int

    def __iter__(self) -> Iterator[str]:
        order, taken = Permutation(len(self.documents), 0, 0), 0
        most = min(self.most, _BYTES_AT_ONCE)
        at_once = min(_AT_ONCE, 1 + most * self.corpus.num_documents // self.corpus.num_bytes)
        for start in range(0, len(self.documents), at_once):
            some = self.documents[order(np.arange(start, min(start + at_once, len(self.documents))))]
            self.corpus.expect(some)
            read = {document: self.corpus.sentences(document) for document in np.sort(some).tolist()}  # file by file
            for document in some.tolist():
                sentences = read[document]
                yield from sentences
                taken += sum(len(sentence.encode()) for sentence in sentences)
                if taken > self.most:
                    return


def warn_of_unknown(config: PretrainConfig, corpus: Corpus, drawn: OnDisk, tokenizer: Tokenizer) -> None:
    """Warn where much of the text is lost, in words that become [UNK] whole."""
    characters = lost = 0
    for line in _Sentences(corpus, drawn, _SEARCHED_BYTES):
        if characters > _SEARCHED_BYTES:  # a document is much larger
            break
        pieces = tokenizer.encode_text(line)
        here = unknown_characters(line, pieces.ids, pieces.offsets, tokenizer.unk_id)
        lost, characters = lost + here[0], characters + here[1]
    if lost > MUCH_UNKNOWN * characters:
        print(
            f"WARNING: {lost / characters:.0%} of the text's characters become [UNK], which is never learned: words "
            f"with a character that the vocabulary lacks{_which_limits_characters(config)}, and runs of more than 100 "
            f"characters without a space"
        )


def _which_limits_characters(config: PretrainConfig) -> str:
    """The option that says how many characters a vocabulary trained here has."""
    options = config.tokenizer
    if options.path is not None or config.init is not None:
        return ""
    if options.max_characters < options.vocab_size // 4:
        return " (tokenizer.max_characters)"
    return " (tokenizer.vocab_size, a quarter of which is for characters)"
