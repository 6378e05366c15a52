"""Batches of encoded examples: right padding, labels only on the answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

IGNORED = -100  # cross entropy's ignore_index

Collator = Callable[[Sequence[dict[str, Any]]], dict[str, Any]]


@dataclass(frozen=True)
class AnswerCollator:
    """Pads on the right; padding is known by position, never by id (it may equal EOS).

    Args:
        pad_id: What fills the padding; any id serves.
    """

    pad_id: int

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Collate.

        Args:
            rows: `input_ids` (int list) and `answer_start` of each.

        Returns:
            `input_ids`, `attention_mask` and `labels`, each int64 [rows, longest]; a label stands on
            the answer's own position (models shift), -100 elsewhere.
        """
        longest = max(len(row["input_ids"]) for row in rows)
        shape = (len(rows), longest)
        ids = torch.full(shape, self.pad_id, dtype=torch.long)
        mask = torch.zeros(shape, dtype=torch.long)
        labels = torch.full(shape, IGNORED, dtype=torch.long)
        for i, row in enumerate(rows):
            tokens = torch.as_tensor(row["input_ids"], dtype=torch.long)
            start, end = int(row["answer_start"]), len(tokens)
            ids[i, :end] = tokens
            mask[i, :end] = 1
            labels[i, start:end] = tokens[start:]
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}
