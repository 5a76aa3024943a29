"""What a chosen token becomes: [MASK], a random token, or itself (Devlin et al. 2019, section 3.1 and appendix A.1)."""

import numpy as np


def corrupt(
    token_ids: np.ndarray,
    chosen: np.ndarray,
    units: np.ndarray,
    mask_share: float,
    random_share: float,
    mask_id: int,
    ordinary_ids: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """The tokens as the model sees them, (T,); a unit's tokens share one fate, but random ones are drawn separately.

    Args:
        token_ids: (T,). Not modified.
        chosen: positions to predict, (K,).
        units: the unit each belongs to, numbered from 0 in order, (K,).
        mask_share, random_share: shares of the units that become [MASK], or random; the rest are unchanged.
        mask_id: of [MASK].
        ordinary_ids: what random tokens are drawn from, without special ones.
        rng: the generator of this micro-batch's masks.
    """
    fate = rng.random(int(units[-1]) + 1 if len(units) else 0)[units]  # (K,)
    random_tokens = ordinary_ids[rng.integers(0, len(ordinary_ids), len(chosen))]
    seen = token_ids.copy()
    masked, randomised = fate < mask_share, (fate >= mask_share) & (fate < mask_share + random_share)
    seen[chosen[masked]] = mask_id
    seen[chosen[randomised]] = random_tokens[randomised]
    return seen
