"""A run's text: corpus, split, tokenizer and token store, made once and then read from the cache."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bert import builtin_corpus, tokenizer_files
from bert.counting import count_of
from bert.errors import UserError, refuse_if
from bert.tokenizer import Tokenizer
from bert.training import provenance
from bert.training.provenance import UsedDataset
from pretrain import mixture
from pretrain.config import PretrainConfig
from pretrain.corpus import Corpus, open_corpus
from pretrain.corpus_files import named_files, refuse_unreadable
from pretrain.documents import FORMATS, CorpusFormat
from pretrain.on_the_fly import OnTheFly
from pretrain.options import for_several_files
from pretrain.randomness import Permutation
from pretrain.sentence import SENTENCE
from pretrain.split import OnDisk, Split, open_split
from pretrain.token_source import TokenSource
from pretrain.token_store import open_store
from pretrain.trained_tokenizer import trained_tokenizer, warn_of_unknown

MEASURED_BYTES = 16 << 20
"""About how much validation text characters are counted in at most; documents are drawn uniformly."""

LARGE_DOCUMENT = 64 << 20
"""Mean bytes of a document above which a run asks whether blank lines are missing: documents are read whole."""

_MOST_NAMED = 5  # files of a corpus, in messages


@dataclass(frozen=True)
class TextToLearn:
    """A run's text: tokens, and which documents are for what.

    Attributes:
        source: the corpus to train on.
        valid_source: the corpus to validate on; the same one if documents are held out.
        train_documents, valid_documents: document numbers in each, ascending.
        drawn_documents: those to train on, each as often as it is read in an epoch.
        characters_per_token: of the validation text.
        tokenizer: the one that made the tokens.
        fingerprint: of the corpus, and of data.valid if given.
        train_files, valid_files: what they were read from; the latter empty where documents are held out.
    """

    source: TokenSource
    valid_source: TokenSource
    train_documents: OnDisk
    drawn_documents: OnDisk
    valid_documents: np.ndarray
    characters_per_token: float
    tokenizer: Tokenizer
    fingerprint: str
    train_files: list[Path]
    valid_files: list[Path]


def open_text(config: PretrainConfig, tokenizer: Tokenizer | None = None) -> TextToLearn:
    """Read or make all that depends only on corpus and tokenizer; most of it comes from data.cache.

    Args:
        config: the run's options.
        tokenizer: that of the model it continues from; without one it is loaded or trained as tokenizer.* says.
    """
    data, cache = config.data, Path(config.data.cache)
    if tokenizer is None and config.tokenizer.path is not None:
        tokenizer = tokenizer_files.load(Path(config.tokenizer.path))
    corpus, apart = _corpora(config)
    if len(corpus.files.paths) == 1:
        refuse_if(for_several_files(config))
    print(_in_words(config, corpus, "data.train"))
    if apart:
        print(_in_words(config, apart, "data.valid"))
    split = open_split(corpus.document_hashes, 0 if apart else data.valid_share, cache, corpus.fingerprint)
    _refuse_too_few(config, split, corpus, apart)
    if apart is None:
        print(_held_out_in_words(len(split.valid), corpus.num_documents, data.valid_share))
    drawn = _drawn(config, corpus, split)
    tokenizer = tokenizer or trained_tokenizer(config, corpus, split, drawn)
    warn_of_unknown(config, corpus, drawn, tokenizer)
    source = _source(config, corpus, tokenizer)
    valid_source = _source(config, apart, tokenizer) if apart else source
    valid_documents = np.arange(apart.num_documents) if apart else split.valid
    return TextToLearn(
        source=source,
        valid_source=valid_source,
        train_documents=split.train,
        drawn_documents=drawn,
        valid_documents=valid_documents,
        characters_per_token=_characters_per_token(apart or corpus, valid_source, valid_documents),
        tokenizer=tokenizer,
        fingerprint=_fingerprint(corpus, apart),
        train_files=corpus.files.paths,
        valid_files=apart.files.paths if apart else [],
    )


def text_fingerprint(config: PretrainConfig) -> str:
    """TextToLearn.fingerprint, without anything that needs a tokenizer."""
    return _fingerprint(*_corpora(config))


def datasets_of(text: TextToLearn) -> list[UsedDataset]:
    """The training and validation text, the latter from files of its own or the held-out documents."""
    files, apart = text.train_files, text.valid_files
    valid = _sizes(text.valid_source, text.valid_documents)
    train = _sizes(text.source)
    if not apart:
        train = {name: number - valid[name] for name, number in train.items()}
    held_out = (apart, _name(apart)) if apart else (files, f"{_name(files)} (held out)")
    parts = [(files, _name(files), "training", train), (*held_out, "validation", valid)]
    return [
        UsedDataset(name, _digest(text, context, sizes), _common_place(files), context, sizes)
        for files, name, context, sizes in parts
    ]


def _name(files: list[Path]) -> str:
    """The file's name, or the first one's and how many more there are."""
    return files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more"


def _common_place(files: list[Path]) -> str:
    """The file, or the folder that all of them are below."""
    return os.path.commonpath([os.path.abspath(file) for file in files])


def _sizes(source: TokenSource, documents: np.ndarray | None = None) -> dict[str, int]:
    """Documents, sentences and tokens of some documents, or of all; no tokens if counting would mean tokenising."""
    if documents is None:
        sizes = {"documents": len(source.sentence_offsets) - 1, "sentences": int(source.sentence_offsets[-1])}
    else:
        first, last = source.sentences_of(documents)
        sizes = {"documents": len(documents), "sentences": int((last - first).sum())}
    tokens = source.tokens_in(documents)
    return sizes if tokens is None else sizes | {"tokens": tokens}


def _digest(text: TextToLearn, context: str, sizes: dict[str, int]) -> str:
    """The digest of the tokenised text: another tokenizer or share makes another dataset."""
    return provenance.fingerprint([text.fingerprint, text.tokenizer.fingerprint, context, repr(sizes)])[:16]


def _corpora(config: PretrainConfig) -> tuple[Corpus, Corpus | None]:
    """The corpora of data.train and data.valid, if that is given."""
    data = config.data
    train = [_builtin_file(config)] if data.train == "builtin" else named_files(data.train, "data.train")
    valid = [] if data.valid is None else named_files(data.valid, "data.valid")
    for file in valid:
        refuse_unreadable(file, "data.valid")  # now, not after reading all of data.train
    corpus = _corpus(config, train, "data.train")
    return corpus, _corpus(config, valid, "data.valid") if valid else None


def _fingerprint(corpus: Corpus, apart: Corpus | None) -> str:
    return corpus.fingerprint if apart is None else f"{corpus.fingerprint} {apart.fingerprint}"


def _builtin_file(config: PretrainConfig) -> Path:
    file = Path(config.data.cache) / "builtin.txt"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        print(f"writing the built-in corpus to {file}")
        builtin_corpus.write(file)
    return file


def _corpus(config: PretrainConfig, files: list[Path], argument: str) -> Corpus:
    data = config.data
    if data.format == "text" and (lines := [str(file) for file in files if file.suffix == ".jsonl"]):
        raise UserError(
            f"data.format: '{lines[0]}' is JSONL by its name, not text: --data.format jsonl --data.text FIELD."
        )
    held = CorpusFormat(data.format, data.text, data.splits_sentences, data.on_bad_row)
    return open_corpus(files, data.reader, held, Path(data.cache), argument)


def _in_words(config: PretrainConfig, corpus: Corpus, argument: str) -> str:
    """What a corpus holds, and what of it is not used."""
    sizes = f"{count_of(corpus.num_documents, 'document')}, {count_of(corpus.num_sentences, 'sentence')}"
    sizes += f", {corpus.num_bytes / 1e6:,.1f} MB"
    unused = (
        (corpus.empty_documents, "empty document", "left out"),
        (corpus.blank_lines, "blank line", "passed over"),
        (corpus.refused, "line", "refused"),
        (corpus.empty_files, "file", "without any text"),
    )
    said = [f"{count_of(number, noun)} {fate}" for number, noun, fate in unused if number]
    lines = ["; ".join([f"{argument}: {_named(corpus.files.paths)}: {sizes}", *said]), *corpus.faults]
    text = "\n  ".join(lines)
    if corpus.num_bytes <= LARGE_DOCUMENT * corpus.num_documents:
        return text
    size = f"{corpus.num_bytes / corpus.num_documents / 1e6:,.0f} MB on average, held in memory whole"
    return f"{text}\nWARNING: {argument}: large documents ({size}). {_what_documents_are(config)}"


def _named(files: list[Path]) -> str:
    """The files, as far as they fit a line."""
    shown = ", ".join(map(str, files[:_MOST_NAMED]))
    if len(files) == 1:
        return shown
    return f"{len(files):,} files ({shown}{', ...' if len(files) > _MOST_NAMED else ''})"


def _held_out_in_words(held_out: int, documents: int, share: float) -> str:
    said = f"data.valid_share: {held_out:,} of {count_of(documents, 'document')} held out for validation"
    many = held_out > 2 * max(1.0, share * documents)
    return f"{said}: more than {share:.1%}, since copies of a document stay together" if many else said


def _what_documents_are(config: PretrainConfig) -> str:
    per_line = FORMATS[config.data.format].document_per_line
    return "A document is a line." if per_line else "Documents are separated by blank lines."


def _refuse_too_few(config: PretrainConfig, split: Split, corpus: Corpus, apart: Corpus | None) -> None:
    """Refuse a corpus of too few documents to draw from, before anything is made of it."""
    sentence, number = config.sentence, corpus.num_documents
    needed = 2 if sentence.needs_another_document else 1
    if len(split.train) < needed:
        held = f", besides {len(split.valid)} held out for validation (data.valid names a corpus of its own instead)"
        raise UserError(
            f"data.train: {count_of(number, 'document')} in {corpus.name}, and sentence.objective="
            f"{sentence.objective} needs at least {needed}{'' if apart else held}. {_what_documents_are(config)}"
        )
    of_another = [name for name, pairs in sentence.judged_on.items() if pairs.needs_another_document]
    if not of_another or (apart.num_documents if apart else len(split.valid)) >= 2:
        return
    judged = f"sentence.objective={sentence.objective} is evaluated on pairs of two documents"
    why = f"{judged} (valid/{of_another[0]}_accuracy)"
    if apart:
        few = f"data.valid: 1 document in {apart.name}, and {why}. {_what_documents_are(config)}"
    else:
        share = f"data.valid_share: {config.data.valid_share:g} of {count_of(number, 'document')} is {len(split.valid)}"
        few = f"{share}, and {why}; use {2 / number:.2g} at least."
    raise UserError(few)


def _drawn(config: PretrainConfig, corpus: Corpus, split: Split) -> OnDisk:
    """The training documents, each as often as data.exponent has it read in an epoch."""
    exponent = config.data.exponent
    if exponent == 1:
        return split.train
    print(mixture.in_words(corpus, exponent))
    if SENTENCE[config.sentence.objective].replaces_b and config.sentence.negatives == "other_document":
        print("  random Bs are from any of them; if they differ in language, try --sentence.negatives same_file")
    return mixture.open_mixture(corpus, split.train, exponent, Path(config.data.cache))


def _source(config: PretrainConfig, corpus: Corpus, tokenizer: Tokenizer) -> TokenSource:
    if config.data.tokenize == "on_the_fly":
        return OnTheFly(corpus, tokenizer)
    store = open_store(corpus, tokenizer, Path(config.data.cache), torch.get_num_threads(), config.data.verify)
    manifest = store.manifest
    unknown = manifest["unknown_share"]
    print(f"token store: {manifest['tokens']:,} tokens, {unknown:.2%} of them [UNK]")
    return store


def _characters_per_token(corpus: Corpus, source: TokenSource, documents: np.ndarray) -> float:
    """Of those documents, or of a uniform draw of them if they exceed MEASURED_BYTES."""
    wanted = min(len(documents), 1 + int(MEASURED_BYTES / source.mean_document_bytes))
    drawn = np.sort(documents[Permutation(len(documents), 0, 0)(np.arange(wanted))])
    corpus.expect(drawn)
    tokens = source.counts(*source.sentences_of(drawn)).sum()
    return sum(len(s) for document in drawn.tolist() for s in corpus.sentences(document)) / max(1, int(tokens))
