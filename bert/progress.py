"""Progress bars: on a terminal at once, in a log once a minute."""

import sys
from typing import Any

from tqdm import tqdm

A_MINUTE = 60.0  # seconds


def progress(*items: Any, **options: Any) -> tqdm:
    """tqdm; where nobody watches, what takes less than a minute prints nothing."""
    if not sys.stderr.isatty():
        options |= {"delay": A_MINUTE, "mininterval": A_MINUTE, "maxinterval": A_MINUTE, "leave": True}
    return tqdm(*items, **options)
