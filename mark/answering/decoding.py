"""The state of a batch while its answers are written, for attention and for state-space models.

Both read the prompts once (`start`), look ahead along a fixed text without keeping it (`probe`), append
one token a row (`step`) and drop rows that are done (`keep`). Shapes: B rows, T prompt tokens padded on the
left, V vocabulary.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any, Protocol

import torch
from torch import Tensor

from mark.answering.growing_cache import GrowingLayer
from mark.answering.padding import left_padded
from mark.answering.recurrent import RecurrentBatch
from mark.models.packed_attention import uses_packed_attention
from mark.models.packing import Segment, divide, placed


class BatchState(Protocol):
    """What the generation loop needs of an architecture."""

    def start(self, prompts: list[list[int]]) -> Tensor:
        """Read the prompts; logits [B, V] of the first answer token."""

    def probe(self, tokens: list[int]) -> Tensor:
        """Logits [B, len(tokens), V] after each of `tokens`, appended to every row and taken off again."""

    def step(self, tokens: Tensor) -> Tensor:
        """Append one token a row (`tokens` [B]); logits [B, V] of the next."""

    def keep(self, rows: Tensor) -> None:
        """Go on with the rows of these indices only."""


def is_recurrent(model: Any) -> bool:
    """Whether a model keeps a state instead of keys and values; adapters are looked through."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "cache_params" in inspect.signature(base.forward).parameters


def batch_state(model: Any, pad_id: int, prefix: Prefix | None) -> BatchState:
    """The state that fits a model; `prefix` is for attention models only."""
    if is_recurrent(model):
        return RecurrentBatch(model, pad_id)
    return (PackedBatch if uses_packed_attention(model) else AttentionBatch)(model, pad_id, prefix)


class Prefix:
    """Tokens that all prompts begin with, read once; later batches copy the keys and values.

    Attributes:
        ids: The shared tokens.
        cache: Keys and values of one row, never changed.
    """

    def __init__(self, model: Any, ids: list[int]) -> None:
        tokens = torch.tensor([ids], device=model.device)
        self.ids = ids
        self.cache = model(input_ids=tokens, use_cache=True, logits_to_keep=1).past_key_values

    def expanded(self, rows: int) -> Any:
        """A cache of `rows` equal rows."""
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(rows)
        return cache


class AttentionBatch:
    """Key-value cache. Padding sits between the shared prefix and the rest of each prompt."""

    def __init__(self, model: Any, pad_id: int, prefix: Prefix | None) -> None:
        self.model, self.pad_id, self.prefix = model, pad_id, prefix
        self.cache: Any = None
        self.mask = torch.empty(0, 0, dtype=torch.long)  # [B, tokens so far], 0 at padding

    def start(self, prompts: list[list[int]]) -> Tensor:
        shared = len(self.prefix.ids) if self.prefix is not None else 0
        ids, mask = left_padded([ids[shared:] for ids in prompts], self.pad_id, self.model.device)
        if self.prefix is not None:
            self.cache = self.prefix.expanded(len(prompts))
            mask = torch.cat([mask.new_ones(len(prompts), shared), mask], dim=1)
        self.mask = mask
        return self._forward(ids, keep=1)[:, -1]

    def probe(self, tokens: list[int]) -> Tensor:
        before = self.mask
        ids = torch.tensor(tokens, device=before.device).expand(len(before), -1)
        self.mask = torch.cat([before, torch.ones_like(ids)], dim=1)
        logits = self._forward(ids, keep=len(tokens))
        self.cache.crop(-len(tokens))
        self.mask = before
        return logits

    def step(self, tokens: Tensor) -> Tensor:
        ids = tokens[:, None]
        self.mask = torch.cat([self.mask, torch.ones_like(ids)], dim=1)
        return self._forward(ids, keep=1)[:, -1]

    def keep(self, rows: Tensor) -> None:
        self.cache.batch_select_indices(rows)
        self.mask = self.mask[rows]

    def _forward(self, ids: Tensor, keep: int) -> Tensor:
        """Logits [B, keep, V] in float32; positions count real tokens only."""
        positions = (self.mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        out = self.model(
            input_ids=ids,
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=keep,
        )
        self.cache = out.past_key_values
        logits: Tensor = out.logits[:, -keep:].float()
        return logits


class PackedBatch(AttentionBatch):
    """The same, but the prompts are read end to end without padding, and what several begin with once."""

    def start(self, prompts: list[list[int]]) -> Tensor:
        from transformers import DynamicCache

        segments = divide(prompts, [len(ids) - 1 for ids in prompts])
        device = self.model.device
        ids = [token for one in segments for token in prompts[one.row][one.start : one.end]]
        positions = [place for one in segments for place in range(one.start, one.end)]
        lines = [line for _, line in sorted(_lines(segments, prompts).items())]
        out = self.model(
            input_ids=torch.tensor([ids], device=device),
            position_ids=torch.tensor([positions], device=device),
            attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device),  # none is to be made
            segments=placed(segments, prompts),
            past_key_values=DynamicCache(),  # the model's own would forget what lies a sliding window behind
            use_cache=True,
            logits_to_keep=torch.tensor([line[-1] for line in lines], device=device),
        )
        picked, self.mask = left_padded(lines, 0, device)  # [B, longest] places on the line of tokens
        self.cache = out.past_key_values
        self.cache.layers = [
            GrowingLayer(*(part[0][:, picked].transpose(0, 1) for part in (layer.keys, layer.values)))
            for layer in self.cache.layers
        ]
        logits: Tensor = out.logits[0].float()
        return logits


def _lines(segments: list[Segment], prompts: list[list[int]]) -> dict[int, list[int]]:
    """For each prompt, where its tokens lie on the line of segments."""
    places: list[range] = []
    start = 0
    for one in segments:
        places.append(range(start, start + one.end - one.start))
        start += one.end - one.start
    return {
        one.row: [place for i in (*one.above, number) for place in places[i]]
        for number, one in enumerate(segments)
        if one.end == len(prompts[one.row])
    }
