"""Attention inside each sequence of a packed batch.

A backend (bert/attention/backend.py) is made once per batch, from its sequence boundaries, and then called by every
layer:

    attend = BACKENDS[name](batch)
    mixed, probabilities = attend(query_key_value, dropout)     # (T, 3, A, D) -> (T, A, D)

Where `attend.answers_some`, only some tokens may be queries:

    mixed = attend.some(places, query, key, value, dropout)       # (R,), (R, A, D), (T, A, D) twice -> (R, A, D)
"""

from bert.attention import eager, sdpa, varlen

BACKENDS = {"sdpa": sdpa.Sdpa, "eager": eager.Eager, "varlen": varlen.Varlen}
