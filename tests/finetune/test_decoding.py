"""Viterbi against pytorch-crf and against every path; which tags may follow which."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchcrf import CRF

from finetune.decoding import Padding, Scores, forbidding, viterbi
from finetune.schemes import SCHEMES, TAGGINGS

TAGS = {name: ["O", *(f"{p}-{k}" for k in ("LC", "PS") for p in TAGGINGS[name].prefixes)] for name in TAGGINGS}


def drawn(seed: int, lengths: list[int], tags: int) -> tuple[torch.Tensor, Padding, CRF]:
    generator = torch.Generator().manual_seed(seed)
    crf = CRF(tags, batch_first=True)
    with torch.no_grad():
        for parameter in crf.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    padding = Padding(torch.tensor([0, *itertools.accumulate(lengths)]))
    return padding.pad(torch.randn(sum(lengths), tags, generator=generator)), padding, crf


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 6))
def test_the_best_paths_are_those_of_pytorch_crf(seed, lengths, tags):
    emissions, padding, crf = drawn(seed, lengths, tags)
    scores = Scores(crf.transitions, crf.start_transitions, crf.end_transitions)
    expected = [tag for path in crf.decode(emissions, mask=padding.inside) for tag in path]
    assert padding.unpad(viterbi(emissions, padding.inside, scores)).tolist() == expected


@pytest.mark.parametrize("name", TAGGINGS)
def test_a_constrained_path_is_the_best_of_those_that_the_scheme_allows(name):
    labels, lengths = TAGS[name], [4, 1, 3]
    emissions, padding, crf = drawn(1, lengths, len(labels))
    own = Scores(crf.transitions, crf.start_transitions, crf.end_transitions)
    found = viterbi(emissions, padding.inside, own + forbidding(labels, TAGGINGS[name].follows)).tolist()
    check = SCHEMES[name][0]

    def earned(path: tuple[int, ...], logits: torch.Tensor) -> float:
        total = own.start[path[0]] + own.end[path[-1]] + sum(logits[n, tag] for n, tag in enumerate(path))
        return (total + sum(own.transitions[a, b] for a, b in itertools.pairwise(path))).item()

    with torch.no_grad():
        for row, length, logits in zip(found, lengths, emissions, strict=True):
            paths = itertools.product(range(len(labels)), repeat=length)
            legal = [path for path in paths if check([labels[tag] for tag in path]) is None]
            assert tuple(row[:length]) == max(legal, key=lambda path: earned(path, logits))


def test_what_may_follow_in_iob2_and_iobes():
    follows = TAGGINGS["iob2"].follows
    assert follows("B-LC", "I-LC") and follows("I-LC", "B-LC") and follows("I-LC", "O")
    assert not follows("O", "I-LC") and not follows("B-PS", "I-LC")
    follows = TAGGINGS["iobes"].follows
    assert follows("B-LC", "E-LC") and follows("E-LC", "S-PS") and follows("S-PS", "O") and follows("O", "B-LC")
    assert not follows("B-LC", "O") and not follows("I-LC", "B-LC") and not follows("E-LC", "I-LC")
    assert not follows("B-PS", "E-LC") and not follows("S-LC", "E-LC") and not follows("O", "E-LC")


TAGGED = st.lists(st.sampled_from(TAGS["iob2"]), max_size=12)


@given(TAGGED)
def test_iobes_says_the_same_as_iob2(tags):
    legal = SCHEMES["iob1"][1](tags)  # stray tags begin an entity
    iobes = TAGGINGS["iobes"].from_iob2(legal)
    assert SCHEMES["iobes"][0](iobes) is None
    assert TAGGINGS["iobes"].to_iob2(iobes) == legal


@given(st.lists(st.sampled_from(TAGS["iobes"]), max_size=12))
def test_any_prediction_in_iobes_reads_as_legal_iob2_that_loses_no_tag(tags):
    read = TAGGINGS["iobes"].to_iob2(tags)
    assert SCHEMES["iob2"][0](read) is None
    assert [tag[2:] for tag in read] == [tag[2:] for tag in tags]


@pytest.mark.parametrize(
    ("tags", "place", "why"),
    [
        (["B-LC", "O"], 1, "O after B-LC"),
        (["S-LC", "E-LC"], 1, "E-LC after S-LC"),
        (["B-LC", "E-PS"], 1, "E-PS after B-LC"),
        (["O", "B-LC"], 1, "the end after B-LC"),
        (["U-LC"], 0, "'U-LC' is not a tag; O, B-TYPE, I-TYPE, E-TYPE, S-TYPE are (of BILOU, U- is S- "),
    ],
)
def test_broken_iobes_is_told_by_its_place(tags, place, why):
    found, said = SCHEMES["iobes"][0](tags)
    assert found == place and said.startswith(why)
