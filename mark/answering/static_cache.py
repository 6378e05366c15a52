"""Answers written with keys and values that stay where they are: on a GPU one launch a token.

Prompts are read as ever; what they left is copied to the start of fixed buffers, and each further token is
one run of a step that was recorded (a CUDA graph) for that many rows. The mask hides slots that hold nothing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from mark.answering.decoding import AttentionBatch, Prefix
from mark.models.cuda_graph import recorded
from mark.models.packed_attention import attention_fits
from mark.models.storage import is_placed

log = logging.getLogger(__name__)
_SWITCH = "MARK_DECODE_GRAPHS"  # 1: recorded steps on CUDA; they have not run on a GPU yet


def static_decoder(model: Any, slots: int, rows: int) -> StaticDecoder | None:
    """What writes a model's answers on this device in recorded steps; None where that is not done.

    A model with an adapter that may be switched off is left alone: the record would not notice.

    Args:
        model: A causal language model in evaluation mode.
        slots: Tokens of a prompt and its answer at most.
        rows: Answers written together at most.
    """
    if os.environ.get(_SWITCH) != "1" or torch.device(model.device).type != "cuda":
        return None
    fits = attention_fits(model, slots) and model.config._attn_implementation == "sdpa"
    if not fits or is_placed(model) or hasattr(model, "peft_config"):
        log.info("%s=1: this model's answers are written without CUDA graphs", _SWITCH)
        return None
    return StaticDecoder(model, slots, rows)


class StaticLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values [rows, heads, slots, width]; a new token goes to one slot, all slots are returned.

    Args:
        keys: Zeros, or finite numbers: hidden slots are multiplied by 0.
        values: The same.
        slot: int64 [1], where the next token is written.
    """

    def __init__(self, keys: Tensor, values: Tensor, slot: Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values, self.slot = keys, values, slot

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write one token a row."""
        self.keys.index_copy_(2, self.slot, key_states)
        self.values.index_copy_(2, self.slot, value_states)
        return self.keys, self.values


class StaticDecoder:
    """Buffers for one batch at a time of one engine, and a recorded step for each number of rows.

    Args:
        model: A causal language model in evaluation mode with PyTorch's attention.
        slots: Tokens of a prompt and its answer at most.
        rows: Answers written together at most.
    """

    def __init__(self, model: Any, slots: int, rows: int) -> None:
        self.model = model
        self.device = torch.device(model.device)
        self.most = rows
        self.ids = torch.zeros(rows, 1, dtype=torch.long, device=self.device)
        self.mask = torch.zeros(rows, slots, dtype=torch.bool, device=self.device)
        self.slot = torch.zeros(1, dtype=torch.long, device=self.device)
        self.layers: list[
            tuple[Tensor, Tensor]
        ] = []  # each [rows, heads, slots, width], from the first batch on
        self.steps: dict[int, tuple[Callable[[], object], Tensor]] = {}
        self.filled = self.rows = 0  # slots and rows of the present batch

    def load(self, cache: Any, mask: Tensor) -> None:
        """Begin with what the prompts left.

        Args:
            cache: Of transformers, each layer's keys and values [B, heads, T, width].
            mask: [B, T], 0 at padding.
        """
        self.rows, self.filled = mask.shape
        slots = self.mask.shape[1]
        assert self.rows <= self.most and self.filled <= slots, (mask.shape, self.mask.shape)
        if not self.layers:
            self.layers = [
                tuple(part.new_zeros(self.most, part.shape[1], slots, part.shape[3]) for part in pair)
                for pair in ((layer.keys, layer.values) for layer in cache.layers)
            ]
        for pair, layer in zip(self.layers, cache.layers, strict=True):
            for store, part in zip(pair, (layer.keys, layer.values), strict=True):
                store[: self.rows, :, : self.filled] = part
        self.mask.zero_()
        self.mask[: self.rows, : self.filled] = mask.bool()
        self._mind_others()

    def step(self, tokens: Tensor) -> Tensor:
        """Append one token a row (`tokens` [B]); logits [B, V] of the next, until the next step."""
        self.ids[: self.rows, 0] = tokens
        self.mask[: self.rows, self.filled] = True
        self.slot.fill_(self.filled)
        self.filled += 1
        size = min(1 << (self.rows - 1).bit_length(), self.most)
        if size not in self.steps:
            self.steps[size] = self._recorded(size)
        run, logits = self.steps[size]
        run()
        return logits[: self.rows]

    def keep(self, rows: Tensor) -> None:
        """Go on with the rows of these indices only."""
        self.rows = len(rows)
        for part in (self.mask, *(part for pair in self.layers for part in pair)):
            part[: self.rows] = part[rows]
        self._mind_others()

    def _mind_others(self) -> None:
        """Rows that are not used see one token: seeing none would leave no numbers in the buffers."""
        self.mask[self.rows :] = False
        self.mask[self.rows :, 0] = True

    def _recorded(self, rows: int) -> tuple[Callable[[], object], Tensor]:
        ids, mask = self.ids[:rows], self.mask[:rows]
        cache = DynamicCache()
        cache.layers = [StaticLayer(keys[:rows], values[:rows], self.slot) for keys, values in self.layers]
        logits = torch.empty(rows, self.model.config.vocab_size, device=self.device)

        def work() -> None:
            out = self.model(
                input_ids=ids,
                attention_mask=mask[:, None, None],  # of four dimensions: none is to be made
                position_ids=mask.sum(dim=1, keepdim=True) - 1,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            logits.copy_(out.logits[:, -1])

        return recorded(work, self.device, mode="thread_local"), logits


class StaticBatch(AttentionBatch):
    """A batch whose prompts are read with a growing cache; a `StaticDecoder` writes its answers."""

    def __init__(self, model: Any, pad_id: int, prefix: Prefix | None, decoder: StaticDecoder) -> None:
        super().__init__(model, pad_id, prefix)
        self.decoder, self.loaded = decoder, False

    def step(self, tokens: Tensor) -> Tensor:
        if not self.loaded:
            self.decoder.load(self.cache, self.mask)
            self.cache, self.loaded = None, True
        return self.decoder.step(tokens)

    def keep(self, rows: Tensor) -> None:
        if self.loaded:
            self.decoder.keep(rows)
        else:
            super().keep(rows)
