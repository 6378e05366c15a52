"""What a backend of the scan reads and returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Operands:
    """The scan's input: one dtype (float32 or float64), one device; None = not given.

    Attributes:
        x: [B, D, L], any strides, as `dt`, `B`, `C` and `z`; all others are contiguous.
        dt: [B, D, L].
        A: [D, N].
        B: [B, N, L].
        C: [B, N, L].
        D: [D].
        z: [B, D, L].
        delta_bias: [D].
        initial_state: [B, D, N].
        resets: Bool [B, L].
        softplus: Whether delta is softplus(dt + delta_bias).
    """

    x: Tensor
    dt: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    delta_bias: Tensor | None
    initial_state: Tensor | None
    resets: Tensor | None
    softplus: bool

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """B, D, L, N."""
        rows, channels, length = self.x.shape
        return rows, channels, length, self.A.shape[1]

    def start(self) -> Tensor:
        """The state before the first token, [B, D, N]."""
        if self.initial_state is not None:
            return self.initial_state
        rows, channels, _, states = self.sizes
        return self.x.new_zeros(rows, channels, states)


class Scanned(NamedTuple):
    """Output y [B, D, L], last state [B, D, N], states at chunk borders in the backend's own layout."""

    y: Tensor
    last_state: Tensor
    borders: Tensor | None


class Gradients(NamedTuple):
    """Of the operands of the same names; None where there was no operand."""

    x: Tensor
    dt: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    delta_bias: Tensor | None
    initial_state: Tensor | None


@dataclass(frozen=True)
class Backend:
    """One implementation of the scan.

    Attributes:
        name: For logs and tests.
        forward: (operands, keep) -> `Scanned`; without `keep` no borders.
        backward: (operands, borders, gradient of y, gradient of the last state or None) -> `Gradients`.
    """

    name: str
    forward: Callable[[Operands, bool], Scanned]
    backward: Callable[[Operands, Tensor, Tensor, Tensor | None], Gradients]


def laid_out_like(tensor: Tensor) -> Tensor:
    """Empty, [B, D, L], memory along the same axis; `empty_like` keeps that for dense tensors only."""
    rows, channels, length = tensor.shape
    if tensor.stride(1) == 1:
        return tensor.new_empty(rows, length, channels).transpose(1, 2)
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)
