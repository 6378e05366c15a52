"""A layer of a key-value cache with room to grow: a new token is written, those before it are not copied."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicLayer

ROOM = 32  # tokens that are made room for at a time


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values [rows, heads, tokens, width] at the start of longer buffers.

    Args:
        keys: Of the tokens so far.
        values: Of the same tokens.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values
        self._buffers = (keys, values)

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write the new tokens behind the others; returns all."""
        length = self.keys.shape[2]
        total = length + key_states.shape[2]
        keys, values = self._buffers
        # cropping leaves the start of the buffers in use, dropping rows does not
        if keys.data_ptr() != self.keys.data_ptr() or len(keys) != len(self.keys) or total > keys.shape[2]:
            keys, values = (_roomy(part, total + ROOM) for part in (self.keys, self.values))
            self._buffers = (keys, values)
        keys[:, :, length:total] = key_states
        values[:, :, length:total] = value_states
        self.keys, self.values = keys[:, :, :total], values[:, :, :total]
        return self.keys, self.values


def _roomy(part: Tensor, tokens: int) -> Tensor:
    rows, heads, length, width = part.shape
    buffer = part.new_empty(rows, heads, tokens, width)
    buffer[:, :, :length] = part
    return buffer
