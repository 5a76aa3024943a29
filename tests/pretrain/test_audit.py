"""The audit: healthy samplers pass it, and a fault planted in any of them is caught by its name."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from bert.errors import UserError
from pretrain import data, examples
from pretrain.audit import audit as audit_
from pretrain.audit.checks import check
from pretrain.audit.measures import Measures, Spread, add_block, measure
from pretrain.config import AuditConfig, PretrainConfig
from pretrain.masking import MASKING
from pretrain.negatives import NEGATIVES
from pretrain.sentence import SENTENCE
from tests.pretrain.conftest import SEP, ListSource, make_sampler, numbered, random_lengths


@pytest.fixture(scope="module")
def source():
    return numbered(random_lengths(600, seed=1))


def text_of(source, train=None, valid=None) -> SimpleNamespace:
    documents = np.arange(len(source.documents))
    some = documents[:0] if valid is None else valid
    trained_on = documents if train is None else train
    return SimpleNamespace(source=source, train_documents=trained_on, valid_source=source, valid_documents=some)


def breaches(sampler, source, sequences: int = 4000, **text) -> set[str]:
    found = check(measure(sampler, sequences), sampler, text_of(source, **text), PretrainConfig())
    return {check.name for check in found if check.breach}


VARIANTS = [
    {"sentence__objective": objective, "sentence__input": name, "masking__strategy": strategy}
    for objective, name in (
        ("nsp", "segment_pair"),
        ("nsp", "sentence_pair"),
        ("sop", "segment_pair"),
        ("sop", "sentence_pair"),
        ("none", "segment_pair"),
        ("none", "doc_sentences"),
        ("none", "full_sentences"),
    )
    for strategy in MASKING
]


@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: "-".join(options.values()))
def test_a_healthy_sampler_has_no_breach(source, options):
    assert breaches(make_sampler(source, **options), source) == set()


@pytest.mark.parametrize("copies", [1, 2])
def test_pairs_that_are_repeated_are_measured_once(source, copies):
    repeated, fresh = (measure(make_sampler(source, data__copies=n), 50_000).counts for n in (copies, 0))
    alone = measure(make_sampler(source), 1).counts  # a block
    assert alone["sequences"] < repeated["sequences"] < 50_000 <= fresh["sequences"]
    assert repeated["documents"] == copies * 600


@pytest.mark.parametrize(
    "options",
    [
        {"masking__rate": 0.4, "masking__mask_share": 0.5, "masking__random_share": 0.3},
        {"masking__count": "bernoulli", "masking__strategy": "token"},
        {"masking__count": "bernoulli", "masking__strategy": "span"},
        {"sentence__negatives": "same_document"},
        {"sentence__negatives": "same_file"},
        {"sentence__negatives": "anywhere"},
        {"sentence__random_share": 0.2},
    ],
    ids=str,
)
def test_what_was_asked_for_is_what_is_checked(source, options):
    assert breaches(make_sampler(source, **options), source) == set()


@pytest.mark.parametrize("units, share", [(60, 0.1), (20, 0.5), (500, 0.8)])
def test_no_number_is_called_less_likely_by_chance_than_it_is(units, share):
    for found in range(units + 1):
        spread = Spread()
        spread.add(np.array([found - share * units]), np.array([units]), np.array([share * (1 - share) * units]))
        as_far = abs(np.arange(units + 1) - share * units) >= abs(found - share * units) - 1e-9
        assert spread.chance >= binom.pmf(np.arange(units + 1), units, share)[as_far].sum() - 1e-12
    many = Spread()
    many.add(np.full(1000, 0.1), np.ones(1000), np.full(1000, 0.09))  # 100 too many, of a variance of 90
    assert many.chance == pytest.approx(2 * math.exp(-(100**2) / 2 / (90 + 100 / 3)))


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.sampled_from(VARIANTS), st.integers(8, 40))
@example(256, {"masking__strategy": "span"}, 9)  # by chance no unit of 60 becomes random
def test_no_made_up_corpus_breaches_what_must_never_happen(seed, options, documents):
    source = numbered(random_lengths(documents, seed=seed))
    assert breaches(make_sampler(source, **options), source, 200) == set()


# Planted faults: each in the place where such a fault would be.


def with_masking(monkeypatch, strategy: str, change) -> None:
    healthy = MASKING[strategy]
    faulty = replace(healthy, choose=lambda *given: change(*healthy.choose(*given), *given))
    monkeypatch.setitem(MASKING, strategy, faulty)


def test_too_few_masks_are_caught(monkeypatch, source):
    with_masking(monkeypatch, "token", lambda chosen, units, *_: (chosen[::2], np.arange(len(chosen[::2]))))
    assert "mask_rate" in breaches(make_sampler(source, masking__strategy="token"), source)


def test_a_mask_on_a_special_token_is_caught(monkeypatch, source):
    def shift(chosen, units, *_):
        chosen = np.union1d(chosen, [0])
        return chosen, np.arange(len(chosen))

    with_masking(monkeypatch, "token", shift)
    assert "masked_special" in breaches(make_sampler(source, masking__strategy="token"), source)


def test_words_found_by_nothing_but_chance_are_caught(monkeypatch, source):
    def every_token_alone(chosen, units, *_):
        return chosen[::3], np.arange(len(chosen[::3]))

    with_masking(monkeypatch, "whole_word", every_token_alone)
    assert "words_in_parts" in breaches(make_sampler(source, masking__strategy="whole_word"), source)


def test_a_unit_with_a_gap_is_caught(monkeypatch, source):
    assert measure(make_sampler(source, masking__strategy="whole_word"), 500).counts["units_apart"] == 0
    with_masking(monkeypatch, "whole_word", lambda chosen, units, *_: (chosen, units // 2))  # two words are one
    sampler = make_sampler(source, masking__strategy="whole_word")
    assert measure(sampler, 500).counts["units_apart"] > 500
    assert "words_in_parts" in breaches(sampler, source)


def test_spans_longer_than_they_may_be_are_caught(monkeypatch, source):
    def all_in_one(chosen, units, tokens, *_):
        first, last = tokens.cu_seqlens[:-1] + 1, tokens.cu_seqlens[1:] - 1
        whole = np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)])
        kept = whole[tokens.maskable[whole]]
        return kept, np.cumsum(np.r_[False, np.diff(kept) > 1])

    with_masking(monkeypatch, "ngram", all_in_one)
    assert "span_lengths" in breaches(make_sampler(source, masking__strategy="ngram"), source)


@pytest.mark.parametrize(("strategy", "most"), [("whole_word", "1 word at most"), ("ngram", "3 words at most")])
def test_how_long_a_span_may_be_is_said_in_words(source, strategy, most):
    sampler = make_sampler(source, masking__strategy=strategy)
    found = check(measure(sampler, 100), sampler, text_of(source), PretrainConfig())
    assert [one.asked for one in found if one.name == "span_lengths"] == [most]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("mask_share", {"mask_share": 0.7}),
        ("random_share", {"random_share": 0.0}),
    ],
)
def test_shares_that_are_not_those_asked_for_are_caught(monkeypatch, source, name, change):
    healthy = data.corrupt

    def corrupt(ids, chosen, units, mask_share, random_share, *rest):
        shares = {"mask_share": mask_share, "random_share": random_share} | change
        return healthy(ids, chosen, units, shares["mask_share"], shares["random_share"], *rest)

    monkeypatch.setattr(data, "corrupt", corrupt)
    assert name in breaches(make_sampler(source), source)


def test_replacements_from_the_whole_vocabulary_are_caught(source):
    sampler = make_sampler(source)
    sampler.ordinary_ids = np.arange(5)
    assert "replaced_by_special" in breaches(sampler, source)


def test_words_whose_tokens_each_have_a_fate_of_their_own_are_caught(monkeypatch, source):
    healthy = data.corrupt

    def token_by_token(ids, chosen, units, *rest):
        return healthy(ids, chosen, np.arange(len(chosen)), *rest)

    monkeypatch.setattr(data, "corrupt", token_by_token)
    assert "units_of_two_fates" in breaches(make_sampler(source, masking__strategy="whole_word"), source)


def with_sentence(monkeypatch, name: str, change) -> None:
    healthy = SENTENCE[name]

    def arrange(given, text, training, rng):
        arranged, text, tally = healthy.arrange(given, text, training, rng)
        return change(given, arranged), text, tally

    monkeypatch.setitem(SENTENCE, name, replace(healthy, arrange=arrange))


def test_a_label_that_is_flipped_while_the_text_is_kept_is_caught(monkeypatch, source):
    with_sentence(monkeypatch, "nsp", lambda given, arranged: given)
    assert "negatives_true" in breaches(make_sampler(source), source)


def test_a_text_that_is_kept_while_all_says_it_was_replaced_is_caught(monkeypatch, source):
    def text_kept(given, arranged):
        return replace(arranged, b_start=given.b_start, b_length=given.b_length)

    with_sentence(monkeypatch, "nsp", text_kept)
    assert "texts_differ" in breaches(make_sampler(source), source)


def test_pairs_that_were_not_swapped_are_caught(monkeypatch, source):
    with_sentence(monkeypatch, "sop", lambda given, arranged: given)
    assert "labels_wrong" in breaches(make_sampler(source, sentence__objective="sop"), source)


@pytest.mark.parametrize("name", ["nsp", "sop"])
def test_labels_the_wrong_way_round_are_caught(monkeypatch, source, name):
    with_sentence(monkeypatch, name, lambda given, arranged: replace(arranged, labels=1 - arranged.labels))
    assert "labels_wrong" in breaches(make_sampler(source, sentence__objective=name), source)


def test_more_random_pairs_than_asked_for_are_caught(monkeypatch, source):
    sampler = make_sampler(source)
    sampler.cutting = replace(sampler.cutting, label_share=0.6)
    assert "label_share" in breaches(sampler, source)


def test_labels_that_lengths_give_away_are_caught(monkeypatch, source):
    def shorter(given, arranged):
        return replace(
            arranged, b_length=np.where(arranged.labels == 1, np.minimum(2, arranged.b_length), arranged.b_length)
        )

    with_sentence(monkeypatch, "nsp", shorter)
    assert "label_by_length" in breaches(make_sampler(source), source)


@pytest.mark.parametrize(
    ("zeros", "ones", "said", "breach"),
    [
        (480_000, 520_000, "52.00% in length bucket 3", False),  # 40 standard errors, and too little to matter
        (130, 190, "59.38% in length bucket 3", False),  # 9 points, and 3 standard errors: chance
        (100, 400, "80.00% in length bucket 3", True),
        (0, 299, "too few pairs of any length to tell", False),
    ],
)
def test_a_length_s_labels_are_unbalanced_if_it_is_much_and_no_chance(source, zeros, ones, said, breach):
    found = by_length(make_sampler(source), source, {2: (zeros, ones)})
    assert found.found.startswith(said) and found.breach == breach


def test_the_length_that_is_named_is_the_unbalanced_one_and_not_a_rarer_one_that_is_further_off_by_chance(source):
    # Bucket 3: 8 points off, 51 standard errors of 0.16 points. Bucket 6: 9.4 points off, 3.4 of 2.8.
    found = by_length(make_sampler(source), source, {2: (42_000, 58_000), 5: (130, 190)})
    assert found.found.startswith("58.00% in length bucket 3") and found.breach


def by_length(sampler, source, labels: dict[int, tuple[int, int]]):
    """The check of labels by length, with these numbers of labels 0 and 1 in some buckets and none in the others."""
    measures = measure(sampler, 500)
    measures.labels_by_length[:] = 0
    for bucket, of_bucket in labels.items():
        measures.labels_by_length[bucket] = of_bucket
    (found,) = [c for c in check(measures, sampler, text_of(source), PretrainConfig()) if c.name == "label_by_length"]
    return found


def test_pairs_are_counted_by_their_longer_side_and_label(source):
    sampler, found = make_sampler(source), Measures()
    block = sampler.block(0, 0)
    add_block(found, sampler, block, sampler.rates(0, 0, len(block)))
    pairs = block.sequences.examples
    expected = np.zeros((2, 2), int)
    for a, b, label in zip(pairs.a_length, pairs.b_length, pairs.labels, strict=True):
        if a != b:
            expected[int(b > a), label] += 1
    assert found.labels_by_sides.tolist() == expected.tolist()
    assert expected.min() > 3 and expected.sum() < len(pairs)


def test_lengths_that_a_document_cannot_match_are_told_and_are_no_breach():
    source = numbered([[1] * 8] * 900)  # one sequence each, A and B: a random B is shorter than the true one
    sampler = make_sampler(source, sentence__negatives="same_document", data__max_length=11)
    checks = check(measure(sampler, 2000), sampler, text_of(source), PretrainConfig())
    (found,) = [found for found in checks if found.name == "label_by_length"]
    assert found.found.startswith("0.00% in length bucket 8")
    assert not found.breach


@pytest.mark.parametrize(("objective", "status"), [("nsp", (True, False)), ("sop", (False, True))])
def test_a_label_told_by_the_longer_side_is_a_breach_where_it_could_be_helped(source, objective, status):
    sampler = make_sampler(source, sentence__objective=objective)
    measures = measure(sampler, 2000)
    measures.labels_by_sides = np.array([[4000, 6000], [6000, 4000]])  # longer A: 60% with label 1; longer B: 40%
    (found,) = [c for c in check(measures, sampler, text_of(source), PretrainConfig()) if c.name == "label_by_sides"]
    assert (found.breach, found.known) == status
    assert found.found == "60.00% where A is the longer, 40.00% where B is"


def test_negatives_from_where_they_should_not_be_are_caught(source):
    sampler = make_sampler(source, sentence__negatives="other_document")
    sampler.pool = replace(sampler.pool, negatives=NEGATIVES["same_document"])
    assert "negatives_document" in breaches(sampler, source)
    sampler = make_sampler(source, sentence__negatives="same_document")
    sampler.pool = replace(sampler.pool, negatives=NEGATIVES["other_document"])
    assert "negatives_document" in breaches(sampler, source)
    source = ListSource(source.documents, files=[200, 400])
    sampler = make_sampler(source, sentence__negatives="same_file")
    sampler.pool = replace(sampler.pool, negatives=NEGATIVES["other_document"])
    assert "negatives_file" in breaches(sampler, source)


def test_validation_documents_that_are_in_training_are_caught(source):
    assert breaches(make_sampler(source), source, valid=np.array([3])) == {"validation_in_training"}
    assert breaches(make_sampler(source), source, train=np.arange(10, 600), valid=np.array([3])) == set()


# The numbers, and what is done with them.


def test_measures_count_every_sequence_token_and_mask_once(source):
    sampler, found = make_sampler(source), Measures()
    blocks = [sampler.block(0, number) for number in range(sampler.num_blocks)]
    for block in blocks:
        add_block(found, sampler, block, sampler.rates(0, 0, len(block)))
    assert found.counts["sequences"] == sum(len(block.sequences.labels) for block in blocks) == found.lengths.sum()
    assert found.counts["masked"] == sum(len(block.masked) for block in blocks)
    assert sum(found.span_lengths.values()) == found.counts["units"]
    assert found.labels_by_length.sum() == found.counts["pairs"] == found.counts["sequences"]


def test_the_audit_says_over_how_much_text_its_shares_are():
    """Four documents, a block each; 32 of forty tokens are cut off, and 34 remain, 8 of them special."""
    source = numbered([[40], [6], [6], [6]])
    options = {"sentence__objective": "none", "sentence__input": "doc_sentences", "data__max_length": 10}
    sampler = make_sampler(source, **options)
    sampler.num_blocks = 4
    for sequences, epochs, said in (
        (1, 0.25, "the first 25.0% of an epoch"),
        (4, 1, "one epoch"),
        (6, 1.5, "1.5 epochs"),
    ):
        numbers = audit_.in_numbers(measure(sampler, sequences), text_of(source), sampler.num_blocks)
        assert (numbers["sequences"], numbers["epochs"]) == (sequences, epochs)
        lines = audit_.in_words(numbers, check(measure(sampler, sequences), sampler, text_of(source), PretrainConfig()))
        assert lines.splitlines()[0].endswith(f" tokens: {said}")
        if epochs == 1:
            assert "over all of these: 8 tokens a sequence; 48.48% of the sequences' tokens cut off" in lines


def test_full_sentences_cross_documents_at_a_sep_and_are_never_labelled(source):
    block = make_sampler(source, sentence__objective="none", sentence__input="full_sentences").block(0, 0)
    inner = [
        (block.sequences.ids[a + 1 : b - 1] == SEP).sum()
        for a, b in zip(block.sequences.cu_seqlens[:-1], block.sequences.cu_seqlens[1:], strict=True)
    ]
    assert sum(inner) > 10
    ends = block.sequences.ids[block.sequences.cu_seqlens[1:] - 2]
    assert (ends != SEP).all()  # a document's end and the sequence's are one [SEP]


def run_audit(source, tmp_path, **options) -> None:
    config = PretrainConfig(audit=AuditConfig(sequences=500, **options), output=str(tmp_path))
    audit_.audit(make_sampler(source), text_of(source, valid=np.array([3])), config)


def test_a_breach_stops_a_run_unless_it_is_allowed_by_name(source, tmp_path, capsys):
    with pytest.raises(UserError, match=r"audit: validation_in_training: asked for 0, found 1 validation documents"):
        run_audit(source, tmp_path)
    run_audit(source, tmp_path, allow=["validation_in_training"])
    assert "BREACH  validation_in_training" in capsys.readouterr().out
    assert (tmp_path / "audit.png").read_bytes().startswith(b"\x89PNG")
    assert '"name": "validation_in_training"' in (tmp_path / "audit.json").read_text()


def test_an_example_may_not_be_laid_out_from_elsewhere(monkeypatch, source):
    healthy = examples.lay_out

    def shifted(given, *rest):
        return healthy(replace(given, a_start=np.roll(given.a_start, 1)), *rest)

    monkeypatch.setattr(examples, "lay_out", shifted)
    assert "texts_differ" in breaches(make_sampler(source), source)
