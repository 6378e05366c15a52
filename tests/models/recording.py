"""What of a piece of work could not be recorded in a CUDA graph, found on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# each waits for a value, has a shape that follows from one, or copies from main memory
_WAITS = (
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "equal",
    "unique",
    "lift_fresh",
    "repeat_interleave.Tensor",
)


def _by_truth(args: tuple[Any, ...]) -> bool:
    """Whether something is indexed by a tensor of truth values."""
    indices = args[1] if len(args) > 1 and isinstance(args[1], (list, tuple)) else ()
    return any(isinstance(one, Tensor) and one.dtype == torch.bool for one in indices)


class Waits(TorchDispatchMode):
    """Collects the operations of a block that a record refuses, and counts all."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func).removeprefix("aten.")
        self.count += 1
        if name.startswith(_WAITS) or (name.startswith("index") and _by_truth(args)):
            self.found.append(name)
        return func(*args, **(kwargs or {}))
