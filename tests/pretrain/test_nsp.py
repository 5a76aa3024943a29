from dataclasses import replace

import numpy as np
import pytest

from bert.errors import UserError
from pretrain import ragged
from pretrain.examples import Cutting, Examples, Sentences, Text, cut
from pretrain.inputs import INPUTS
from pretrain.negatives import NEGATIVES
from pretrain.negatives.negatives import NegativeSource
from pretrain.sentence import SENTENCE, nsp
from tests.pretrain.conftest import FIRST, ListSource, make_sampler, numbered, pairs_of, random_lengths

UNCUT = 4096
"""A budget that truncates nothing."""

PAIRS = [name for name, form in INPUTS.items() if form.segments == 2]


def arranged(
    source: ListSource, budget: int = 29, name: str = "segment_pair", negatives: str = "other_document", seed: int = 0
) -> tuple[Examples, Examples, Text, dict[str, int]]:
    """The whole source cut, half of it with label 1: as cut, as arranged, the text, and the tally."""
    documents = np.arange(len(source.documents))
    rng = np.random.default_rng(seed)
    how = Cutting(INPUTS[name], budget, 0.1, 0.5, True, True)
    true, _ = cut(Sentences.of(source, documents), how, rng)
    training = NegativeSource(source, documents, NEGATIVES[negatives], how)
    examples, text, tally = nsp.arrange(true, Text(source.ids, source.word_starts), training, rng)
    return true, examples, text, tally


def second_texts(examples: Examples, text: Text, label: int) -> list[tuple[int, list[int]]]:
    """(A's document, the ids of B) of every example with that label."""
    return [
        (document, text.ids[start : start + length].tolist())
        for document, start, length, of_example in zip(
            examples.document, examples.b_start, examples.b_length, examples.labels, strict=True
        )
        if of_example == label
    ]


@pytest.fixture(scope="module")
def source() -> ListSource:
    return numbered(random_lengths(300, seed=3))


# The label.


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("remainder", ["reuse", "drop"])
def test_the_label_is_independent_of_the_lengths(source, name, remainder):
    sampler = make_sampler(
        source, block_documents=300, sentence__input=name, sentence__remainder=remainder, sentence__short_seq_prob=0.3
    )
    pairs = pairs_of(sampler, epochs=6)
    labels = np.array([label for _, _, label in pairs])
    for lengths in (
        [len(a) + len(b) for a, b, _ in pairs],
        [len(a) for a, _, _ in pairs],
        [len(b) for _, b, _ in pairs],
    ):
        share, n = np.bincount(lengths, labels), np.bincount(lengths)
        filled = n > 0
        assert (np.abs(share - n / 2) <= 5 * np.sqrt(n / 4))[filled].all()


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_the_share_of_random_pairs_is_the_one_asked_for(source, share):
    labels = np.array(
        [label for *_, label in pairs_of(make_sampler(source, block_documents=300, sentence__random_share=share), 3)]
    )
    assert abs(labels.mean() - share) <= 5 * (share * (1 - share) / len(labels)) ** 0.5


def test_no_objective_draws_no_label_and_keeps_the_true_b(source):
    for a, b, label in pairs_of(make_sampler(source, data__max_length=UNCUT, sentence__objective="none"), 1):
        assert label == 0
        assert b[0] == a[-1] + 1


# Label 0.


@pytest.mark.parametrize("name", PAIRS)
def test_label_0_is_text_as_the_corpus_has_it(source, name):
    sampler = make_sampler(source, data__max_length=512, sentence__input=name)
    followed = [(a, b) for a, b, label in pairs_of(sampler) if label == 0]
    assert len(followed) > 100
    for a, b in followed:
        run = np.concatenate([a, b])
        assert (np.diff(run) == 1).all()  # ids are numbered through the corpus
        assert len(set(source.document_at(run))) == 1
        assert source.sentence_at(a[-1]) + 1 == source.sentence_at(b[0])


@pytest.mark.parametrize("name", PAIRS)
def test_label_0_stays_in_its_document_and_order_when_it_is_truncated(source, name):
    for a, b, label in pairs_of(make_sampler(source, data__max_length=12, sentence__input=name)):
        if label == 0:
            assert (np.diff(a) == 1).all()
            assert (np.diff(b) == 1).all()
            assert b[0] > a[-1]
            assert len(set(source.document_at(np.concatenate([a, b])))) == 1


# Label 1.


@pytest.mark.parametrize("name", PAIRS)
def test_a_random_b_has_the_true_ones_length_but_for_those_the_tally_counts(source, name):
    true, examples, _, tally = arranged(source, name=name)
    random = true.labels == 1
    differing = np.minimum(examples.b_length, 29)[random] != np.minimum(true.b_length, 29)[random]
    assert tally == {"pairs_random": random.sum(), "random_b_of_other_length": differing.sum()}
    assert differing.mean() < 0.02


def test_where_no_run_has_the_true_length_the_nearest_is_taken_and_counted():
    source = numbered([[3, 9], [1, 2], [1, 2]])  # the true B of the first has 9 tokens, others have 2
    true, examples, _, tally = next(found for seed in range(99) if (found := arranged(source, seed=seed))[0].labels[0])
    assert true.b_length[0] == 9
    assert examples.b_length[0] == 2
    assert tally["random_b_of_other_length"] >= 1


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_a_random_b_is_whole_sentences_of_one_document_and_never_begins_it(source, negatives):
    _, examples, text, _ = arranged(source, budget=UNCUT, negatives=negatives)
    random = second_texts(examples, text, label=1)
    assert len(random) > 100
    for _, b in random:
        first, last = source.sentence_at(b[0]), source.sentence_at(b[-1])
        assert b == (FIRST + np.arange(source.token_offsets[first], source.token_offsets[last + 1])).tolist()
        assert source.document_of(first) == source.document_of(last)
        assert first not in source.sentence_offsets


def test_a_random_b_is_from_another_document(source):
    for a, b, label in pairs_of(make_sampler(source)):
        assert (source.document_at(a[0]) == source.document_at(b[0])) == (label == 0)


def test_a_random_b_is_never_from_a_copy_of_the_document():
    once = numbered(random_lengths(12, seed=4)).documents
    source = ListSource([document for document in once for _ in range(3)])
    of_id = {number: place for place, document in enumerate(once) for sentence in document for number in sentence}
    for a, b, label in pairs_of(make_sampler(source), epochs=3):
        assert (of_id[a[0]] == of_id[b[0]]) == (label == 0)


def test_with_the_same_file_a_random_b_is_from_another_document_of_it(source):
    several = ListSource(source.documents, files=[30, 0, 170, 100])
    file_of = np.repeat([0, 2, 3], [30, 170, 100])
    pairs = pairs_of(make_sampler(several, sentence__negatives="same_file"), epochs=2)
    random = [(source.document_at(a[0]), source.document_at(b[0])) for a, b, label in pairs if label]
    assert 0.45 < len(random) / len(pairs) < 0.55
    assert {int(file_of[a]) for a, _ in random} == {0, 2, 3}
    assert all(file_of[a] == file_of[b] and a != b for a, b in random)


def test_pairs_of_a_file_without_another_document_are_left_out_whatever_their_label():
    documents = numbered(random_lengths(40, seed=6)).documents
    source = ListSource([*documents, documents[0]], files=[1, 39, 1])  # of one document each, but for the second
    true, examples, _, tally = arranged(source, negatives="same_file")
    expected = true.take((true.document > 0) & (true.document < 40))
    assert tally["pairs_left_out"] == len(true) - len(expected) > 0
    assert examples.a_sentence.tolist() == expected.a_sentence.tolist()
    assert examples.labels.tolist() == expected.labels.tolist()


def test_with_anywhere_a_random_b_may_be_from_the_same_document():
    source = numbered([[2, 2, 2, 2, 2, 2, 2, 2]] * 3)
    pairs = pairs_of(make_sampler(source, sentence__negatives="anywhere", sentence__input="sentence_pair"), 20)
    same = [source.document_at(a[0]) == source.document_at(b[0]) for a, b, label in pairs if label]
    assert 0.1 < np.mean(same) < 0.5  # a third of the text is of the same document


@pytest.mark.parametrize("name", PAIRS)
def test_with_anywhere_a_random_b_never_starts_where_the_true_one_does(name):
    source = numbered([[2, 3, 2, 3, 2], [3, 2, 3]])
    for seed in range(50):
        true, examples, text, _ = arranged(source, UNCUT, name, "anywhere", seed)
        for place in np.flatnonzero(true.labels == 1):
            first = text.ids[examples.b_start[place]]
            assert first != text.ids[true.b_start[place]]


@pytest.mark.parametrize("negatives", ["other_document", "anywhere"])
def test_a_random_b_never_says_what_the_true_one_says(negatives):
    # Every document has the same second sentence; some go on with one of their own.
    same, own = [1000, 1001], range(2000, 2100)
    source = ListSource(
        [[[FIRST + n], same, [own[n], own[n] + 200]] if n % 2 else [[FIRST + n], same] for n in range(40)]
    )
    for seed in range(10):
        true, examples, text, _ = arranged(source, UNCUT, "sentence_pair", negatives, seed)
        for place, (_, b) in zip(np.flatnonzero(true.labels == 1), second_texts(examples, text, 1), strict=True):
            start = true.b_start[place]
            assert b != source.ids[start : start + true.b_length[place]].tolist()


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_a_random_b_is_from_the_training_split_alone(source, negatives):
    held_out = np.arange(0, 300, 3)
    sampler = make_sampler(source, held_out=held_out, sentence__negatives=negatives)
    pairs = pairs_of(sampler, epochs=2)
    seen = {int(document) for a, b, _ in pairs for document in (*source.document_at(a), *source.document_at(b))}
    assert not seen & set(held_out.tolist())


def test_negatives_are_drawn_from_the_whole_training_split_not_from_the_block(source):
    sampler = make_sampler(source, block_documents=20)
    block = {int(d) for a, _, _ in pairs_of_block(sampler, 0) for d in source.document_at(a)}
    donors = {int(source.document_at(b[0])) for _, b, label in pairs_of_block(sampler, 0) if label}
    assert len(block) <= 20
    assert len(donors - block) > len(donors) / 2


def pairs_of_block(sampler, number: int):
    """The pairs of one block."""

    class OneBlock:
        num_blocks = 1

        def block(self, epoch, _):
            return sampler.block(epoch, number)

    return pairs_of(OneBlock())


def test_any_sentence_but_the_first_of_a_document_may_begin_a_random_b():
    source = numbered([[2] * 5] * 20)
    begun = set()
    for seed in range(40):
        _, examples, text, _ = arranged(source, 4, "sentence_pair", seed=seed)
        begun |= {int(source.sentence_at(b[0])) for _, b in second_texts(examples, text, 1)}
    assert begun == set(range(100)) - set(range(0, 100, 5))


def test_the_tokens_of_a_random_b_bring_their_word_starts(source):
    _, examples, text, _ = arranged(source)
    places = ragged.ranges(examples.b_start, examples.b_length)
    assert np.array_equal(text.word_starts[places], source.word_starts[text.ids[places] - FIRST])


# What is left over after a random B.


@pytest.mark.parametrize("remainder, begins", [("reuse", [0, 1, 2, 3]), ("drop", [0, 2])])
def test_what_truly_followed_begins_the_next_example_or_is_dropped(remainder, begins):
    source = numbered([[2, 2, 2, 2, 2], [2, 2, 2, 2, 2]])
    sampler = make_sampler(
        source, sentence__input="sentence_pair", sentence__random_share=1.0, sentence__remainder=remainder
    )
    first_sentences = sorted(int(source.sentence_at(a[0])) for a, _, _ in pairs_of(sampler))
    assert first_sentences == [*begins, *(begin + 5 for begin in begins)]


# The shape of a random B, which should not give the label away.


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_a_random_b_of_a_sentence_pair_is_one_sentence(source, negatives):
    _, examples, text, _ = arranged(source, UNCUT, "sentence_pair", negatives)
    assert all(len(set(source.sentence_at(b))) == 1 for _, b in second_texts(examples, text, 1))


def shapes(source: ListSource, name: str, budget: int) -> np.ndarray:
    """Label, tokens of B, sentences of B, and whether B ends its document, of many examples, (E, 4)."""
    rows = []
    for seed in range(20):
        _, examples, text, _ = arranged(source, budget, name, seed=seed)
        for label in (0, 1):
            for _, b in second_texts(examples, text, label):
                last = int(source.sentence_at(b[-1]))
                sentences = last - int(source.sentence_at(b[0])) + 1
                rows.append((label, len(b), sentences, last + 1 in source.sentence_offsets))
    return np.array(rows, int)


def differences(rows: np.ndarray, column: int) -> np.ndarray:
    """By tokens of B: the difference between the labels' means of a column, in standard errors."""
    found = []
    for length in np.unique(rows[:, 1]):
        true, random = (rows[(rows[:, 0] == label) & (rows[:, 1] == length), column] for label in (0, 1))
        if min(len(true), len(random)) >= 50:
            error = (true.var() / len(true) + random.var() / len(random)) ** 0.5
            found.append((random.mean() - true.mean()) / max(error, 1e-3))
    return np.array(found)


@pytest.mark.parametrize("name", PAIRS)
def test_at_equal_length_the_number_of_sentences_in_b_does_not_tell_the_label(source, name):
    found = differences(shapes(source, name, UNCUT if name == "sentence_pair" else 29), column=2)
    assert len(found) >= 10
    assert (np.abs(found) < 5).all()


def test_at_equal_length_b_ends_its_document_as_often_with_either_label(source):
    found = differences(shapes(source, "segment_pair", 60), column=3)
    assert len(found) >= 10
    assert (np.abs(found) < 5).all()


@pytest.mark.parametrize("negatives", [name for name, of in NEGATIVES.items() if of.other_documents])
def test_a_random_b_ends_with_the_sentence_that_fills_the_pair_as_a_true_one_does(negatives):
    source, budget = numbered(random_lengths(600, seed=9, sentences=30)), 60
    filled = {0: [], 1: []}
    for seed in range(3):
        _, examples, text, _ = arranged(source, budget, negatives=negatives, seed=seed)
        ends = source.sentence_at(text.ids[examples.b_start + examples.b_length - 1])
        before_it = examples.a_length + examples.b_length - np.diff(source.token_offsets)[ends]
        for label, full in zip(examples.labels.tolist(), (before_it >= budget).tolist(), strict=True):
            filled[label].append(full)
    assert min(map(len, filled.values())) > 1500
    assert np.mean(filled[0]) == 0
    assert np.mean(filled[1]) < 0.02  # 0.09 if B is drawn by its length alone


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_a_random_b_does_not_begin_a_document_whose_first_sentence_has_no_token(negatives):
    source = ListSource([[[], *([100 * n + place] for place in range(10, 15))] for n in range(1, 20)])
    sampler = make_sampler(source, data__max_length=64, sentence__input="sentence_pair", sentence__negatives=negatives)
    begun = [int(b[0]) for _, b, label in pairs_of(sampler, epochs=5) if label]
    assert not [number for number in begun if number % 100 == 10]


# Corpora that offer no random B.


@pytest.mark.parametrize(
    "documents",
    [
        pytest.param([[2, 2, 2, 2, 2, 2]], id="one document"),
        pytest.param([[2, 2, 2, 2, 2, 2], [3], [3], [3]], id="one document of two sentences"),
    ],
)
def test_a_corpus_without_another_document_to_draw_from_is_refused(documents):
    source = numbered(documents)
    with pytest.raises(UserError, match=r"nsp found no random B .* it needs more documents"):
        for seed in range(20):
            arranged(source, seed=seed)


def test_a_corpus_of_copies_of_one_document_is_refused():
    source = ListSource(numbered([[2, 3, 4, 2]]).documents * 5)
    with pytest.raises(UserError, match="no random B"):
        pairs_of(make_sampler(source))


def test_where_one_document_has_nearly_all_of_the_text_its_random_bs_are_from_the_other():
    large, small = random_lengths(1, seed=7, sentences=3)[0] * 200, [3, 4, 5, 6]
    source = numbered([large, small])
    _, examples, text, _ = arranged(source)
    random = second_texts(examples, text, label=1)
    assert len(random) > 20
    assert {int(source.document_at(b[0])) for document, b in random if document == 0} == {1}


def test_one_document_is_enough_with_anywhere():
    source = numbered([[2, 2, 2, 2, 2, 2]])
    assert {label for *_, label in pairs_of(make_sampler(source, sentence__negatives="anywhere"), 20)} == {0, 1}


def test_documents_of_one_sentence_give_no_pairs_and_are_counted():
    block = make_sampler(numbered([[4], [5], [6]])).block(0, 0)
    assert len(block) == 0
    assert block.tally["sequences"] == 0
    assert block.tally["sentences_left_over"] == 3


def test_where_hardly_any_document_has_two_sentences_the_error_says_so():
    source, how = numbered([[1]] * 1000), Cutting(INPUTS["segment_pair"], 29, 0.1, 0.5, True, True)
    with pytest.raises(UserError, match=r"nsp needs documents of at least two sentences.*blank line"):
        nsp.arrange(
            Examples(*(np.array([n]) for n in (0, 1, 1, 1, 0, 0, 1, 1, 1))),
            Text(source.ids, source.word_starts),
            NegativeSource(source, np.arange(1000), NEGATIVES["anywhere"], how),
            np.random.default_rng(0),
        )


def test_a_small_validation_split_of_a_large_corpus_has_its_own_negatives():
    source = numbered([[2] * 5] * 20_000)
    held_out = np.arange(20_000) >= 10  # as for validation: all but 10 documents, 0.05% of them
    pairs_of(make_sampler(source, held_out=np.flatnonzero(held_out)))


@pytest.mark.parametrize("name", SENTENCE)
def test_an_objective_that_takes_another_b_labels_it(name):
    assert SENTENCE[name].labelled or not SENTENCE[name].replaces_b


# From the same document.


def test_a_random_b_of_the_same_document_is_neither_a_nor_the_true_b_nor_the_document_s_beginning(source):
    true, examples, _, tally = arranged(source, UNCUT, "sentence_pair", "same_document", 0)
    first, last = source.sentence_offsets[examples.document], source.sentence_offsets[examples.document + 1]
    random, b = examples.labels == 1, examples.b_sentence
    assert random.sum() > 20 and 0.35 < random.mean() < 0.65
    assert ((b > first) & (b < last) & (b != examples.a_sentence))[random].all()
    assert (b != examples.next_sentence)[random].all() and (b == examples.next_sentence)[~random].all()
    assert tally["pairs_left_out"] + len(examples) == len(true)


def test_a_document_with_nothing_else_to_offer_gives_no_pair_of_either_label():
    source = numbered([[5, 5]] * 3 + [[4] * 9] * 20)
    for seed in range(5):
        _, examples, _, _ = arranged(source, UNCUT, "sentence_pair", "same_document", seed)
        assert len(examples) > 50 and (examples.document > 2).all()


def test_a_repeated_sentence_is_no_random_b_of_the_same_document():
    same = [1000, 1001]
    documents = [[[FIRST + n], same, [2000 + n, 2100 + n], same] for n in range(40)]
    # A document of one sentence, before each, has no pair, and so no place among those that are drawn from.
    source = ListSource([every for n, document in enumerate(documents) for every in ([[3000 + n]], document)])
    for seed in range(5):
        _, examples, text, _ = arranged(source, UNCUT, "sentence_pair", "same_document", seed)
        random, labelled = second_texts(examples, text, 1), examples.labels == 1
        begins = source.sentence_offsets[examples.document[labelled]]
        after_first = examples.a_sentence[labelled] == begins  # `same` is what truly follows
        assert after_first.any()
        assert all(b != same for (_, b), first in zip(random, after_first, strict=True) if first)


def test_a_random_b_of_the_same_document_is_the_sentence_nearest_in_length():
    source = numbered([[4, 6, 9, 8, 3, 2]])
    # After 4 comes 6, and 9, 8, 3, 2 are left; after 6 comes 9, and 8, 3, 2 are left; after 9 comes 8, and 6, 3, 2 are
    # left; after 8 comes 3, and 6, 9, 2 are left; after 3 comes 2, and 6, 9, 8 are left.
    nearest = {6: 8, 9: 8, 8: 6, 3: 2, 2: 6}
    for seed in range(20):
        true, examples, _, _ = arranged(source, UNCUT, "sentence_pair", "same_document", seed)
        for place in np.flatnonzero(examples.labels == 1):
            assert examples.b_length[place] == nearest[int(true.b_length[place])]


def allowed_runs(source: ListSource, examples: Examples, place: int, single: bool) -> list[tuple[int, int]]:
    """Every run of sentences of A's document that may stand as an example's random B, (first, end) each."""
    begin, end = source.sentence_offsets[examples.document[place] :][:2]
    a, true = examples.a_sentence[place], examples.next_sentence[place]
    runs = [(first, last) for first in range(begin + 1, end) for last in range(first + 1, end + 1)]
    apart = [(first, last) for first, last in runs if last <= a or first > true]
    return [(first, last) for first, last in apart if last == first + 1 or not single]


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("budget", [29, UNCUT])
def test_a_random_b_of_the_same_document_is_as_near_in_length_as_the_document_allows(source, name, budget):
    true, examples, _, _ = arranged(source, budget, name, "same_document")
    kept = {(int(a), int(document)) for a, document in zip(examples.a_sentence, examples.document, strict=True)}
    wanted = dict(zip(true.a_sentence.tolist(), np.minimum(true.b_length, budget).tolist(), strict=True))
    longer = shorter = 0
    for place in range(len(examples)):
        runs = allowed_runs(source, examples, place, name == "sentence_pair")
        lengths = [min(budget, source.token_offsets[last] - source.token_offsets[first]) for first, last in runs]
        if examples.labels[place] == 1:
            of_true, found = wanted[int(examples.a_sentence[place])], min(budget, examples.b_length[place])
            assert abs(found - of_true) == min(abs(length - of_true) for length in lengths)
            longer, shorter = longer + (found > of_true), shorter + (found < of_true)
    assert longer > 10 and shorter > 10
    for place in range(len(true)):
        offered = len(allowed_runs(source, true, place, name == "sentence_pair")) > 0
        assert offered == ((int(true.a_sentence[place]), int(true.document[place])) in kept)


def test_equally_near_runs_of_the_same_document_all_come_to_stand_as_b():
    source = numbered([[3] * 8])
    begun = {}
    for seed in range(200):
        _, examples, _, _ = arranged(source, UNCUT, "sentence_pair", "same_document", seed)
        for place in np.flatnonzero(examples.labels == 1):
            begun.setdefault(int(examples.a_sentence[place]), set()).add(int(examples.b_sentence[place]))
    assert begun[0] == {2, 3, 4, 5, 6, 7}
    assert begun[2] == {1, 4, 5, 6, 7}


def test_which_pairs_of_the_same_document_are_left_out_does_not_depend_on_the_label():
    source = numbered(random_lengths(200, seed=8, sentences=6))
    documents, how = np.arange(200), Cutting(INPUTS["segment_pair"], 29, 0.1, 0.5, True, True)
    true, _ = cut(Sentences.of(source, documents), how, np.random.default_rng(0))
    training = NegativeSource(source, documents, NEGATIVES["same_document"], how)
    kept = []
    for labels in (true.labels, 1 - true.labels):
        given = replace(true, labels=labels)
        text = Text(source.ids, source.word_starts)
        kept.append(nsp.arrange(given, text, training, np.random.default_rng(1))[0].a_sentence.tolist())
    assert kept[0] == kept[1]
    assert 50 < len(kept[0]) < len(true)


@pytest.mark.parametrize(
    "name, lengths",
    [
        pytest.param(
            "sentence_pair", random_lengths(60, seed=5, sentences=60, tokens=40), id="sentences of many lengths"
        ),
        pytest.param("segment_pair", [[1] * 100] * 20, id="documents that fit one sequence"),
    ],
)
def test_with_the_same_document_the_length_of_b_hardly_tells_the_label(name, lengths):
    source, found = numbered(lengths), []
    for seed in range(20):
        _, examples, _, _ = arranged(source, 125, name, "same_document", seed)
        found.append(np.stack([examples.b_length, examples.labels]))
    length, label = np.concatenate(found, axis=1)
    assert length[label == 1].mean() == pytest.approx(length[label == 0].mean(), rel=0.06)
    for low, high in np.quantile(length, [[0.0, 0.25], [0.25, 0.5], [0.5, 0.75], [0.75, 1.0]]):
        assert label[(length >= low) & (length <= high)].mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("size, documents", [(300, 64), (1 << 20, 64), (2 << 20, 32), (100 << 20, 16)])
def test_of_large_documents_fewer_are_drawn_at_once_but_never_few(size, documents):
    source = numbered([[3, 3]] * 4)
    source.mean_document_bytes = float(size)
    assert nsp.documents_at_once(source) == documents
    (pool, own) = (make_sampler(source, sentence__negatives=kind).pool for kind in ("other_document", "same_document"))
    assert nsp.facts(pool) == ({} if documents == 64 else {"drawn_at_once": f"{documents} documents"})
    assert nsp.facts(own) == {}
