"""Measurements, each against a peer in the same run."""

import bert  # noqa: F401  # first of all: it settles how torch's threads wait, ours and the peer's
