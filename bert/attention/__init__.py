"""Attention inside each sequence of a packed batch.

A backend is made once per batch, from its sequence boundaries, and then called by every layer:

    attend = BACKENDS[name](batch)
    mixed, probabilities = attend(query, key, value, dropout)     # (T, A, D) three times -> (T, A, D)

There may be spare rows after the batch's tokens: they belong to no sequence, and come back as 0.

Where `attend.answers_some`, only some tokens may be queries, in any order; elsewhere all are, and the caller picks:

    mixed = attend.some(places, query, key, value, dropout)       # (R,), (R, A, D), (T, A, D) twice -> (R, A, D)

again with 0 for spare queries.

Only `eager` returns probabilities, (N, A, S, S); the others return None in their place. `UNMET` has, by backend, a
function that lists its unmet requirements of device, precision and model; a backend not in it runs anywhere.
"""

from bert.attention import eager, sdpa, varlen

BACKENDS = {"sdpa": sdpa.Attention, "eager": eager.Attention, "varlen": varlen.Attention}
UNMET = {"varlen": varlen.unmet}
