"""Batches of encoded examples on one line of tokens: no padding, and shared beginnings once.

Losses and gradients are those of separate rows (up to rounding): the loss sees every answer as often.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mark.models.packing import Segment, divide, placed
from mark.train.collator import IGNORED


@dataclass(frozen=True)
class PackedCollator:
    """Makes one line of tokens of a batch; see `mark.models.packing`."""

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Collate.

        Args:
            rows: `input_ids` (int list) and `answer_start` of each.

        Returns:
            `input_ids`, `position_ids` and `labels`, each int64 [1, tokens], and `segments`. A label stands
            on the answer's own position (models shift), -100 elsewhere.
        """
        found = segment(rows)
        ids: list[int] = []
        positions: list[int] = []
        labels: list[int] = []
        for one in found:
            row = rows[one.row]
            part = row["input_ids"][one.start : one.end]
            prompt = min(max(int(row["answer_start"]) - one.start, 0), len(part))
            ids += part
            positions += range(one.start, one.end)
            labels += [IGNORED] * prompt + list(part[prompt:])
        lines = {"input_ids": ids, "position_ids": positions, "labels": labels}
        segments = placed(found, [row["input_ids"] for row in rows])
        return {name: torch.tensor([line]) for name, line in lines.items()} | {"segments": segments}


def segment(rows: Sequence[dict[str, Any]]) -> list[Segment]:
    """The segments of some rows: no answer token is shared, nor the token that predicts an answer's first."""
    return divide([row["input_ids"] for row in rows], [int(row["answer_start"]) - 1 for row in rows])


def packed_tokens(rows: Sequence[dict[str, Any]]) -> int:
    """Tokens that a packed batch of these rows holds."""
    return sum(one.end - one.start for one in segment(rows))
