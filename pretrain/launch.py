"""From a PretrainConfig to a finished run: corpus, tokenizer, batches, model, loop, report."""

import hashlib
import json
import math
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from bert import tokenizer as tokenizers
from bert.config import resolve
from bert.errors import UserError, refuse_if
from bert.packed import PackedBatch
from bert.tokenizer import Tokenizer
from bert.training import config as training_config
from bert.training import identity
from bert.training.device import autocast, choose_device, default_workers, describe, seed_torch
from bert.training.evaluation import evaluate
from bert.training.loop import Goal, fit
from bert.training.stopping import Stopped
from bert.training.tracking import Tracker
from pretrain import builtin_corpus
from pretrain.config import MaskingConfig, PretrainConfig, SentenceConfig, check
from pretrain.corpus import Corpus, open_corpus
from pretrain.data import Recipe, Sampler, Stream, frozen_batches
from pretrain.documents import FORMATS, CorpusFormat
from pretrain.fill_mask import fill_mask
from pretrain.objectives import OBJECTIVES
from pretrain.on_the_fly import OnTheFly
from pretrain.randomness import Permutation
from pretrain.sentence import SENTENCE
from pretrain.split import Split, open_split
from pretrain.token_source import TokenSource
from pretrain.token_store import TokenStore, open_store

DEFAULT_STEPS = 1000
"""The budget of a run that was given none."""

VALIDATION_SEED = 20181011
"""Of the frozen validation sets, whatever the run's own seed (the day the BERT paper came out)."""

TOKENIZER_BYTES = 200 << 20
"""Text that a tokenizer is trained on, at most; documents are drawn evenly."""

# Options that change nothing in the result, so that a run may be resumed with others.
FREE = (
    "tracking.",
    "data.cache",
    "data.reader",
    "data.tokenize",
    "output",
    "training.workers",
    "training.keep_checkpoints",
)


def pretrain(config: PretrainConfig) -> dict[str, float] | None:
    """Run, resume or decline a pretraining run, and print what it reached.

    Returns:
        The metrics that metrics.json holds; None where the output was finished before.

    Raises:
        UserError: anything the person can put right.
        Stopped: a signal asked to stop.
    """
    config = with_default_budget(config)
    refuse_if(check(config) + training_config.check(config.training))
    output = Path(config.output)
    device = choose_device(config.training)
    text = open_text(config)
    facts = {"corpus": text.fingerprint, "tokenizer": text.tokenizer.fingerprint}
    state = identity.state_of(output, asdict(config), facts, FREE)
    if state == "finished":
        print(f"'{output}' is finished: nothing to do. Its figures are in {output / 'metrics.json'}.")
        return None
    return _run(config, text, facts, device, resume=state == "unfinished")


def with_default_budget(config: PretrainConfig) -> PretrainConfig:
    """The configuration with DEFAULT_STEPS where no budget was given."""
    training = config.training
    if any(getattr(training, name) is not None for name in training_config.BUDGETS):
        return config
    return replace(config, training=replace(training, steps=DEFAULT_STEPS))


@dataclass(frozen=True)
class TextToLearn:
    """A run's text: tokens, and which documents are for what.

    Attributes:
        source: what is trained on, and validated on where `validation` is the same.
        validation: what is validated on.
        train, valid: document numbers of each.
        held_out: True for documents of `source` that are not trained on.
        characters_per_token: of the validation text.
        tokenizer: what made the tokens.
        fingerprint: of the text and the split.
    """

    source: TokenSource
    validation: TokenSource
    train: np.ndarray
    valid: np.ndarray
    held_out: np.ndarray
    characters_per_token: float
    tokenizer: Tokenizer
    fingerprint: str


def open_text(config: PretrainConfig) -> TextToLearn:
    """Read or make all that depends on corpus and tokenizer alone; most of it comes from data.cache."""
    data, cache = config.data, Path(config.data.cache)
    corpus = _corpus(config, _train_file(config), "data.train")
    apart = None if data.valid is None else _corpus(config, Path(data.valid), "data.valid")
    split = open_split(corpus.document_hashes, 0 if apart else data.valid_share, cache, corpus.fingerprint)
    _refuse_too_few(config, len(split.train), corpus)
    tokenizer = _tokenizer(config, corpus, split)
    source = _source(config, corpus, tokenizer)
    validation = _source(config, apart, tokenizer) if apart else source
    valid = np.arange(apart.num_documents) if apart else split.valid
    fingerprint = corpus.fingerprint if apart is None else f"{corpus.fingerprint} {apart.fingerprint}"
    return TextToLearn(
        source=source,
        validation=validation,
        train=split.train,
        valid=valid,
        held_out=split.held_out,
        characters_per_token=_characters_per_token(apart or corpus, validation, valid),
        tokenizer=tokenizer,
        fingerprint=fingerprint,
    )


def _train_file(config: PretrainConfig) -> Path:
    if config.data.train != "builtin":
        return Path(config.data.train)
    file = Path(config.data.cache) / "builtin.txt"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        print(f"writing the built-in corpus to {file}")
        builtin_corpus.write(file)
    return file


def _corpus(config: PretrainConfig, path: Path, argument: str) -> Corpus:
    data = config.data
    split_sentences = FORMATS[data.format].document_per_line if data.split_sentences is None else data.split_sentences
    held = CorpusFormat(data.format, data.text, split_sentences)
    corpus = open_corpus(path, data.reader, held, Path(data.cache), argument)
    sizes = f"{corpus.num_documents:,} documents, {corpus.num_sentences:,} sentences, {corpus.num_bytes / 1e6:,.1f} MB"
    empty = f"; {corpus.empty_documents:,} empty documents left out" if corpus.empty_documents else ""
    print(f"{argument}: {path}: {sizes}{empty}")
    return corpus


def _refuse_too_few(config: PretrainConfig, train_documents: int, corpus: Corpus) -> None:
    labelled = SENTENCE[config.sentence.objective].labels > 0
    needed = 2 if labelled else 1
    if train_documents >= needed:
        return
    held = "" if config.data.valid else ", besides one held out to validate on"
    raise UserError(
        f"data.train: {corpus.num_documents} document(s) in '{corpus.reader.path}', and "
        f"sentence.objective={config.sentence.objective} needs at least {needed}{held}. "
        f"Documents are separated by blank lines."
    )


def _tokenizer(config: PretrainConfig, corpus: Corpus, split: Split) -> Tokenizer:
    """The tokenizer that was given, or one trained on the training documents and kept in the cache."""
    options = config.tokenizer
    if options.path is not None:
        return tokenizers.load(Path(options.path))
    key = json.dumps([corpus.fingerprint, len(split.valid), asdict(options)], sort_keys=True)
    file = Path(config.data.cache) / f"tokenizer-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    if not file.is_file():
        print(f"training a tokenizer of {options.vocab_size:,} tokens")
        trained = tokenizers.train(_tokenizer_lines(corpus, split), options)
        unfinished = file.with_suffix(f".{np.random.SeedSequence().entropy:x}"[:12])
        unfinished.write_text(trained.backend.to_str(), encoding="utf-8")
        unfinished.replace(file)
    return tokenizers.load(file)


def _tokenizer_lines(corpus: Corpus, split: Split):
    taken = 0
    for document in split.train[Permutation(len(split.train), 0, 0)(np.arange(len(split.train)))]:
        sentences = corpus.sentences(int(document))
        yield from sentences
        taken += sum(map(len, sentences))
        if taken > TOKENIZER_BYTES:
            return


def _source(config: PretrainConfig, corpus: Corpus, tokenizer: Tokenizer) -> TokenSource:
    if config.data.tokenize == "on_the_fly":
        return OnTheFly(corpus, tokenizer)
    store = open_store(corpus, tokenizer, Path(config.data.cache), torch.get_num_threads())
    manifest = store.manifest
    print(f"token store: {manifest['tokens']:,} tokens, {manifest['unknown_share']:.2%} of them [UNK]")
    return store


def _characters_per_token(corpus: Corpus, source: TokenSource, documents: np.ndarray, most: int = 1000) -> float:
    some = np.asarray(documents[:most])
    tokens = source.counts(source.sentence_offsets[some], source.sentence_offsets[some + 1]).sum()
    return sum(len(s) for document in some.tolist() for s in corpus.sentences(document)) / max(1, int(tokens))


def training_sampler(config: PretrainConfig, text: TextToLearn) -> Sampler:
    """What a run trains on."""
    micro_batch = config.training.micro_batch_size or config.training.batch_size
    recipe = Recipe(config.data, config.sentence, config.masking, micro_batch, config.training.seed)
    return Sampler(text.source, text.train, text.held_out, text.tokenizer, recipe)


@dataclass(frozen=True)
class Validation:
    """The frozen sets a run is judged by; the same for every run on this text.

    Attributes:
        masked: one segment of whole sentences, token masking at 15%, 80-10-10.
        pairs: in the run's own input format, with its sentence labels; empty where it has none.
        unigram_cross_entropy: of masked's targets under the smoothed unigram of the training text, in nats.
        bits_per_character_factor: times a masked-LM loss in nats gives bits per character.
    """

    masked: list[PackedBatch]
    pairs: list[PackedBatch]
    unigram_cross_entropy: float
    bits_per_character_factor: float


def build_validation(config: PretrainConfig, text: TextToLearn) -> Validation:
    """Sample the validation sets."""
    data = replace(config.data, copies=0)
    whole = SentenceConfig(objective="none", input="doc_sentences", short_seq_prob=0.0)
    masking = MaskingConfig(strategy="token")
    micro_batch = config.training.micro_batch_size or config.training.batch_size
    most = config.training.eval_sequences
    recipe = Recipe(data, whole, masking, micro_batch, VALIDATION_SEED)
    not_valid = np.ones(len(text.validation.document_hashes), bool)
    not_valid[text.valid] = False
    masked = frozen_batches(Sampler(text.validation, text.valid, not_valid, text.tokenizer, recipe), most)
    pairs = []
    if SENTENCE[config.sentence.objective].labels:
        recipe = replace(recipe, sentence=replace(config.sentence, random_share=0.5))
        sampler = Sampler(text.validation, text.valid, not_valid, text.tokenizer, recipe)
        pairs = [_without_masked(batch) for batch in _pairs(sampler, most)]
    return Validation(
        masked=masked,
        pairs=pairs,
        unigram_cross_entropy=_unigram_cross_entropy(masked, text),
        bits_per_character_factor=1 / math.log(2) / text.characters_per_token,
    )


def _pairs(sampler: Sampler, most: int) -> list[PackedBatch]:
    try:
        return frozen_batches(sampler, most)
    except UserError as error:
        raise UserError(
            f"data.valid_share: the validation documents are too few for sentence pairs ({error})"
        ) from None


def _without_masked(batch: PackedBatch) -> PackedBatch:
    """The batch with its tokens masked as they are, and the sentence labels alone to answer for."""
    return replace(batch, targets={"sentence_labels": batch.targets["sentence_labels"]})


def _unigram_cross_entropy(masked: list[PackedBatch], text: TextToLearn) -> float:
    """Nats that a model knowing frequencies alone would need for each validation target (add-one smoothing)."""
    counts = _training_counts(text) + 1.0
    targets = np.concatenate([batch.targets["masked_labels"].numpy() for batch in masked])
    return float(np.log(counts.sum()) - np.log(counts[targets]).mean())


def _training_counts(text: TextToLearn, most_on_the_fly: int = 2000) -> np.ndarray:
    """How often each id occurs in the training documents, (vocabulary,); in some of them where there is no store."""
    source = text.source
    if not isinstance(source, TokenStore):
        return _count(source, np.asarray(text.train[:most_on_the_fly]), text.tokenizer.vocab_size)
    held_out = np.flatnonzero(text.held_out)
    return source.token_counts - _count(source, held_out, text.tokenizer.vocab_size)


def _count(source: TokenSource, documents: np.ndarray, vocab_size: int) -> np.ndarray:
    if len(documents) == 0:
        return np.zeros(vocab_size, np.int64)
    ids, _ = source.read(source.sentence_offsets[documents], source.sentence_offsets[documents + 1])
    return np.bincount(ids, minlength=vocab_size)


def _run(config: PretrainConfig, text: TextToLearn, facts: dict[str, str], device: torch.device, resume: bool) -> dict:
    output, sampler = Path(config.output), training_sampler(config, text)
    tally = _refuse_no_sequences(sampler)
    validation = build_validation(config, text)
    stream = Stream(sampler, default_workers(config.training, device))
    objective = _objective(config, text, device)
    identity.claim(output, asdict(config), facts)
    tracker = Tracker(
        output,
        config.tracking,
        params=asdict(config) | {"data_sample": tally},
        tags=_tags(text, device),
        resume=resume,
    )
    status = "FAILED"
    try:
        result = fit(
            objective,
            stream,
            _evaluator(config, objective, validation, device),
            config.training,
            Goal("valid/masked_lm_loss", higher_is_better=False, root="last"),
            output,
            tracker,
        )
        result = {**result, "parameters": sum(parameter.numel() for parameter in objective.parameters())}
        identity.finish(output, result)
        for name in (
            "run.yaml",
            "metrics.json",
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
        ):
            tracker.artifact(output / name, "model" if name not in ("run.yaml", "metrics.json") else "")
        status = "FINISHED"
    except (Stopped, KeyboardInterrupt):
        status = "KILLED"
        raise
    finally:
        tracker.finish(status)
    _report(config, result, objective, text, output)
    return result


def _refuse_no_sequences(sampler: Sampler) -> dict[str, int]:
    """The tally of the first block; refuses a corpus that gives no example at all."""
    for number in range(sampler.num_blocks):
        block = sampler.block(0, number)
        if len(block):
            print(_in_words(block.tally, sampler))
            return block.tally
    raise UserError(
        f"data.train: no example in it: sentence.input={sampler.recipe.sentence.input} needs documents of at least "
        f"{sampler.input.segments} sentence(s)."
    )


def _in_words(tally: dict[str, int], sampler: Sampler) -> str:
    """What sampling makes of the first block of documents."""
    sequences, sentences = tally["sequences"], max(1, tally["sentences"])
    said = [
        f"{tally['documents']:,} documents (of {len(sampler.documents):,}) give {sequences:,} sequences of "
        f"{tally['tokens'] / sequences:.0f} tokens on average",
        f"{tally['tokens_truncated'] / (tally['tokens'] + tally['tokens_truncated']):.1%} of the tokens are cut off",
        f"{tally['sentences_left_over'] / sentences:.1%} of the sentences make no example",
    ]
    if sampler.sentence.labels:
        said.append(f"{tally['pairs_random'] / sequences:.1%} of the pairs have a random B")
    return "sampling: " + "; ".join(said)


def _objective(config: PretrainConfig, text: TextToLearn, device: torch.device):
    model = resolve(config.model, text.tokenizer.vocab_size, text.tokenizer.pad_id)
    seed_torch(config.training.seed)
    build = OBJECTIVES[config.objective]
    labels = SENTENCE[config.sentence.objective].labels
    objective = build(model, text.tokenizer, labels, config.training.attention).to(device)
    size = sum(parameter.numel() for parameter in objective.parameters())
    print(
        f"model: {model.num_hidden_layers} layers, width {model.hidden_size}, {size / 1e6:.1f} M parameters, {describe(device)}"
    )
    return objective


def _evaluator(config: PretrainConfig, objective, validation: Validation, device: torch.device) -> Callable:
    def run() -> dict[str, float]:
        found = evaluate(objective, validation.masked, device, autocast(config.training, device))
        found |= evaluate(objective, validation.pairs, device, autocast(config.training, device))
        return {
            **{f"valid/{name}": value for name, value in found.items()},
            "valid/unigram_cross_entropy": validation.unigram_cross_entropy,
            "valid/bits_per_character": found["masked_lm_loss"] * validation.bits_per_character_factor,
        }

    return run


def _tags(text: TextToLearn, device: torch.device) -> dict[str, str]:
    return {
        "corpus": text.fingerprint[:16],
        "tokenizer": text.tokenizer.fingerprint[:16],
        "device": describe(device),
        "git_commit": _git_commit(),
        "torch": torch.__version__,
    }


def _git_commit() -> str:
    """The commit of this code, with a mark where files differ from it."""
    here = Path(__file__).parent
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return said.stdout.strip()


def _report(config: PretrainConfig, result: dict[str, float], objective, text: TextToLearn, output: Path) -> None:
    """A table of what was reached, a few masked sentences, and where to look."""
    shown = [name for name in result if name.startswith("valid/")] + ["steps", "tokens", "epochs"]
    width = max(map(len, shown))
    print("\n" + "\n".join(f"  {name:<{width}}  {result[name]:,.4g}" for name in shown))
    below = result["valid/unigram_cross_entropy"] - result["valid/masked_lm_loss"]
    print(f"\n  {below:.2f} nats below what word frequencies alone would give")
    _show_filled(objective.cpu().eval(), text)
    print(f"\nmodel and figures:  {output}")
    print(f'try it:             python run.py fill-mask --checkpoint {output} --text "... [MASK] ..."')
    if config.tracking.uri != "none":
        print(f"see the run:        mlflow ui --backend-store-uri {config.tracking.uri}")


def _show_filled(objective, text: TextToLearn, sentences: int = 4) -> None:
    """Mask one whole-word token in a few validation sentences, and show what the model would write there."""
    rng, shown = np.random.default_rng(VALIDATION_SEED), 0
    print()
    for document in np.asarray(text.valid[:200]):
        first = text.validation.sentence_offsets[document]
        ids, starts = text.validation.read(np.array([first]), np.array([first + 1]))
        alone = np.flatnonzero(starts & np.append(starts[1:], True))  # words of one token
        if not 12 <= len(ids) <= 40 or len(alone) < 4:
            continue
        place = int(rng.choice(alone))
        masked = text.tokenizer.decode([*ids[:place], text.tokenizer.mask_id, *ids[place + 1 :]])
        best = fill_mask(objective, masked, 3)[0]
        said = ", ".join(f"{candidate.token} {candidate.probability:.0%}" for candidate in best)
        print(f"  {masked}\n      {text.tokenizer.token(int(ids[place]))} was masked; the model says {said}")
        shown += 1
        if shown == sentences:
            return
