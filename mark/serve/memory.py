"""Memory of a process that answers for weeks: what grows with every new length of a prompt is bounded."""

from __future__ import annotations

import os

_KERNELS = 128  # more than one batch needs
_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")  # oneDNN's own, and PyTorch's of it


def bound_memory() -> None:
    """Call it in a process before it multiplies anything; what the environment sets already is left alone.

    On a CPU a kernel is compiled for each shape of a product and kept: 1,024 of them, up to a MiB each, and
    prompts come in as many lengths.
    """
    for name in _CACHES:
        os.environ.setdefault(name, str(_KERNELS))
