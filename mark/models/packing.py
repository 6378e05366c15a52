"""Rows of tokens laid end to end without padding; what several begin with is read once.

Prompts put the passages before the question, so questions on the same passages begin alike. Such rows form a
tree: a shared beginning is one segment, and each row goes on from it as a branch of its own. A branch attends
to itself and to the segments above it, and its tokens keep the positions that they have in their row, so that
a model computes what it computes for separate rows (up to rounding).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

LEAST = 16  # shared tokens from which a segment of their own pays


@dataclass(frozen=True)
class Segments:
    """Where the segments of a packed batch lie and which come before each.

    Attributes:
        lengths: Tokens of each, in the order of the line.
        above: For each, the segments that its tokens attend to besides itself, outermost first.
        tokens: Of all rows, had each been read by itself.
    """

    lengths: tuple[int, ...]
    above: tuple[tuple[int, ...], ...]
    tokens: int
    _masks: dict[tuple[Any, ...], Tensor] = field(default_factory=dict, repr=False, compare=False)

    def mask(self, segment: int, like: Tensor) -> Tensor:
        """What a segment's tokens do not see, as -inf [its tokens, those above and its own]; made once."""
        own = self.lengths[segment]
        seen = own + sum(self.lengths[i] for i in self.above[segment])
        key = (own, seen, like.dtype, like.device)
        if key not in self._masks:
            hidden = torch.full((own, seen), float("-inf"), dtype=like.dtype, device=like.device)
            self._masks[key] = hidden.triu(seen - own + 1)
        return self._masks[key]


@dataclass(frozen=True)
class Segment:
    """Tokens `start:end` of row `row`, which other rows may share.

    Attributes:
        row: Number of the row, or of one of those that share the segment.
        start: Place of the first token within the row.
        end: Of the last, exclusive.
        above: Numbers of the segments before it, outermost first.
    """

    row: int
    start: int
    end: int
    above: tuple[int, ...]


def divide(rows: Sequence[Sequence[int]], shared: Sequence[int]) -> list[Segment]:
    """Cut rows into segments, those above before those below; each row ends with a segment of its own.

    Args:
        rows: Token ids.
        shared: For each row, how many of its first tokens it may share; less than it has.
    """
    order = sorted(range(len(rows)), key=lambda row: list(rows[row]))
    found: list[Segment] = []
    _Division(rows, shared).grow(order, 0, (), found)
    return found


def placed(segments: Sequence[Segment], rows: Sequence[Sequence[int]]) -> Segments:
    """What attention needs to know of segments."""
    return Segments(
        lengths=tuple(one.end - one.start for one in segments),
        above=tuple(one.above for one in segments),
        tokens=sum(len(row) for row in rows),
    )


@dataclass(frozen=True)
class _Division:
    rows: Sequence[Sequence[int]]
    shared: Sequence[int]

    def grow(self, order: list[int], start: int, above: tuple[int, ...], found: list[Segment]) -> None:
        """Append the segments of rows (sorted by their tokens) that are alike before `start`."""
        for group in self._alike(order, start + LEAST):
            if len(group) == 1:
                found.append(Segment(group[0], start, len(self.rows[group[0]]), above))
                continue
            end = min(self._common(first, second) for first, second in pairwise(group))
            found.append(Segment(group[0], start, end, above))
            self.grow(group, end, (*above, len(found) - 1), found)

    def _alike(self, order: list[int], least: int) -> Iterator[list[int]]:
        """Runs of rows in which each shares at least so many first tokens with the next."""
        group = order[:1]
        for row in order[1:]:
            if self._common(group[-1], row) >= least:
                group.append(row)
            else:
                yield group
                group = [row]
        if group:
            yield group

    def _common(self, first: int, second: int) -> int:
        """How many first tokens two rows share and may share."""
        most = min(self.shared[first], self.shared[second])
        for place, (one, other) in enumerate(zip(self.rows[first], self.rows[second], strict=False)):
            if place >= most or one != other:
                return place
        return most
