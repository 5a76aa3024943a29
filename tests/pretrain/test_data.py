import itertools
import json
import pickle
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pretrain import data
from pretrain.block import Block
from pretrain.corpus import open_corpus
from pretrain.data import Sampler
from pretrain.documents import CorpusFormat
from pretrain.inputs import INPUTS
from pretrain.masking import MASKING
from pretrain.negatives import NEGATIVES
from pretrain.on_the_fly import OnTheFly
from pretrain.packing import Shape
from pretrain.readers import READERS
from pretrain.sentence import SENTENCE
from pretrain.token_store import open_store
from tests.pretrain.conftest import (
    FIRST,
    MASK,
    SEP,
    ListSource,
    batches_of,
    blocks_of,
    fields,
    make_recipe,
    make_sampler,
    numbered,
    pairs_of,
    random_lengths,
    same,
    unmasked,
)


@pytest.fixture(scope="module")
def source() -> ListSource:
    return numbered(random_lengths(60, seed=5))


def flat(sequences) -> dict[str, np.ndarray]:
    """Every array of a block's sequences, those of its examples too."""
    arrays = dict(vars(pickle.loads(pickle.dumps(sequences))))
    return arrays | vars(arrays.pop("examples"))


def same_block(one: Block, other: Block) -> bool:
    pairs = zip(flat(one.sequences).items(), flat(other.sequences).values(), strict=True)
    return all(np.array_equal(a, b) for (_, a), b in pairs) and np.array_equal(one.masked, other.masked)


def same_pairs(one: Block, other: Block) -> bool:
    """Whether order, text and labels agree, whatever is masked."""
    return np.array_equal(unmasked(one), unmasked(other)) and np.array_equal(
        one.sequences.labels, other.sequences.labels
    )


# What a batch holds.


@pytest.mark.parametrize("strategy", MASKING)
@pytest.mark.parametrize("name", INPUTS)
def test_labels_restore_the_text_and_nothing_else_has_changed(source, strategy, name):
    objective = "nsp" if INPUTS[name].segments == 2 else "none"
    sampler = make_sampler(
        source,
        sentence__objective=objective,
        sentence__input=name,
        masking__strategy=strategy,
        masking__mask_share=1.0,
        masking__random_share=0.0,
    )
    for batch in batches_of(sampler):
        ids, index, labels = batch.token_ids.clone(), batch.targets["masked_index"], batch.targets["masked_labels"]
        assert (ids[index] == MASK).all()
        assert (labels >= FIRST).all()
        ids[index] = labels
        for sequence, segments in zip(
            torch.tensor_split(ids, batch.cu_seqlens[1:-1].long()),
            torch.tensor_split(batch.segment_ids, batch.cu_seqlens[1:-1].long()),
            strict=True,
        ):
            for segment in range(INPUTS[name].segments):  # a run of the corpus, and its [SEP]
                run = sequence[segments == segment][1 if segment == 0 else 0 : -1]
                assert len(run) >= 1
                ends = torch.from_numpy(np.flatnonzero(run == SEP))  # between documents, where they are crossed
                assert len(ends) == 0 or INPUTS[name].crosses_documents
                parts = torch.tensor_split(run, ends)
                assert all((part[part != SEP].diff() == 1).all() for part in parts)


def test_a_batch_is_laid_out_as_packed(source):
    for batch in batches_of(make_sampler(source)):
        lengths = batch.cu_seqlens.diff().tolist()
        assert batch.position_ids.tolist() == [place for length in lengths for place in range(length)]
        assert batch.cu_seqlens[0] == 0
        assert batch.cu_seqlens[-1] == batch.num_tokens
        assert batch.max_seqlen == 32
        assert max(lengths) <= 32
        kinds = {name: (tensor.dtype, tensor.ndim) for name, tensor in fields(batch).items()}
        assert kinds.pop("cu_seqlens") == (torch.int32, 1)
        assert set(kinds.values()) == {(torch.int64, 1)}
        assert len(batch.targets["sentence_labels"]) == batch.num_sequences


def test_a_block_that_was_sent_gives_the_same_batches_in_half_the_bytes_or_less(source):
    block = make_sampler(source).block(0, 0)
    sent = pickle.dumps(block.to_send())
    assert len(sent) < len(pickle.dumps(block)) / 2
    again = pickle.loads(sent)
    assert len(again) == len(block) > 1
    assert all(same(block.micro_batch(number), again.micro_batch(number)) for number in range(len(block)))


@pytest.mark.parametrize("name", INPUTS)
def test_a_micro_batch_has_its_longest_sequences_first_and_is_what_chance_put_together(source, name):
    objective = "nsp" if INPUTS[name].segments == 2 else "none"
    sampler = make_sampler(source, sentence__objective=objective, sentence__input=name, batch_size=7)
    lengths = [batch.cu_seqlens.diff().tolist() for batch in batches_of(sampler)]
    assert all(of_batch == sorted(of_batch, reverse=True) for of_batch in lengths)
    means = [np.mean(of_batch) for of_batch in lengths]  # sorted within micro-batches, not across them
    assert np.diff(means).min() < 0 < np.diff(means).max()


def test_without_a_sentence_objective_there_are_no_sentence_labels(source):
    for batch in batches_of(make_sampler(source, sentence__objective="none")):
        assert set(batch.targets) == {"masked_index", "masked_labels"}


@pytest.mark.parametrize("size, documents", [(1, 9), (7, 16), (8, 60), (1000, 60)])
def test_micro_batches_hold_so_many_sequences_at_most_and_differ_by_one_at_most(source, size, documents):
    for block in blocks_of(make_sampler(source, block_documents=documents, batch_size=size)):
        sizes = [block.micro_batch(n).num_sequences for n in range(len(block))]
        assert sum(sizes) == block.tally["sequences"]
        assert max(sizes) <= size
        assert max(sizes) - min(sizes) <= 1
        assert len(sizes) == -(-sum(sizes) // size)


@pytest.mark.parametrize("size, parts, documents", [(7, 4, 16), (40, 6, 60), (8, 2, 9)])
def test_a_step_holds_so_many_sequences_at_most_and_its_parts_differ_by_one_at_most(source, size, parts, documents):
    for block in blocks_of(make_sampler(source, block_documents=documents, batch_size=size, micro_batches=parts)):
        sizes = np.array([block.micro_batch(n).num_sequences for n in range(len(block))]).reshape(-1, parts)
        steps = sizes.sum(1)
        assert (steps.sum(), len(steps)) == (block.tally["sequences"], -(-block.tally["sequences"] // size))
        assert steps.max() <= size
        assert np.ptp(steps) <= 1
        assert np.ptp(sizes) <= 1


@pytest.mark.parametrize("batch_size, blocks", [(32, 8), (4096, 8), (8192, 4), (20_000, 2)])
def test_a_block_has_text_for_eight_steps_at_least(batch_size, blocks):
    source = numbered([[28]] * 256)
    source.mean_document_bytes = float(1 << 17)  # 32 in the usual 4 MiB
    recipe = make_recipe(batch_size=batch_size)  # of 32 tokens a sequence, 4 bytes each: 1 KiB for 8 sequences
    assert Sampler(source, np.arange(256), source.tokenizer(), recipe).num_blocks == blocks


def test_a_block_of_fewer_sequences_than_a_step_has_parts_has_no_empty_micro_batch(source):
    for block in blocks_of(make_sampler(source, block_documents=1, batch_size=64, micro_batches=64)):
        assert [block.micro_batch(n).num_sequences for n in range(len(block))] == [1] * block.tally["sequences"]


def test_every_document_comes_once_in_an_epoch(source):
    lengths = [[30]] * 50  # a sentence fills a sequence: each document is one
    sampler = make_sampler(
        numbered(lengths), block_documents=7, sentence__objective="none", sentence__input="doc_sentences"
    )
    for epoch in range(3):
        first = [
            int(unmasked(block)[place])
            for block in blocks_of(sampler, epoch)
            for place in block.sequences.cu_seqlens[:-1] + 1
        ]
        assert sorted((number - FIRST) // 30 for number in first) == list(range(50))


def test_every_sentence_is_read_in_an_epoch_of_whole_documents(source):
    sampler = make_sampler(source, data__max_length=512, sentence__objective="none", sentence__input="doc_sentences")
    ids = np.concatenate([unmasked(block) for block in blocks_of(sampler)])
    assert sorted(ids[ids >= FIRST].tolist()) == source.ids.tolist()


def test_a_block_is_a_new_choice_of_documents_in_every_epoch(source):
    sampler = make_sampler(
        source, block_documents=10, data__max_length=512, sentence__objective="none", sentence__input="doc_sentences"
    )
    chosen = []
    for epoch in range(4):
        ids = unmasked(sampler.block(epoch, 0))
        chosen.append(tuple(sorted(set(source.document_at(ids[ids >= FIRST]).tolist()))))
    assert [len(documents) for documents in chosen] == [10] * 4
    assert len({*chosen, tuple(range(10))}) == 5


def test_a_random_token_is_never_a_special_one(source):
    sampler = make_sampler(source, masking__mask_share=0.0, masking__random_share=1.0)
    sampler.ordinary_ids = sampler.ordinary_ids[:3]  # so that one special id among them would show
    seen = torch.cat([batch.token_ids[batch.targets["masked_index"]] for batch in batches_of(sampler)])
    assert set(seen.tolist()) == {FIRST, FIRST + 1, FIRST + 2}


def test_the_tally_counts_what_became_of_the_text(source):
    for block in blocks_of(make_sampler(source, block_documents=25)):
        tally = block.tally
        assert tally["documents"] == 20  # 60 in three blocks, evenly
        assert tally["sequences"] == len(block.sequences.labels)
        assert tally["tokens"] == len(block.sequences.ids)
        assert tally["pairs_random"] == block.sequences.labels.sum()


def test_sequences_of_a_document_do_not_stand_side_by_side(source):
    block = make_sampler(source, block_documents=60).block(0, 0)
    documents = source.document_at(unmasked(block)[block.sequences.cu_seqlens[:-1] + 1])
    assert (np.diff(documents) == 0).mean() < 0.1


def test_id_0_is_text_where_the_tokenizer_has_its_special_tokens_elsewhere():
    rng = np.random.default_rng(0)
    source = ListSource([[rng.integers(0, 3, 9).tolist() for _ in range(6)] for _ in range(30)])
    ids = SimpleNamespace(
        **{"unk_id": 6, "cls_id": 7, "sep_id": 5, "mask_id": 9, "vocab_size": 10},
        special_ids=np.array([5, 6, 7, 8, 9]),
        ordinary_ids=np.arange(5),
    )
    batch = make_sampler(source, ids, block_documents=30, batch_size=10**6).block(0, 0).micro_batch(0)
    labels = batch.targets["masked_labels"]
    seen = batch.token_ids[batch.targets["masked_index"]]
    assert abs((labels == 0).float().mean() - 1 / 3) < 0.1
    assert ((seen == 0) & (labels != 0)).any()  # as a random token
    restored = batch.token_ids.clone()
    restored[batch.targets["masked_index"]] = labels
    assert set(restored[batch.cu_seqlens[:-1].long()].tolist()) == {7}
    assert (restored == 5).sum() == 2 * batch.num_sequences


# Where a batch comes from.


def test_a_block_is_the_same_however_it_is_reached(source):
    sampler = make_sampler(source, block_documents=10)
    there = sampler.block(3, 4)
    for epoch, number in ((0, 0), (3, 5), (7, 1)):
        sampler.block(epoch, number)
    assert same_block(sampler.block(3, 4), there)
    assert same_block(make_sampler(source, block_documents=10).block(3, 4), there)
    assert same_block(pickle.loads(pickle.dumps(sampler)).block(3, 4), there)


@pytest.mark.parametrize(
    "variant",
    [
        *({"sentence__objective": name} for name in SENTENCE),
        *({"sentence__negatives": name} for name in NEGATIVES),
        *({"sentence__objective": "none", "sentence__input": name} for name in INPUTS),
        *({"masking__strategy": name} for name in MASKING),
    ],
    ids=lambda variant: " ".join(variant.values()),
)
def test_a_worker_gets_any_variant_s_sampler_and_builds_the_same_block(variant, source):
    sampler = make_sampler(source, **variant)
    assert same_block(pickle.loads(pickle.dumps(sampler)).block(1, 2), sampler.block(1, 2))


@pytest.mark.parametrize(
    "masking",
    [
        {"masking__strategy": "token"},
        {"masking__rate": 0.4},
        {"masking__mask_share": 0.5},
        {"masking__random_share": 0.0},
    ],
)
def test_another_masking_leaves_order_pairs_and_labels_as_they_are(source, masking):
    plain, changed = (blocks_of(make_sampler(source, **options), 1) for options in ({}, masking))
    assert all(same_pairs(a, b) for a, b in zip(plain, changed, strict=True))
    assert not all(same_block(a, b) for a, b in zip(plain, changed, strict=True))


def test_shares_of_mask_and_random_leave_the_chosen_places_as_they_are(source):
    plain, changed = (
        make_sampler(source, masking__mask_share=share, masking__random_share=0.0).block(0, 0) for share in (0.8, 0.2)
    )
    assert np.array_equal(plain.masked, changed.masked)


def test_the_reading_of_pairs_leaves_the_order_of_documents_as_it_is(source):
    first = []
    for name in ("segment_pair", "sentence_pair"):
        block = make_sampler(source, block_documents=5, sentence__objective="none", sentence__input=name).block(2, 3)
        ids = unmasked(block)
        first.append(set(source.document_at(ids[ids >= FIRST]).tolist()))
    assert first[0] == first[1]


def test_another_seed_and_another_epoch_change_order_pairs_and_masks(source):
    blocks = [make_sampler(source, seed=seed).block(epoch, 0) for seed in (0, 1) for epoch in (0, 1)]
    for one, other in itertools.combinations(blocks, 2):
        assert not same_pairs(one, other)
        assert not np.array_equal(one.masked, other.masked)


@pytest.mark.parametrize("copies", [1, 3])
def test_copies_repeat_order_and_pairs_but_not_masks(source, copies):
    sampler = make_sampler(source, data__copies=copies)
    for epoch in range(copies):
        first, again = sampler.block(epoch, 1), sampler.block(epoch + copies, 1)
        assert same_pairs(first, again)
        assert not np.array_equal(first.masked, again.masked)
    distinct = {unmasked(sampler.block(epoch, 1)).tobytes() for epoch in range(2 * copies)}
    assert len(distinct) == copies


def test_static_masks_repeat_with_the_copies(source):
    sampler = make_sampler(source, data__copies=2, masking__static=True)
    assert same_block(sampler.block(0, 1), sampler.block(2, 1))
    assert same_block(sampler.block(1, 1), sampler.block(5, 1))
    assert not same_pairs(sampler.block(0, 1), sampler.block(1, 1))


def test_a_static_arm_and_its_dynamic_rival_see_the_same_pairs(source):
    static, dynamic = (make_sampler(source, data__copies=2, masking__static=chosen) for chosen in (True, False))
    for epoch in range(5):
        assert same_pairs(static.block(epoch, 0), dynamic.block(epoch, 0))
    assert same_block(static.block(1, 0), dynamic.block(1, 0))  # the first time round


def test_micro_batches_of_a_block_have_masks_of_their_own():
    source = numbered([[10]] * 64)  # alike but for their ids
    sampler = make_sampler(
        source,
        block_documents=64,
        sentence__objective="none",
        sentence__input="doc_sentences",
        masking__strategy="token",
    )
    block = sampler.block(0, 0)
    places = [tuple(block.micro_batch(n).targets["masked_index"].tolist()) for n in range(len(block))]
    assert len(places) == 8
    assert len(set(places)) == 8


# Where the text comes from.


def test_tokens_from_a_store_and_on_the_fly_give_the_same_batches(corpus, tokenizer, store):
    for epoch in (0, 1):
        stored, fresh = (
            batches_of(make_sampler(source, tokenizer), epoch) for source in (store, OnTheFly(corpus, tokenizer))
        )
        assert all(same(a, b) for a, b in zip(stored, fresh, strict=True))


def test_every_reader_gives_the_same_batches(text_file, tokenizer, tmp_path):
    of_readers = []
    for reader in READERS:
        corpus = open_corpus([text_file], reader, CorpusFormat(), tmp_path / reader)
        source = open_store(corpus, tokenizer, tmp_path / reader, 1)
        of_readers.append(batches_of(make_sampler(source, tokenizer)))
    for others in of_readers[1:]:
        assert all(same(a, b) for a, b in zip(of_readers[0], others, strict=True))


def test_jsonl_gives_the_same_batches_as_text(corpus, tokenizer, store, tmp_path):
    documents = [corpus.sentences(document) for document in range(corpus.num_documents)]
    rows = [json.dumps({"text": "\n".join(document)}) for document in documents]
    (tmp_path / "text.jsonl").write_text("\n".join(rows), encoding="utf-8")
    jsonl = open_corpus([tmp_path / "text.jsonl"], "mmap", CorpusFormat("jsonl"), tmp_path)
    assert jsonl.fingerprint == corpus.fingerprint
    batches = batches_of(make_sampler(open_store(jsonl, tokenizer, tmp_path, 1), tokenizer))
    assert all(same(a, b) for a, b in zip(batches, batches_of(make_sampler(store, tokenizer)), strict=True))


def test_a_block_holds_about_so_many_bytes_of_text(store, tokenizer, monkeypatch):
    recipe = make_sampler(store, tokenizer).recipe
    for size, documents in ((3.4, 3), (0.1, 1), (1000, 1000)):
        monkeypatch.setattr(data, "_STEPS", 0)
        monkeypatch.setattr(data, "BLOCK_BYTES", size * store.mean_document_bytes)
        sampler = Sampler(store, np.arange(62), tokenizer, recipe)
        assert sampler.num_blocks == -(-62 // documents)


def test_a_block_is_four_times_as_large_where_micro_batches_have_a_shape(store, tokenizer, monkeypatch):
    of_one = make_sampler(store, tokenizer).recipe
    shaped = replace(of_one, shape=Shape(tokens=256, sequences=20, masked=60, longest=of_one.data.max_length))
    monkeypatch.setattr(data, "_STEPS", 0)
    monkeypatch.setattr(data, "BLOCK_BYTES", 2 * store.mean_document_bytes)
    monkeypatch.setattr(data, "FILLED_BLOCK_BYTES", data.FILLED_BLOCK_BYTES // (4 << 20) * data.BLOCK_BYTES)
    blocks = [Sampler(store, np.arange(62), tokenizer, recipe).num_blocks for recipe in (of_one, shaped)]
    assert blocks == [31, 8]


def test_pairs_of_real_text_are_neighbouring_lines_of_the_file(corpus, tokenizer, store):
    sampler = make_sampler(
        store, tokenizer, data__max_length=512, sentence__objective="none", sentence__input="sentence_pair"
    )
    documents = [
        [tuple(tokenizer.encode_lines([line]).ids.tolist()) for line in corpus.sentences(document)]
        for document in range(corpus.num_documents)
    ]
    neighbours = {pair for document in documents for pair in itertools.pairwise(document)}
    found = [(tuple(a.tolist()), tuple(b.tolist())) for a, b, _ in pairs_of(sampler)]
    assert len(found) == sum(len(document) // 2 for document in documents)
    assert set(found) <= neighbours
