"""Attention inside each sequence of a packed batch.

A backend is made once for a batch, from where its sequences lie, and then called by every layer:

    attend = BACKENDS[name](batch)
    mixed, probabilities = attend(query, key, value, dropout)     # (T, A, D) three times -> (T, A, D)

More rows than the batch has tokens may be given: they belong to no sequence, and 0 comes back in their place.

Where `attend.answers_some`, some tokens can ask alone, in any order; elsewhere all do, and the caller picks:

    mixed = attend.some(places, query, key, value, dropout)       # (R,), (R, A, D), (T, A, D) twice -> (R, A, D)

with 0 again for queries in further rows.

Only `eager` returns probabilities, (N, A, S, S); the others return None in their place. What a backend needs of device,
precision and model, and would not find there, is said by `UNMET`; one that is not in it runs anywhere.
"""

from bert.attention import eager, sdpa, varlen

BACKENDS = {"sdpa": sdpa.Attention, "eager": eager.Attention, "varlen": varlen.Attention}
UNMET = {"varlen": varlen.unmet}
