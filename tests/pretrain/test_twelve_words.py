"""Each objective on twelve words, by hand.

document 0:  a b c | d | e f | g        (ids 5 6 7 | 8 | 9 10 | 11)
document 1:  h i | j k l                (ids 12 13 | 14 15 16)
"""

from dataclasses import replace

import numpy as np
import pytest

from pretrain.examples import Cutting, Examples, Sentences, Text, cut, lay_out
from pretrain.inputs import INPUTS
from pretrain.negatives import NEGATIVES
from pretrain.negatives.negatives import NegativeSource
from pretrain.report import sampling_in_words
from pretrain.sentence import SENTENCE
from tests.pretrain.conftest import CLS, SEP, make_sampler, numbered, unmasked

LENGTHS = [[3, 1, 2, 1], [2, 3]]
SPECIAL = np.arange(17) < 5


def arranged(objective: str, labels: list[int], negatives: str = "other_document") -> list[tuple[list[int], list[int]]]:
    """(ids, segments) of each sentence pair of the twelve words, with these labels."""
    source = numbered(LENGTHS)
    cutting = Cutting(INPUTS["sentence_pair"], 20, 0.0, 0.0, SENTENCE[objective].replaces_b, False)
    rng = np.random.default_rng(0)
    pairs, _ = cut(Sentences.of(source, np.arange(2)), cutting, rng)
    pairs = replace(pairs, labels=np.array(labels))
    training = NegativeSource(source, np.arange(2), NEGATIVES[negatives], cutting)
    found, text, _ = SENTENCE[objective].arrange(pairs, Text(source.ids, source.word_starts), training, rng)
    laid = lay_out(found, text, 2, CLS, SEP, SPECIAL)
    cuts = laid.cu_seqlens[1:-1]
    return [
        (i.tolist(), s.tolist()) for i, s in zip(np.split(laid.ids, cuts), np.split(laid.segments, cuts), strict=True)
    ]


IN_ORDER = [
    ([CLS, 5, 6, 7, SEP, 8, SEP], [0, 0, 0, 0, 0, 1, 1]),
    ([CLS, 9, 10, SEP, 11, SEP], [0, 0, 0, 0, 1, 1]),
    ([CLS, 12, 13, SEP, 14, 15, 16, SEP], [0, 0, 0, 0, 1, 1, 1, 1]),
]


@pytest.mark.parametrize("objective", SENTENCE)
def test_with_label_0_b_truly_follows_a_whatever_the_objective(objective):
    assert arranged(objective, [0, 0, 0]) == IN_ORDER


def test_sop_with_label_1_has_a_and_b_swapped():
    assert arranged("sop", [1, 0, 1]) == [
        ([CLS, 8, SEP, 5, 6, 7, SEP], [0, 0, 0, 1, 1, 1, 1]),
        IN_ORDER[1],
        ([CLS, 14, 15, 16, SEP, 12, 13, SEP], [0, 0, 0, 0, 0, 1, 1, 1]),
    ]


def test_nsp_with_label_1_has_the_only_b_of_the_other_document():
    # Document 1 has one true B, j k l; document 0 has d and g.
    first, _, last = arranged("nsp", [1, 0, 1])
    assert first == ([CLS, 5, 6, 7, SEP, 14, 15, 16, SEP], [0] * 5 + [1] * 4)
    assert last[0] in ([CLS, 12, 13, SEP, 8, SEP], [CLS, 12, 13, SEP, 11, SEP])


def test_nsp_in_one_document_has_what_is_left_of_it():
    # Beside the first sentence, A and the true B: for (a b c, d) e f or g or both, for (e f, g) d. Document 1 has none.
    first, second = arranged("nsp", [1, 1, 1], "same_document")
    assert first[0] in ([CLS, 5, 6, 7, SEP, 9, 10, SEP], [CLS, 5, 6, 7, SEP, 11, SEP])
    assert second == ([CLS, 9, 10, SEP, 8, SEP], [0, 0, 0, 0, 1, 1])


def sequences(name: str) -> list[list[int]]:
    """What a sampler lays out of the twelve words with room for eight tokens of text, unmasked, in any order."""
    sampler = make_sampler(numbered(LENGTHS), sentence__objective="none", sentence__input=name, data__max_length=10)
    block = sampler.block(0, 0)
    return sorted(part.tolist() for part in np.split(unmasked(block), block.sequences.cu_seqlens[1:-1]))


def test_doc_sentences_never_cross_a_document():
    assert sequences("doc_sentences") == [
        [CLS, 5, 6, 7, 8, 9, 10, 11, SEP],
        [CLS, 12, 13, 14, 15, 16, SEP],
    ]


def test_full_sentences_begin_anew_where_nothing_more_fits():
    # Seven words and a [SEP], five and one: together they are fourteen, and there is room for eight.
    assert sequences("full_sentences") == [
        [CLS, 5, 6, 7, 8, 9, 10, 11, SEP],
        [CLS, 12, 13, 14, 15, 16, SEP],
    ]


def test_full_sentences_fill_up_with_the_next_document():
    source = numbered([[2], [2], [2], [2]])
    sampler = make_sampler(source, sentence__objective="none", sentence__input="full_sentences", data__max_length=10)
    block = sampler.block(0, 0)
    found = [part.tolist() for part in np.split(unmasked(block), block.sequences.cu_seqlens[1:-1])]
    # Eight tokens of room: two documents and the [SEP] of each make six, a third would make nine.
    shapes = sorted([number if number < 5 else "text" for number in part] for part in found)
    assert shapes == [[CLS, "text", "text", SEP, "text", "text", SEP]] * 2


def test_the_rate_goes_evenly_from_one_end_to_the_other():
    sampler = make_sampler(numbered([[2, 2]] * 40), masking__rate=0.3, masking__rate_end=0.1)
    sampler.recipe, sampler.num_blocks = replace(sampler.recipe, epochs=2.0), 4
    rates = [rate for epoch in range(2) for block in range(4) for rate in sampler.rates(epoch, block, 1)]
    assert rates == pytest.approx([0.2875, 0.2625, 0.2375, 0.2125, 0.1875, 0.1625, 0.1375, 0.1125])
    assert sampler.rates(5, 0, 2) == pytest.approx([0.1, 0.1])


def test_the_rate_goes_evenly_within_a_block_too():
    sampler = make_sampler(numbered([[2, 2]] * 40), masking__rate=0.3, masking__rate_end=0.1)
    sampler.recipe, sampler.num_blocks = replace(sampler.recipe, epochs=0.5), 1
    assert sampler.rates(0, 0, 4) == pytest.approx([0.25, 0.15, 0.1, 0.1])  # at 1/8 and 3/8 of an epoch of the half


def test_a_run_within_one_block_is_masked_at_all_of_its_rates():
    source = numbered([[9, 9]] * 400)
    sampler = make_sampler(source, masking__rate=0.9, masking__rate_end=0.1, sentence__input="sentence_pair")
    sampler.recipe, sampler.num_blocks = replace(sampler.recipe, epochs=1.0), 1
    block = sampler.block(0, 0)
    shares = [len(block.micro_batch(n).targets["masked_index"]) / (18 * 8) for n in range(len(block))]
    assert len(block) == 50 and shares[0] > 0.8 > 0.2 > shares[-1]
    assert shares == pytest.approx(sampler.rates(0, 0, len(block)), abs=0.06)


def test_examples_know_what_truly_follows():
    cutting = Cutting(INPUTS["sentence_pair"], 20, 0.0, 0.0, False, False)
    found, _ = cut(Sentences.of(numbered(LENGTHS[:1]), np.arange(1)), cutting, np.random.default_rng(0))
    assert isinstance(found, Examples)
    assert (found.a_sentence.tolist(), found.next_sentence.tolist()) == ([0, 2], [1, 3])


def test_text_that_is_cut_for_the_most_part_and_words_of_one_token_are_warned_of():
    options = {"sentence__objective": "none", "sentence__input": "doc_sentences", "data__max_length": 10}
    source = numbered([[40], [40], [2]])
    source.word_starts[:] = True
    sampler = make_sampler(source, masking__strategy="whole_word", **options)
    said = sampling_in_words(sampler.block(0, 0), sampler)
    # Eight of forty, twice, two of two, and six special tokens: 24 of 88.
    assert said.startswith(
        "sampling, over the whole first epoch of text: 3 documents (of 3) give 3 sequences of 8 tokens"
    )
    assert "1.00 tokens per word; 72.7% of the sequences' tokens are cut off, to fit data.max_length=10;" in said
    longer = "many sentences are longer than data.max_length=10; data.split_sentences=true looks for"
    assert f"WARNING: 73% of the sequences' tokens are cut off: {longer}" in said
    assert "WARNING: nearly every word is one token: masking.strategy=whole_word does the same as token" in said
    options["batch_size"] = 4
    sampler = make_sampler(numbered([[6]] * 4), masking__strategy="whole_word", **options)  # six tokens, four words
    said = sampling_in_words(sampler.block(0, 0), sampler)
    assert "1.50 tokens per word; 0.0% of the sequences' tokens are cut off" in said and "WARNING" not in said
    sampler.num_blocks = 2
    said = sampling_in_words(sampler.block(0, 0), sampler)
    assert said.startswith(
        "sampling, over the first of 2 blocks of text: 2 documents (of 4) give 2 sequences of 8 tokens"
    )


def warnings_of(sampler) -> list[str]:
    said = sampling_in_words(sampler.block(0, 0), sampler).splitlines()
    return [line.removeprefix("WARNING: ") for line in said if line.startswith("WARNING: ")]


def test_documents_of_one_sentence_that_no_pair_can_use_are_warned_of():
    source = numbered([[5]] * 9 + [[5, 5]] * 3)
    pairs = {"sentence__objective": "sop", "sentence__short_seq_prob": 0.0}
    (said,) = warnings_of(make_sampler(source, block_documents=12, batch_size=3, **pairs))
    assert said.startswith("60% of the sentences are in no example, since a pair needs two of a document")
    alone = {"sentence__objective": "none", "sentence__input": "doc_sentences"}
    assert warnings_of(make_sampler(source, block_documents=12, batch_size=3, **alone)) == []


def test_words_of_many_tokens_are_warned_of_where_words_are_masked():
    options = {"sentence__objective": "none", "sentence__input": "doc_sentences", "batch_size": 2}
    source = numbered([[30], [30]])
    source.word_starts[:] = False
    (said,) = warnings_of(make_sampler(source, masking__strategy="whole_word", **options))
    assert said.startswith("a word has 30.0 tokens, as in text without spaces, and is masked as one")
    assert warnings_of(make_sampler(source, masking__strategy="token", **options)) == []


def test_steps_much_smaller_than_asked_for_are_warned_of():
    source = numbered([[28]] * 12)  # a sentence fills a sequence
    options = {"sentence__objective": "none", "sentence__input": "doc_sentences", "block_documents": 12}
    (said,) = warnings_of(make_sampler(source, batch_size=8, **options))
    assert said == "training.batch_size=8, but a step has 6 sequences: a block of text gives no more"
    (said,) = warnings_of(make_sampler(source, batch_size=8, micro_batches=2, **options))
    assert said == "training.batch_size=8, but a step has 6 sequences: a block of text gives no more"
    assert warnings_of(make_sampler(source, batch_size=6, **options)) == []
