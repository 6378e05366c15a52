"""Attention under a causal mask that is never made, under a name of its own.

transformers' own functions decide from the mask whether they may leave it out, and some of its versions make one
while a CUDA graph is recorded; then no flash kernel runs. Rows that are padded on the right need none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

NAME = "mark_causal"


@contextmanager
def causal_only(model: nn.Module) -> Iterator[None]:
    """Let a model attend causally for a block, whatever the mask: for rows that begin at their first token.

    Args:
        model: A causal language model, plain or with an adapter, for which `attention_fits`.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, causal_attention)  # without a function that makes masks there are none
    wrapped: Any = model
    base = wrapped.get_base_model() if hasattr(wrapped, "get_base_model") else wrapped
    before = base.config._attn_implementation
    base.set_attn_implementation(NAME)
    assert base.config._attn_implementation == NAME
    try:
        yield
    finally:
        base.set_attn_implementation(before)


def causal_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """PyTorch's fused attention with its causal flag.

    Args:
        module: transformers' attention layer.
        query: [rows, query heads, tokens, width].
        key: [rows, key heads, tokens, width].
        value: As `key`.
        attention_mask: Not looked at.
        scaling: Of the scores; None = 1 / sqrt(width).

    Returns:
        [rows, tokens, query heads, width], and no weights.
    """
    grouped = query.shape[1] != key.shape[1]
    out = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=scaling, enable_gqa=grouped
    )
    return out.transpose(1, 2).contiguous(), None
