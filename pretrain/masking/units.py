"""Runs of tokens that are masked as a unit, and how units are drawn; the strategies are built from these.

Letters: T tokens in the micro-batch, N sequences, U units, K chosen tokens, C sequences with a unit.
"""

from dataclasses import dataclass

import numpy as np

from pretrain import ragged
from pretrain.masking.strategy import Tokens


@dataclass(frozen=True)
class Units:
    """Runs of maskable tokens, in the text's order: the first token of each, and its length in tokens, (U,) each."""

    first: np.ndarray
    length: np.ndarray

    def __len__(self) -> int:
        return len(self.first)


def words(tokens: Tokens) -> Units:
    """Every word, as far as it is maskable."""
    maskable, starts = tokens.maskable, tokens.cu_seqlens[:-1]
    begins = maskable & tokens.word_starts
    begins[1:] |= maskable[1:] & ~maskable[:-1]  # a word split by a special token, or truncated
    begins[starts] |= maskable[starts]
    first = np.flatnonzero(begins)
    word = np.cumsum(begins) - 1
    return Units(first, np.bincount(word[maskable], minlength=len(first)))


def spans(words: Units, words_each: np.ndarray, tokens: Tokens) -> Units:
    """Spans that together cover all words; none contains a special token or goes on in the next sequence.

    So words fall into runs, and each run is divided anew: by the wanted lengths of its own words, in order, as far as
    they are needed. A run of four words and one of three, whose wanted lengths are 3 2 1 5 and 1 4 2, become spans of
    3 and 1 words, and of 1 and 2.

    Args:
        words: U of them.
        words_each: wanted lengths in words, at least 1, (U,).
        tokens: those of the micro-batch.
    """
    opens = np.ones(len(words), bool)  # whether a word is the first of a run
    opens[1:] = words.first[1:] != words.first[:-1] + words.length[:-1]
    opens |= np.isin(words.first, tokens.cu_seqlens)
    run = np.cumsum(opens) - 1  # of each word
    run_starts = np.flatnonzero(opens)
    start, end = run_starts[run], np.append(run_starts[1:], len(words))[run]  # of each word's run, in words
    wanted_before = np.cumsum(words_each) - words_each
    begins = start + wanted_before - wanted_before[start]  # the word that a run's first, second, ... span begins with
    begins = begins[begins < end]
    return Units(words.first[begins], np.add.reduceat(words.length, begins))


def draw(
    units: Units, tokens: Tokens, rate: float, bernoulli: bool, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw units uniformly at random, so that the expected share of tokens is the rate.

    The arguments after `units` and what is returned are those of `strategy.Choose`. Either way a sequence meets its
    share on average; without `bernoulli` single ones scatter less around it.
    """
    if bernoulli:
        taken = np.flatnonzero(rng.random(len(units)) < rate)
    else:
        sequence = tokens.sequence_of(units.first)
        shuffled = np.argsort(sequence + rng.random(len(units)))  # still grouped by sequence
        taken = np.sort(shuffled[_begin_on_arc(units.length[shuffled], sequence, rate, rng)])
    length = units.length[taken]
    return ragged.ranges(units.first[taken], length), np.repeat(np.arange(len(taken)), length)


def choose_spans(
    chances: np.ndarray, tokens: Tokens, rate: float, bernoulli: bool, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Choose spans of whole words; the arguments after `chances` and what is returned are those of `strategy.Choose`.

    A sequence is divided into consecutive spans of random length, and some of these are taken whole; a short sequence
    may get none.

    Args:
        chances: probability of each length in words, from one word on.
    """
    whole = words(tokens)
    wanted = rng.choice(np.arange(1, len(chances) + 1), len(whole), p=chances)
    return draw(spans(whole, wanted, tokens), tokens, rate, bernoulli, rng)


def _begin_on_arc(length: np.ndarray, sequence: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    """Which units are taken, (U,); they are given sequence after sequence, shuffled within each.

    A sequence's units lie in this order on a circle, each as long as its tokens. An arc of the wanted length is placed
    on it at random, and the units that begin there are taken: every unit with the same probability, whatever its
    length.
    """
    opens = np.diff(sequence, prepend=-1) > 0  # whether a unit is its sequence's first
    circle = np.cumsum(opens) - 1  # of each unit
    begin = np.cumsum(length) - length
    begin -= begin[opens][circle]  # where each unit begins on its circle
    around = np.bincount(circle, weights=length)  # tokens of each circle, (C,)
    wanted = np.maximum(1, np.rint(rate * around))
    arc = rng.random(len(around)) * around  # where each arc begins
    return np.mod(begin - arc[circle], around[circle]) < wanted[circle]
