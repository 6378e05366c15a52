"""One optimiser step's rows shared out among the processes that train together.

A step holds the same rows however many processes there are, so that losses, gradients and the learning rate's
meaning stay those of one process.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch.utils.data import Sampler

from mark.train.sampler import EpochSampler

if TYPE_CHECKING:
    from datasets import Dataset

IDLE = -1  # the number of a row that teaches nothing
_IDLE_TOKENS = 2


class ShareSampler(Sampler[list[int]]):
    """Micro-batches of one process: its share of each optimiser step's rows.

    Rows, which stand ordered by their length, are dealt out one by one, so that shares take alike long. All
    processes get equally many micro-batches, since they exchange gradients in step; one without a row left
    gets an idle row.

    Args:
        order: Rows in the order of an epoch, in groups of one optimiser step.
        micro_batch: Rows a forward pass, at most.
        rank: Number of this process.
        processes: How many there are.
    """

    def __init__(self, order: EpochSampler, micro_batch: int, rank: int, processes: int) -> None:
        self.order, self.micro_batch, self.rank, self.processes = order, micro_batch, rank, processes

    def __len__(self) -> int:
        whole, rest = divmod(len(self.order), self.order.group)
        return whole * self._passes(self.order.group) + self._passes(rest)

    def __iter__(self) -> Iterator[list[int]]:
        rows = list(self.order)
        for start in range(0, len(rows), self.order.group):
            step = rows[start : start + self.order.group]
            share = step[self.rank :: self.processes]
            for number in range(self._passes(len(step))):
                taken = share[number * self.micro_batch : (number + 1) * self.micro_batch]
                yield taken or [IDLE]

    def _passes(self, rows: int) -> int:
        """Forward passes of each process for a step of so many rows."""
        return math.ceil(math.ceil(rows / self.processes) / self.micro_batch)


class RowsAndIdle:
    """Encoded rows by number, and under `IDLE` one without an answer."""

    def __init__(self, rows: Dataset) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict[str, Any]:
        if row != IDLE:
            found: dict[str, Any] = self.rows[row]
            return found
        ids = self.rows[0]["input_ids"][:_IDLE_TOKENS]
        return {"input_ids": ids, "answer_start": len(ids)}
