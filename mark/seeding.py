"""One seed for every generator of random numbers."""

from __future__ import annotations

import hashlib
import random

import numpy as np


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and, where it is already loaded, torch.

    Args:
        seed: Any integer >= 0; 0 is a seed like any other.
    """
    import sys

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)


def derived_seed(seed: int, *names: str) -> int:
    """A seed for one named purpose, independent of the order in which purposes are served.

    Args:
        seed: The run's seed.
        names: What the seed is for, e.g. `"split"`, a document id.

    Returns:
        An integer in [0, 2**32).
    """
    text = "\x1f".join([str(seed), *names])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
