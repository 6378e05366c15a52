"""The order of examples: a function of seed and epoch alone, so that a resumed run repeats it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

_POOL = 16  # groups that are sorted together; more means less padding and less chance


class EpochSampler(Sampler[int]):
    """Shuffled rows; with grouping, rows of similar length, or that begin alike, share an optimiser step.

    The order depends on the rows of an optimiser step, not on how they are cut into micro-batches:
    accumulation and out-of-memory halving change nothing.

    Args:
        lengths: Tokens of each row.
        group: Rows of one optimiser step.
        seed: Of the run.
        by_length: Group rows of similar length.
        places: Of each row if all are sorted by their tokens (`places_by_beginning`): groups those that begin
            alike instead.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        group: int,
        seed: int,
        by_length: bool,
        places: Sequence[int] | None = None,
    ) -> None:
        self.lengths, self.group, self.seed, self.by_length = lengths, group, seed, by_length
        self.places = places
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, that the next iteration serves."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        return iter(
            epoch_order(self.lengths, self.group, self.seed + self.epoch, self.by_length, self.places)
        )


def places_by_beginning(rows: Sequence[Sequence[int]]) -> list[int]:
    """Each row's place if all are sorted by their tokens: those with the same passages lie side by side."""
    order = sorted(range(len(rows)), key=lambda row: list(rows[row]))
    places = [0] * len(order)
    for place, row in enumerate(order):
        places[row] = place
    return places


def epoch_order(
    lengths: Sequence[int], group: int, seed: int, by_length: bool, places: Sequence[int] | None = None
) -> list[int]:
    """Row numbers in the order of one epoch.

    With `by_length`, the shuffled rows are sorted inside pools of `16 * group`, cut into groups, and
    the groups shuffled. With `places` all rows are sorted by them before they are cut. The group with
    the longest row comes first, so that memory runs out at once or not at all; an incomplete group
    comes last.
    """
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = torch.randperm(len(lengths), generator=generator).tolist()
    if not by_length and places is None:
        return order
    whole = len(order) - len(order) % group
    pools = [order[i : min(i + _POOL * group, whole)] for i in range(0, whole, _POOL * group)]
    pools = [sorted(pool, key=lambda row: (-lengths[row], row)) for pool in pools]
    if places is not None:
        pools = [sorted(order[:whole], key=places.__getitem__)]
    groups = [pool[i : i + group] for pool in pools for i in range(0, len(pool), group)]
    groups = [groups[i] for i in torch.randperm(len(groups), generator=generator).tolist()]
    if groups:
        longest = max(range(len(groups)), key=lambda i: (max(lengths[row] for row in groups[i]), -i))
        groups.insert(0, groups.pop(longest))
    return [row for rows in groups for row in rows] + order[whole:]
