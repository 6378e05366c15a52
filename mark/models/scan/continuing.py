"""Reading several tokens after a cache that is not empty: the prompts after a prefix that they share.

transformers goes on from the cached convolution but starts the scan at zero ("not supported by the kernel
path"), which gives wrong logits without a word. Here the mixer's forward notes its layer's state for the scan
that it calls. Padding on the left then stands BETWEEN prefix and prompt, so it must change neither state: the
scan's step size is zero there, and the convolution sees the prefix's last inputs before the first token.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mark.errors import ModelError
from mark.models.scan.convolution import causal_convolution, convolution_fits
from mark.models.scan.inner import RUNNING, Running


@dataclass(frozen=True)
class Earlier:
    """What a layer goes on from.

    Attributes:
        state: h after the tokens read so far, [B, D, N].
        padding: Padded tokens at the start of each row, [B]; None = none at all.
        kernel: Tokens that the cached convolution state holds.
    """

    state: Tensor
    padding: Tensor | None
    kernel: int

    def frozen(self, dt: Tensor) -> Tensor:
        """`dt` [B, D, T] with a step size of zero (softplus of minus infinity) at padding."""
        if self.padding is None:
            return dt
        padded = torch.arange(dt.shape[2], device=dt.device) < self.padding[:, None]  # [B, T]
        return dt.masked_fill(padded[:, None], -math.inf)

    def joined(self, inputs: Tensor) -> Tensor:
        """The convolution's inputs [B, D, kernel + T] in the order padding, cached inputs, new inputs."""
        if self.padding is None:
            return inputs
        column = torch.arange(inputs.shape[2], device=inputs.device)[None]  # [1, kernel + T]
        old = self.kernel + self.padding[:, None]  # cached and padded, [B, 1]
        source = torch.where(column < old, (column - self.padding[:, None]) % old, column)
        return inputs.gather(2, source[:, None].expand_as(inputs))


_EARLIER: ContextVar[Earlier | None] = ContextVar(
    "what the Mamba layer that runs now goes on from", default=None
)


def current() -> Earlier | None:
    """Of the layer that runs now; None where it starts at zero."""
    return _EARLIER.get()


def mixer_forward(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """transformers' `MambaMixer.forward`, with itself and the state that it goes on from noted while it runs."""

    @functools.wraps(forward)
    def noted(
        mixer: Any,
        hidden_states: Tensor,
        cache_params: Any = None,
        attention_mask: Tensor | None = None,
        **more: Any,
    ) -> Tensor:
        token = _EARLIER.set(_earlier(mixer, hidden_states, cache_params, attention_mask))
        running = RUNNING.set(Running(mixer, attention_mask))
        try:
            return forward(mixer, hidden_states, cache_params, attention_mask, **more)
        finally:
            RUNNING.reset(running)
            _EARLIER.reset(token)

    return noted


def convolution(conv: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """transformers' `causal_conv1d_fn`, with the cached inputs right before each row's first token.

    Args:
        conv: What computes it where ours does not.
    """

    @functools.wraps(conv)
    def joined(
        hidden_states: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        activation: str | None = None,
        **more: Any,
    ) -> Tensor:
        now = current()
        inputs = hidden_states if now is None else now.joined(hidden_states)
        if convolution_fits(inputs, activation):
            return causal_convolution(inputs, weight, bias, activation)
        return conv(inputs, weight, bias, activation=activation, **more)

    return joined


def _earlier(mixer: Any, hidden_states: Tensor, cache: Any, mask: Tensor | None) -> Earlier | None:
    """None for the start of a sequence, and for single tokens, which have a function of their own.

    Raises:
        ModelError: Padding that is not on the left, or fewer tokens than the convolution remembers.
    """
    if cache is None or hidden_states.shape[1] == 1:
        return None
    state = cache.get_recurrent_state(mixer.layer_idx, state_idx=0)
    if state is None:
        return None
    kernel = int(mixer.conv_kernel_size)
    # The cache writes the new state into the same tensor, which a backward pass would still need.
    return Earlier(state.clone(), None if mask is None else _left_padding(mask, kernel), kernel)


def _left_padding(mask: Tensor, kernel: int) -> Tensor | None:
    """Padded tokens of each row, [B], of a mask [B, T] over the new tokens."""
    real = mask.bool()
    if bool(real.all()):
        return None
    if bool((real[:, :-1] & ~real[:, 1:]).any()):
        raise ModelError("after a Mamba cache, padding must stand on the left of the new tokens")
    counts = real.sum(dim=1)
    if int(counts.min()) < kernel:
        raise ModelError(
            f"after a Mamba cache, a padded row needs {kernel} tokens or more, not {int(counts.min())}: "
            "the cache keeps that many columns, padding included"
        )
    return (~real).sum(dim=1)
