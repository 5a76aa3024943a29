import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bert.errors import UserError
from bert.tokenizer import TokenizerConfig
from bert.training.config import TrainingConfig
from pretrain import text as text_
from pretrain import validation
from pretrain.config import DataConfig, MaskingConfig, PretrainConfig, SentenceConfig
from pretrain.corpus import open_corpus
from pretrain.documents import CorpusFormat
from pretrain.launch import pretrain
from pretrain.masking import MASKING
from pretrain.text import TextToLearn, open_text
from pretrain.validation import Validation, build_validation, set_of
from tests.pretrain.conftest import made_up_text, write_text

EVERYTHING = 10**9
"""More sequences than there are."""


def changed(config: PretrainConfig, **options) -> PretrainConfig:
    """A config with other options, dots written as __: masking__rate=0.3."""
    for name, value in options.items():
        section, option = name.split("__")
        config = replace(config, **{section: replace(getattr(config, section), **{option: value})})
    return config


@pytest.fixture(scope="module")
def config(text_file, tmp_path_factory) -> PretrainConfig:
    cache = str(tmp_path_factory.mktemp("cache"))
    return PretrainConfig(
        data=DataConfig(train=str(text_file), cache=cache, max_length=40, valid_share=0.4),
        tokenizer=TokenizerConfig(vocab_size=500),
        training=TrainingConfig(steps=1, batch_size=8, eval_sequences=EVERYTHING),
    )


@pytest.fixture(scope="module")
def text(config) -> TextToLearn:
    return open_text(config)


@pytest.fixture(scope="module")
def built(config, text) -> Validation:
    return build_validation(config, text)


def contents(batches) -> list[list]:
    """All that batches hold, as one list that can be compared."""
    return [
        [
            batch.token_ids.tolist(),
            batch.segment_ids.tolist(),
            batch.cu_seqlens.tolist(),
            {name: target.tolist() for name, target in batch.targets.items()},
        ]
        for batch in batches
    ]


def joined(batches, part) -> np.ndarray:
    return torch.cat([part(batch) for batch in batches]).numpy()


def document_ids(text: TextToLearn, documents) -> list[list[int]]:
    offsets = text.valid_source.sentence_offsets
    return [text.valid_source.read(offsets[[d]], offsets[[d + 1]])[0].tolist() for d in np.asarray(documents)]


def lies_in(run: list[int], documents: list[list[int]]) -> bool:
    marked = [" ".join(map(str, ["", *document, ""])) for document in documents]
    return any(" ".join(map(str, ["", *run, ""])) in document for document in marked)


# What is the same for every run.

ARMS = {
    "seed": {"training__seed": 7},
    "masking": {
        "masking__strategy": "token",
        "masking__rate": 0.4,
        "masking__mask_share": 1.0,
        "masking__random_share": 0.0,
    },
    "static masks": {"data__copies": 3, "masking__static": True},
    "learning": {"training__lr": 1.0, "training__workers": 2},
}


@pytest.mark.parametrize("options", ARMS.values(), ids=ARMS)
def test_both_sets_are_the_same_for_every_arm(config, text, built, options):
    other = build_validation(changed(config, **options), text)
    assert contents(other.masked["token"]) == contents(built.masked["token"])
    assert contents(other.pairs["nsp"]) == contents(built.pairs["nsp"])
    assert other.unigram_cross_entropy == built.unigram_cross_entropy


@pytest.mark.parametrize("strategy", MASKING)
def test_the_masked_set_is_the_same_whatever_strategy_is_trained(config, text, built, strategy):
    assert contents(build_validation(changed(config, masking__strategy=strategy), text).masked["token"]) == contents(
        built.masked["token"]
    )


@pytest.mark.parametrize(
    "sentence",
    [
        {"objective": "none", "input": "doc_sentences"},
        {"objective": "none", "input": "segment_pair"},
        {"input": "sentence_pair", "negatives": "anywhere"},
        {"random_share": 0.2, "remainder": "drop", "truncation": "second_first", "short_seq_prob": 0.9},
    ],
)
def test_the_masked_set_is_the_same_whatever_the_sentences_are(config, text, built, sentence):
    other = build_validation(replace(config, sentence=SentenceConfig(**sentence)), text)
    assert contents(other.masked["token"]) == contents(built.masked["token"])


@pytest.mark.parametrize("options", [{"training__batch_size": 16}, {"training__micro_batch_size": 4}])
def test_the_masked_set_is_the_same_whatever_the_batch_size(config, text, built, options):
    other = build_validation(changed(config, **options), text)
    by_sequence = [
        [
            ids.tolist()
            for batch in found.masked["token"]
            for ids in torch.tensor_split(batch.token_ids, batch.cu_seqlens[1:-1].long())
        ]
        for found in (built, other)
    ]
    assert by_sequence[0] == by_sequence[1]


def test_there_are_as_many_sequences_as_asked_for_at_most(config, text):
    few = build_validation(changed(config, training__eval_sequences=10), text)
    assert sum(batch.num_sequences for batch in few.masked["token"]) <= 10
    assert sum(batch.num_sequences for batch in few.pairs["nsp"]) <= 10


@pytest.mark.parametrize(
    ("metric", "of"),
    [
        ("masked_lm_loss", "masked_lm"),
        ("masked_lm_accuracy", "masked_lm"),
        ("span_masked_lm_loss", "span_masked_lm"),
        ("whole_word_masked_lm_loss", "whole_word_masked_lm"),
        ("span_boundary_loss", "masked_lm"),  # an objective's own, measured where masked_lm_loss is
        ("sentence_loss", "sentence"),
        ("sop_accuracy", "sop"),
    ],
)
def test_the_set_that_a_metric_is_measured_on_is_known_by_its_whole_name(metric, of):
    assert set_of(metric) == of


def test_tokens_made_on_the_fly_give_the_same_sets(config, built):
    fresh = changed(config, data__tokenize="on_the_fly")
    other = build_validation(fresh, open_text(fresh))
    assert contents(other.masked["token"]) == contents(built.masked["token"])
    assert contents(other.pairs["nsp"]) == contents(built.pairs["nsp"])
    assert other.unigram_cross_entropy == built.unigram_cross_entropy


def test_tokens_made_on_the_fly_give_the_same_unigram_for_a_large_corpus(config, built, monkeypatch):
    monkeypatch.setattr(validation, "UNIGRAM_BYTES", 0)  # one document: built counted on all of them
    fresh = changed(config, data__tokenize="on_the_fly")
    few = [build_validation(how, open_text(how)).unigram_cross_entropy for how in (config, fresh)]
    assert few[0] == few[1] != built.unigram_cross_entropy


# The masked set.


def test_15_percent_of_the_ordinary_tokens_of_each_sequence_are_targets(text, built):
    for batch in built.masked["token"]:
        ids = batch.token_ids.clone()
        ids[batch.targets["masked_index"]] = batch.targets["masked_labels"]
        ordinary = torch.from_numpy(~np.isin(ids.numpy(), text.tokenizer.special_ids))
        for begin, end in zip(batch.cu_seqlens[:-1].tolist(), batch.cu_seqlens[1:].tolist(), strict=True):
            index = batch.targets["masked_index"]
            targets = int(((index >= begin) & (index < end)).sum())
            assert targets == max(1, round(0.15 * int(ordinary[begin:end].sum())))


def test_targets_become_mask_random_or_stay_80_10_10(text, built):
    seen = joined(built.masked["token"], lambda batch: batch.token_ids[batch.targets["masked_index"]])
    labels = joined(built.masked["token"], lambda batch: batch.targets["masked_labels"])
    n, mask = len(labels), text.tokenizer.mask_id
    shares = np.array([np.mean(seen == mask), np.mean((seen != mask) & (seen != labels)), np.mean(seen == labels)])
    assert n > 200
    assert (np.abs(shares - [0.8, 0.1, 0.1]) < 5 * (np.array([0.16, 0.09, 0.09]) / n) ** 0.5).all()


def test_the_masked_set_is_single_segments_of_the_validation_documents(text, built):
    documents = document_ids(text, text.valid_documents)
    for batch in built.masked["token"]:
        assert batch.segment_ids.sum() == 0
        ids = batch.token_ids.clone()
        ids[batch.targets["masked_index"]] = batch.targets["masked_labels"]
        for sequence in torch.tensor_split(ids, batch.cu_seqlens[1:-1].long()):
            assert lies_in(sequence[1:-1].tolist(), documents)


def test_every_validation_sentence_is_in_the_masked_set_where_there_is_room(config, text):
    roomy = build_validation(changed(config, data__max_length=512), text)
    tokens = sum(batch.num_tokens - 2 * batch.num_sequences for batch in roomy.masked["token"])
    assert tokens == sum(map(len, document_ids(text, text.valid_documents)))


# The pairs.


def test_pairs_answer_for_their_labels_alone_and_half_of_them_are_random(config, text):
    for share in (0.1, 1.0):
        pairs = build_validation(changed(config, sentence__random_share=share), text).pairs["nsp"]
        assert all(set(batch.targets) == {"sentence_labels"} for batch in pairs)
        labels = joined(pairs, lambda batch: batch.targets["sentence_labels"])
        assert abs(labels.mean() - 0.5) < 5 * (0.25 / len(labels)) ** 0.5


def test_without_a_sentence_objective_there_are_no_pairs(config, text):
    assert build_validation(replace(config, sentence=SentenceConfig(objective="none")), text).pairs == {}


def test_both_texts_of_every_pair_are_from_the_validation_documents(text, built):
    documents, mask = document_ids(text, text.valid_documents), text.tokenizer.mask_id
    known = [set(document) for document in documents]
    for batch in built.pairs["nsp"]:
        for sequence, segments in zip(
            torch.tensor_split(batch.token_ids, batch.cu_seqlens[1:-1].long()),
            torch.tensor_split(batch.segment_ids, batch.cu_seqlens[1:-1].long()),
            strict=True,
        ):
            for segment in (sequence[segments == 0][1:-1], sequence[segments == 1][:-1]):
                # Some tokens are masked or random, so most of a segment must be found in one document.
                ids = [number for number in segment.tolist() if number != mask]
                assert max((sum(n in words for n in ids) for words in known), default=0) >= 0.5 * len(ids)


def test_too_few_validation_documents_for_pairs_name_the_share(config):
    few = changed(config, data__valid_share=0.04)
    text = open_text(few)
    sentences = np.diff(text.valid_source.sentence_offsets)
    text = replace(text, valid_documents=np.flatnonzero(sentences == 1))
    with pytest.raises(UserError, match=r"data\.valid_share: the validation documents are too few for sentence pairs"):
        build_validation(few, text)


# The yardsticks.


def test_the_unigram_cross_entropy_is_that_of_add_one_counts(config, text, built):
    held = set(np.asarray(text.valid_documents).tolist())
    training = [d for d in range(len(text.source.document_hashes)) if d not in held]
    assert training == np.asarray(text.train_documents).tolist()
    counts = Counter(number for document in document_ids(text, training) for number in document)
    labels = joined(built.masked["token"], lambda batch: batch.targets["masked_labels"]).tolist()
    total = sum(counts.values()) - counts[text.tokenizer.unk_id] + text.tokenizer.vocab_size - 1  # [UNK] is no target
    expected = -sum(math.log((counts[number] + 1) / total) for number in labels) / len(labels)
    assert built.unigram_cross_entropy == pytest.approx(expected, rel=1e-12)


def test_bits_per_character_come_from_nats_per_token(config, text, built):
    corpus = open_corpus([Path(config.data.train)], "mmap", CorpusFormat(), config.data.cache)
    documents = np.asarray(text.valid_documents).tolist()
    characters = sum(len(line) for document in documents for line in corpus.sentences(document))
    tokens = sum(map(len, document_ids(text, text.valid_documents)))
    assert built.bits_per_character_factor == pytest.approx(tokens / characters / math.log(2))


def test_characters_per_token_are_of_documents_drawn_evenly_where_they_are_many(monkeypatch, tmp_path):
    # One source after another: the first has lines of 30 characters and more, the second of a third of that.
    sources = [(0, "a" * 30), (1000, "가" * 5)]
    numbered = [[f"{begin + place} {line}"] * 2 for begin, line in sources for place in range(1000)]
    given = {"train": str(write_text(tmp_path / "train.txt", numbered[:4])), "cache": str(tmp_path)}
    valid = str(write_text(tmp_path / "valid.txt", numbered))
    config = PretrainConfig(data=DataConfig(valid=valid, **given), tokenizer=TokenizerConfig(vocab_size=300))
    everything = open_text(config).characters_per_token
    monkeypatch.setattr(text_, "MEASURED_BYTES", 10_000)
    drawn = open_text(config).characters_per_token
    assert drawn == open_text(config).characters_per_token != everything
    assert drawn == pytest.approx(everything, rel=0.1)


# A validation corpus of its own.


def test_data_valid_leaves_all_of_data_train_to_train_on(config, tmp_path):
    documents = made_up_text(20, seed=99)
    apart = changed(config, data__valid=str(write_text(tmp_path / "valid.txt", documents)))
    text = open_text(apart)
    assert np.asarray(text.train_documents).tolist() == list(range(62))
    assert np.asarray(text.valid_documents).tolist() == list(range(20))
    lines = [[text.tokenizer.encode_lines([line]).ids.tolist() for line in document] for document in documents]
    tokens = sum(len(ids) for document in lines for ids in document)
    roomy = build_validation(changed(apart, data__max_length=512), text)
    assert sum(batch.num_tokens - 2 * batch.num_sequences for batch in roomy.masked["token"]) == tokens


def test_the_tokenizer_is_trained_without_the_validation_documents(tmp_path):
    documents = [[f"{word} one two.", f"three {word} four."] for word in ("alpha", "beta", "gamma", "delta")]
    config = PretrainConfig(
        data=DataConfig(train=str(write_text(tmp_path / "t.txt", documents)), cache=str(tmp_path), valid_share=0.5),
        tokenizer=TokenizerConfig(vocab_size=200),
    )
    text = open_text(config)
    vocabulary = text.tokenizer.backend.get_vocab()
    names = ["alpha", "beta", "gamma", "delta"]
    assert [names[d] for d in np.asarray(text.valid_documents)] == [name for name in names if name not in vocabulary]


# Corpora that give nothing to train on.


def refused(tmp_path, documents: list[list[str]], **sentence) -> str:
    config = PretrainConfig(
        data=DataConfig(train=str(write_text(tmp_path / "t.txt", documents)), cache=str(tmp_path / "cache")),
        tokenizer=TokenizerConfig(vocab_size=100),
        sentence=SentenceConfig(**sentence),
        training=TrainingConfig(steps=1),
        output=str(tmp_path / "run"),
    )
    with pytest.raises(UserError) as raised:
        pretrain(config)
    assert not (tmp_path / "run").exists()
    return str(raised.value)


@pytest.mark.parametrize("objective", ["nsp", "none"])
def test_documents_of_one_sentence_are_refused_for_pairs(tmp_path, objective):
    said = refused(tmp_path, [[f"Line number {n}."] for n in range(30)], objective=objective)
    assert said == (
        "data.train: no example in it: sentence.input=segment_pair needs documents of at least 2 sentences; "
        "sentence.objective=none with sentence.input=doc_sentences needs one. "
        "A line of text is a sentence unless data.split_sentences=true looks for them within lines."
    )


def test_one_document_is_refused_since_one_is_held_out(tmp_path):
    said = refused(tmp_path, [["One line.", "Another line.", "A third."]], objective="none")
    assert "1 document in" in said
    assert "needs at least 1, besides 1 held out for validation" in said


@pytest.mark.parametrize(
    ("sentence", "too"), [({}, "nsp"), ({"objective": "sop"}, "nsp"), ({"negatives": "same_document"}, None)]
)
def test_one_held_out_document_is_refused_for_pairs_of_two_before_anything_is_made(tmp_path, sentence, too):
    documents = [[f"Document {n}, line {line}." for line in range(6)] for n in range(20)]
    config = PretrainConfig(
        data=DataConfig(train=str(write_text(tmp_path / "t.txt", documents)), cache=str(tmp_path / "cache")),
        tokenizer=TokenizerConfig(vocab_size=100),
        sentence=SentenceConfig(**sentence),
    )
    if too is None:
        assert len(open_text(config).valid_documents) == 1
        return
    with pytest.raises(UserError) as raised:
        open_text(config)
    objective = sentence.get("objective", "nsp")
    assert str(raised.value) == (
        f"data.valid_share: 0.05 of 20 documents is 1, and sentence.objective={objective} is evaluated on pairs of two "
        f"documents (valid/{too}_accuracy); use 0.1 at least."
    )
    assert not list((tmp_path / "cache").glob("*token*"))
    enough = replace(config, data=replace(config.data, valid_share=0.1))
    assert build_validation(enough, open_text(enough)).pairs["nsp"]
    apart = replace(config.data, valid=str(write_text(tmp_path / "v.txt", documents[:1])))
    with pytest.raises(
        UserError, match=r"^data\.valid: 1 document in '.*v\.txt', and sentence\.objective=.* is evaluated"
    ):
        open_text(replace(config, data=apart))


def test_copies_of_one_document_are_refused_since_all_are_held_out(tmp_path):
    assert "data.train" in refused(tmp_path, [["One line.", "Another line."]] * 10)


def test_masking_of_the_config_is_not_that_of_validation():
    assert MaskingConfig().strategy != "token"  # else the tests above prove less than they say


def test_validation_much_longer_than_what_is_trained_on_is_said(built):
    tokens = sum(batch.num_tokens for batch in built.masked["token"])
    length = tokens / sum(batch.num_sequences for batch in built.masked["token"])
    said = f" in sequences of {length:.0f} tokens on average, where training's have {length / 2:.0f}: "
    assert said in built.in_words(length / 2)
    assert "tokens on average" not in built.in_words(length / 1.4)


def test_a_validation_file_without_pairs_is_named(config, tmp_path):
    (tmp_path / "single.txt").write_text("one sentence alone\n\nand another\n")
    of_its_own = changed(config, data__valid=str(tmp_path / "single.txt"), data__valid_share=DataConfig.valid_share)
    with pytest.raises(UserError, match=r"data\.valid: the validation documents are too few .*none has two sentences"):
        build_validation(of_its_own, open_text(of_its_own))


@pytest.mark.parametrize(
    ("held_out", "said"),
    [
        ("ωω ψψ\nψψ ωω\n", r"^data\.valid: the vocabulary has none of the validation text's tokens, and \[UNK\] is"),
        ("one\n", r"^data\.valid: the validation text is too short: whole-word masking chooses nothing in it\."),
    ],
)
def test_validation_text_of_which_nothing_can_be_predicted_is_refused(held_out, said, config, tmp_path):
    (tmp_path / "valid.txt").write_text(held_out)
    data = replace(config.data, valid=str(tmp_path / "valid.txt"), valid_share=DataConfig.valid_share)
    apart = replace(config, data=data, sentence=SentenceConfig(objective="none"))
    with pytest.raises(UserError, match=said):
        build_validation(apart, open_text(apart))


def test_text_that_becomes_unknown_is_warned_of_by_its_characters(config, text, tmp_path, capsys):
    tokenizer, corpus = tmp_path / "tokenizer.json", tmp_path / "corpus.txt"
    tokenizer.write_text(text.tokenizer.backend.to_str())
    corpus.write_text("a \u2603\u2603\u2603\n\n" * 8)  # two tokens, one of which is three of four characters
    apart = replace(config.data, train=str(corpus), valid=str(corpus), valid_share=DataConfig.valid_share)
    open_text(replace(config, data=apart, tokenizer=TokenizerConfig(path=str(tokenizer))))
    said = capsys.readouterr().out
    assert "WARNING: 75% of the text's characters become [UNK], which is never learned" in said
    assert "token store: 16 tokens, 50.00% of them [UNK]" in said
