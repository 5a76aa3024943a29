"""Runs of tokens that are masked as a unit, and how units are drawn; the strategies are built from these.

Letters: T tokens in the micro-batch, N sequences, U units, K chosen tokens.
"""

import numpy as np

from pretrain import ragged


def words(maskable: np.ndarray, word_starts: np.ndarray, cu_seqlens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First token and length of every word, as a run of maskable tokens, (U,) each."""
    begins = maskable & word_starts
    begins[1:] |= maskable[1:] & ~maskable[:-1]  # a word split by a special token, or truncated
    begins[cu_seqlens[:-1]] |= maskable[cu_seqlens[:-1]]
    first = np.flatnonzero(begins)
    word = np.cumsum(begins) - 1
    return first, np.bincount(word[maskable], minlength=len(first))


def spans(
    first: np.ndarray, length: np.ndarray, cu_seqlens: np.ndarray, words_each: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """First token and length of spans that together cover all words: (U,) words -> fewer units.

    Args:
        first, length: the words.
        cu_seqlens: where each sequence starts, and T last, (N + 1,).
        words_each: wanted lengths of successive spans in words, (U,); a span ends early at a special token.
    """
    opens = np.ones(len(first), bool)  # words after a special token, or at the start of a sequence
    opens[1:] = first[1:] != first[:-1] + length[:-1]
    opens |= np.isin(first, cu_seqlens)
    run = np.cumsum(opens) - 1
    run_starts = np.flatnonzero(opens)  # in words
    ends = np.cumsum(words_each)
    place = ends - words_each  # where each span would begin if nothing interrupted it ...
    place = place - place[run_starts][run] + run_starts[run]  # ... restarting in each run of words
    begins = np.zeros(len(first), bool)
    run_ends = np.append(run_starts[1:], len(first))
    begins[place[place < run_ends[run]]] = True
    span_starts = np.flatnonzero(begins)
    tokens = np.add.reduceat(length, span_starts) if len(span_starts) else length[:0]
    return first[span_starts], tokens


def draw(
    first: np.ndarray,
    length: np.ndarray,
    cu_seqlens: np.ndarray,
    rate: float,
    bernoulli: bool,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw units uniformly at random, so that the expected share of tokens is the rate.

    Args:
        first, length: the units, in tokens, (U,) each.
        cu_seqlens: where each sequence starts, and T last, (N + 1,).
        rate: share of each sequence's maskable tokens.
        bernoulli: each unit independently; otherwise as near to the share in each sequence as its units allow.
        rng: the generator of this micro-batch's masks.

    Returns:
        Chosen positions, ascending, (K,), and the unit each belongs to, (K,): its tokens are replaced alike.
    """
    if bernoulli:
        taken = np.flatnonzero(rng.random(len(first)) < rate)
    else:
        sequence = np.searchsorted(cu_seqlens, first, side="right") - 1
        order = np.argsort(sequence + rng.random(len(first)))  # shuffled, still grouped by sequence
        taken = np.sort(order[_arc(length[order], sequence[order], rate, rng)])
    positions = ragged.ranges(first[taken], length[taken])
    return positions, np.repeat(np.arange(len(taken)), length[taken])


def choose_spans(
    chances: np.ndarray,
    maskable: np.ndarray,
    word_starts: np.ndarray,
    cu_seqlens: np.ndarray,
    rate: float,
    bernoulli: bool,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose spans of whole words; the arguments after `chances` and what is returned are those of `strategy.Choose`.

    A sequence is divided into consecutive spans of random length, and some of these are taken whole; a short sequence
    may get none.

    Args:
        chances: probability of each length in words, from one word on.
    """
    first, length = words(maskable, word_starts, cu_seqlens)
    wanted = rng.choice(np.arange(1, len(chances) + 1), len(first), p=chances)
    return draw(*spans(first, length, cu_seqlens, wanted), cu_seqlens, rate, bernoulli, rng)


def _arc(length: np.ndarray, sequence: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    """Which units are taken, in the order given, (U,).

    A sequence's shuffled units lie on a circle, each as long as its tokens. An arc of the wanted length is placed at
    random, and the units that begin in it are taken: every unit with the same probability, whatever its length.
    """
    if len(length) == 0:
        return np.zeros(0, bool)
    opens = np.r_[True, sequence[1:] != sequence[:-1]]  # a sequence's first unit
    group = np.cumsum(opens) - 1
    before = np.cumsum(length) - length
    before -= before[opens][group]  # where each unit begins on its circle
    around = np.bincount(group, weights=length)
    wanted = np.maximum(1, np.rint(rate * around))
    arc = rng.random(len(around)) * around
    return np.mod(before - arc[group], around[group]) < wanted[group]
