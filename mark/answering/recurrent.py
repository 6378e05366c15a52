"""The state of a batch of answers in a state-space model; B rows, V vocabulary, as in decoding.py.

What several prompts begin with is read once: prompts form a tree (mark/models/packing.py), and a segment
goes on from a copy of the state that the segment above it ended with.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mark.answering.padding import left_padded
from mark.models.packing import Segment, divide
from mark.models.scan import installed


class RecurrentBatch:
    """Convolution and state-space states; left padding leaves both as they were, so it changes nothing."""

    def __init__(self, model: Any, pad_id: int) -> None:
        self.model, self.pad_id = model, pad_id
        self.cache: Any = None
        self.rows = 0
        # transformers' own scan, and other architectures, start at zero when several tokens follow a cache
        self._goes_on = model.config.model_type == "mamba" and installed()

    def start(self, prompts: list[list[int]]) -> Tensor:
        """Read the prompts; logits [B, V] of the first answer token."""
        self.rows = len(prompts)
        # a row keeps so many tokens to itself that padding may stand before them
        own = int(self.model.config.conv_kernel) if self._goes_on else max(map(len, prompts))
        segments = divide(prompts, [max(0, len(ids) - own) for ids in prompts])
        read: list[_Level] = []
        for numbers in _levels(segments):
            tokens = [prompts[segments[i].row][segments[i].start : segments[i].end] for i in numbers]
            cache = read[-1].cache_of([segments[i].above[-1] for i in numbers]) if read else None
            ids, mask = left_padded(tokens, self.pad_id, self.model.device)
            out = self._forward(ids, cache, mask, keep=1)
            read.append(_Level(numbers, out.cache_params, out.logits[:, -1].float()))
        last = {one.row: i for i, one in enumerate(segments) if one.end == len(prompts[one.row])}
        whole = _end_to_end(read)
        order = [last[row] for row in range(self.rows)]
        self.cache = whole.cache_of(order)
        return whole.logits[whole.places(order)]

    def probe(self, tokens: list[int]) -> Tensor:
        """Logits [B, len(tokens), V] after each of `tokens`; the state stays as it was."""
        saved = copy.deepcopy(self.cache)
        ids = torch.tensor(tokens, device=self.model.device).expand(self.rows, -1)
        if self._goes_on:
            logits: Tensor = self._forward(ids, self.cache, None, keep=len(tokens)).logits.float()
        else:
            logits = torch.stack([self.step(ids[:, i]) for i in range(len(tokens))], dim=1)
        self.cache = saved
        return logits

    def step(self, tokens: Tensor) -> Tensor:
        """Append one token a row (`tokens` [B]); logits [B, V] of the next."""
        out = self._forward(tokens[:, None], self.cache, None, keep=1)
        self.cache = out.cache_params
        logits: Tensor = out.logits[:, -1].float()
        return logits

    def keep(self, rows: Tensor) -> None:
        """Go on with the rows of these indices only."""
        self.cache.reorder_cache(rows)
        self.rows = len(rows)

    def _forward(self, ids: Tensor, cache: Any, mask: Tensor | None, keep: int) -> Any:
        return self.model(
            input_ids=ids, cache_params=cache, attention_mask=mask, use_cache=True, logits_to_keep=keep
        )


@dataclass(frozen=True)
class _Level:
    """Segments that were read together.

    Attributes:
        numbers: Of the segments, in the order of the rows.
        cache: Their states, a row each.
        logits: After the last token of each, [segments, V].
    """

    numbers: list[int]
    cache: Any
    logits: Tensor

    def places(self, segments: list[int]) -> Tensor:
        """The rows of some segments."""
        rows = {number: row for row, number in enumerate(self.numbers)}
        return torch.tensor([rows[number] for number in segments], device=self.logits.device)

    def cache_of(self, segments: list[int]) -> Any:
        """A cache with the states of some segments, which may repeat; this one stays as it is."""
        found = copy.deepcopy(self.cache)
        found.reorder_cache(self.places(segments))
        return found


def _levels(segments: list[Segment]) -> list[list[int]]:
    """Numbers of the segments with none above, of those below them, and so on."""
    found: list[list[int]] = [[] for _ in range(1 + max(len(one.above) for one in segments))]
    for number, one in enumerate(segments):
        found[len(one.above)].append(number)
    return found


def _end_to_end(levels: list[_Level]) -> _Level:
    """One level with the segments of all."""
    if len(levels) == 1:
        return levels[0]
    cache = copy.deepcopy(levels[0].cache)
    for i, layer in enumerate(cache.layers):
        for name in ("conv_states", "recurrent_states"):
            parts = [getattr(level.cache.layers[i], name) for level in levels]
            setattr(layer, name, {key: torch.cat([part[key] for part in parts]) for key in parts[0]})
    numbers = [number for level in levels for number in level.numbers]
    return _Level(numbers, cache, torch.cat([level.logits for level in levels]))
