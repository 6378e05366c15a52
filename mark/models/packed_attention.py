"""Attention over a packed batch, under the name by which transformers' models look it up.

Models call it like their own: they are given `attn_implementation` and hand `segments` through. Each
segment attends to its own keys and those of the segments above it. On a CPU and at the lengths of prompts,
batched products take half the time of PyTorch's fused attention; weights are kept for the backward pass, or
computed anew where they would take too much memory.

Symbols: S scores, P = softmax(S) weights, O = P V; H key heads, R query heads to each, L tokens of a segment,
K tokens that it sees, D width of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

if TYPE_CHECKING:
    from mark.models.packing import Segments

NAME = "mark_packed"
FEW = 16  # new tokens a row up to which keys and values are not copied for each query head
BLOCK = 96  # queries of a segment that are read together in inference
KEPT = 1024  # tokens that a segment sees up to which its weights are kept for the backward pass

# Attention with causal masks and nothing else; each is compared with its own attention in the tests.
_DROPOUTS = ("attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop")
_PLAIN = {"granite", "gpt_neox", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3"}


def attention_fits(model: nn.Module, max_seq_length: int) -> bool:
    """Whether a model's attention is what `packed_attention` computes.

    Args:
        model: A causal language model, plain or with an adapter.
        max_seq_length: Of the rows; a sliding window that is no shorter hides nothing.
    """
    config: Any = model.config
    window = getattr(config, "sliding_window", None)
    return (
        config.model_type in _PLAIN
        and (window is None or window >= max_seq_length)
        and not any(getattr(config, name, 0.0) for name in _DROPOUTS)
    )


def use_packed_attention(model: nn.Module) -> None:
    """Let a model's attention layers call `packed_attention`; without `segments` it attends as before."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    wrapped: Any = model
    base = wrapped.get_base_model() if hasattr(wrapped, "get_base_model") else wrapped
    base.set_attn_implementation(NAME)
    assert uses_packed_attention(model)


def uses_packed_attention(model: nn.Module) -> bool:
    """Whether `use_packed_attention` was called for a model."""
    config: Any = model.config
    return bool(config._attn_implementation == NAME)


def packed_attention(  # noqa: PLR0913 - transformers' signature
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    *,
    segments: Segments | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attend within the segments of one line of tokens, or as PyTorch does where there are none.

    Args:
        module: transformers' attention layer.
        query: [1, H * R, tokens, D].
        key: [1, H, tokens, D].
        value: As `key`; its type is that of all products but the scores, which are float32 at least.
        attention_mask: Counts only without segments, from which else follows what a token sees.
        scaling: Of the scores; None = 1 / sqrt(D).
        segments: Of the batch.
        others: For PyTorch's attention.

    Returns:
        [1, tokens, H * R, D], and no weights.
    """
    if segments is None and attention_mask is not None and _few(query):
        return _by_key(query, key, value, attention_mask, scaling), None
    if segments is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        found: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **others
        )
        return found
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    lines = (part[0].transpose(0, 1) for part in (query, key, value))  # [tokens, heads, D]
    attend: Any = _in_blocks if torch.is_inference_mode_enabled() else _Attention.apply
    with torch.autocast(query.device.type, enabled=False):
        out: Tensor = attend(*lines, scale, segments)
    return out[None], None


def _few(query: Tensor) -> bool:
    """Whether a few new tokens follow many, as in decoding; in inference on a CPU."""
    return query.shape[2] <= FEW and query.device.type == "cpu" and torch.is_inference_mode_enabled()


def _by_key(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float | None) -> Tensor:
    """PyTorch's attention with the query heads of a key head as rows of one: keys are read once, not copied.

    Args:
        query: [B, H * R, L, D].
        key: [B, H, K, D].
        value: As `key`.
        mask: True where a token is seen, or what is added to the scores, [B, 1, L, K].
        scaling: As for `packed_attention`.

    Returns:
        [B, L, H * R, D].
    """
    batch, heads, length, width = query.shape
    rows = heads // key.shape[1]
    lines = query.reshape(batch, heads // rows, rows * length, width)
    seen = mask.expand(-1, -1, length, -1).repeat(1, 1, rows, 1)
    out = scaled_dot_product_attention(lines, key, value, attn_mask=seen, scale=scaling)
    return out.reshape(batch, heads, length, width).transpose(1, 2).contiguous()


class _Attention(torch.autograd.Function):
    """Lines of tokens in, a line out; see the module's docstring for the symbols."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float, segments: Segments
    ) -> Tensor:
        rows = query.shape[1] // key.shape[1]  # R
        out = value.new_empty(query.shape)
        keep = any(ctx.needs_input_grad)
        weights: list[Tensor | None] = []
        for number, (own, seen) in enumerate(_places(segments)):
            p = _weights(query[own], _rows(key, seen), _mask(segments, number, query), scale).to(value.dtype)
            out[own] = _by_token(torch.bmm(p, _rows(value, seen).transpose(0, 1)), rows)
            weights.append(p if keep and p.shape[2] <= KEPT else None)
        if keep:
            anew = any(p is None for p in weights)  # from scores as precise as before
            ctx.save_for_backward(
                query if anew else query.to(value.dtype), key if anew else key.to(value.dtype), value, *weights
            )
        ctx.scale, ctx.segments = scale, segments
        ctx.types = query.dtype, key.dtype
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *weights = ctx.saved_tensors
        low, rows = value.dtype, query.shape[1] // key.shape[1]
        d_query, d_key = torch.empty_like(query, dtype=low), torch.zeros_like(key, dtype=low)
        d_value = torch.zeros_like(value)
        for number, (own, seen) in enumerate(_places(ctx.segments)):
            p = weights[number]
            if p is None:
                p = _weights(query[own], _rows(key, seen), _mask(ctx.segments, number, query), ctx.scale).to(low)
            do = _by_key_head(grad[own].to(low), rows)  # [H, R * L, D]
            k, v = _rows(key, seen).to(low).transpose(0, 1), _rows(value, seen).transpose(0, 1)  # [H, K, D]
            _add(d_value, seen, torch.bmm(p.transpose(1, 2), do).transpose(0, 1))
            dp = torch.bmm(do, v.transpose(1, 2))
            ds = torch._softmax_backward_data(dp, p, -1, low)  # P * (dP - row sums of P * dP)
            d_query[own] = _by_token(torch.bmm(ds, k), rows)
            q = _by_key_head(query[own].to(low), rows)
            _add(d_key, seen, torch.bmm(ds.transpose(1, 2), q).transpose(0, 1))
        query_type, key_type = ctx.types
        return d_query.to(query_type).mul_(ctx.scale), d_key.to(key_type).mul_(ctx.scale), d_value, None, None


def _weights(query: Tensor, key: Tensor, mask: Tensor, scale: float) -> Tensor:
    """P [H, R * L, K] of queries [L, H * R, D] and keys [K, H, D], of which the mask [L, K] hides some."""
    full = torch.promote_types(query.dtype, torch.float32)
    rows = query.shape[1] // key.shape[1]
    q, k = _by_key_head(query.to(full), rows), key.to(full).transpose(0, 1)
    return torch.baddbmm(mask.repeat(rows, 1), q, k.transpose(1, 2), alpha=scale).softmax(dim=-1)


def _mask(segments: Segments, number: int, query: Tensor) -> Tensor:
    """What a segment's queries do not see, in the precision of the scores."""
    full = torch.promote_types(query.dtype, torch.float32)
    return segments.mask(number, query.new_empty(0, dtype=full))


def _in_blocks(query: Tensor, key: Tensor, value: Tensor, scale: float, segments: Segments) -> Tensor:
    """As `_Attention`, a block of a segment's queries at a time, each without the keys behind it."""
    rows = query.shape[1] // key.shape[1]
    out = value.new_empty(query.shape)
    for number, (own, seen) in enumerate(_places(segments)):
        k, v, mask = _rows(key, seen), _rows(value, seen), _mask(segments, number, query)
        k, above = k.to(mask.dtype), len(k) - (own.stop - own.start)
        for first in range(own.start, own.stop, BLOCK):
            block = slice(first, min(first + BLOCK, own.stop))
            lines = slice(block.start - own.start, block.stop - own.start)
            end = above + lines.stop
            p = _weights(query[block], k[:end], mask[lines, :end], scale).to(v.dtype)
            out[block] = _by_token(torch.bmm(p, v[:end].transpose(0, 1)), rows)
    return out


def _places(segments: Segments) -> Iterator[tuple[slice, list[slice]]]:
    """Where each segment's tokens lie, and those that it sees, its own last."""
    ends = list(torch.tensor(segments.lengths).cumsum(0).tolist())
    spans = [slice(end - length, end) for end, length in zip(ends, segments.lengths, strict=True)]
    for span, above in zip(spans, segments.above, strict=True):
        yield span, [*(spans[i] for i in above), span]


def _rows(line: Tensor, places: list[slice]) -> Tensor:
    """The tokens of some places [K, H, D]."""
    return line[places[0]] if len(places) == 1 else torch.cat([line[place] for place in places])


def _add(line: Tensor, places: list[slice], part: Tensor) -> None:
    """Add `part` [K, H, D] to the tokens of some places."""
    start = 0
    for place in places:
        length = place.stop - place.start
        line[place] += part[start : start + length]
        start += length


def _by_key_head(part: Tensor, rows: int) -> Tensor:
    """[L, H * R, D] -> [H, R * L, D]."""
    length, heads, width = part.shape
    return (
        part.reshape(length, heads // rows, rows, width).permute(1, 2, 0, 3).reshape(-1, rows * length, width)
    )


def _by_token(part: Tensor, rows: int) -> Tensor:
    """[H, R * L, D] -> [L, H * R, D]."""
    heads, tokens, width = part.shape
    length = tokens // rows
    return part.reshape(heads, rows, length, width).permute(2, 0, 1, 3).reshape(length, heads * rows, width)
