"""Batches whose shapes repeat: rows padded to a few lengths, a few numbers of places for the head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mark.train.collator import IGNORED, AnswerCollator

STEP = 64  # tokens between two lengths
_LEAST_PLACES = 64


@dataclass(frozen=True)
class BucketCollator:
    """As `AnswerCollator`, in one of a few shapes, and with the places that the head reads.

    Args:
        pad_id: What fills the padding; any id serves.
    """

    pad_id: int

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Collate.

        Args:
            rows: `input_ids` (int list) and `answer_start` of each.

        Returns:
            `input_ids`, `attention_mask` and `labels` as `AnswerCollator`, padded to a multiple of 64 tokens;
            `places` and `targets`, int64 [places], a power of two: where in the batch laid end to end an
            answer token is predicted, and which; unused places are 0 with the target -100; `tokens` without
            padding.
        """
        batch = AnswerCollator(self.pad_id)(rows)
        longest = batch["input_ids"].shape[1]
        width = -(-longest // STEP) * STEP
        fills = {"input_ids": self.pad_id, "attention_mask": 0, "labels": IGNORED}
        wide: dict[str, Any] = {
            name: torch.nn.functional.pad(batch[name], (0, width - longest), value=fill)
            for name, fill in fills.items()
        }
        places, targets = answer_places(wide["labels"])
        return wide | {"places": places, "targets": targets, "tokens": int(batch["attention_mask"].sum())}


def answer_places(labels: Tensor) -> tuple[Tensor, Tensor]:
    """`places` and `targets` of labels [rows, width]; see `BucketCollator`."""
    shifted = labels[:, 1:]  # position i predicts token i + 1
    row, position = (shifted != IGNORED).nonzero(as_tuple=True)
    size = max(_LEAST_PLACES, 1 << max(0, len(row) - 1).bit_length())
    places = torch.zeros(size, dtype=torch.long)
    targets = torch.full((size,), IGNORED, dtype=torch.long)
    places[: len(row)] = row * labels.shape[1] + position
    targets[: len(row)] = shifted[row, position]
    return places, targets
