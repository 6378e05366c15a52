"""Rows of a batch laid end to end without padding; what several begin with is read once.

Prompts put the passages before the question, so questions on the same passages begin alike. Such rows form a
tree: a shared beginning is one segment, and each row goes on from it as a branch of its own. A branch attends
to itself and to the segments above it, its tokens keep the positions that they have in their row, and the
loss sees every answer as often as before. Losses and gradients are those of separate rows (up to rounding).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from mark.train.collator import IGNORED

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
class _Segment:
    """Tokens `start:end` of row `row`; shared by others where it is no branch's end."""

    row: int
    start: int
    end: int
    above: tuple[int, ...]


@dataclass(frozen=True)
class PackedCollator:
    """Makes one line of tokens of a batch; see the module's docstring."""

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
        segments = Segments(
            lengths=tuple(one.end - one.start for one in found),
            above=tuple(one.above for one in found),
            tokens=sum(len(row["input_ids"]) for row in rows),
        )
        lines = {"input_ids": ids, "position_ids": positions, "labels": labels}
        return {name: torch.tensor([line]) for name, line in lines.items()} | {"segments": segments}


def segment(rows: Sequence[dict[str, Any]]) -> list[_Segment]:
    """The segments of some rows, those above before those below.

    No answer token lies in a shared segment, nor does the token that predicts an answer's first.
    """
    order = sorted(range(len(rows)), key=lambda row: list(rows[row]["input_ids"]))
    found: list[_Segment] = []
    _grow(rows, order, 0, (), found)
    return found


def packed_tokens(rows: Sequence[dict[str, Any]]) -> int:
    """Tokens that a packed batch of these rows holds."""
    return sum(one.end - one.start for one in segment(rows))


def _grow(
    rows: Sequence[dict[str, Any]],
    order: list[int],
    start: int,
    above: tuple[int, ...],
    found: list[_Segment],
) -> None:
    """Append the segments of rows (sorted by their tokens) that are alike before `start`."""
    for group in _alike(rows, order, start + LEAST):
        if len(group) == 1:
            found.append(_Segment(group[0], start, len(rows[group[0]]["input_ids"]), above))
            continue
        end = min(_shared(rows[first], rows[second]) for first, second in pairwise(group))
        found.append(_Segment(group[0], start, end, above))
        _grow(rows, group, end, (*above, len(found) - 1), found)


def _alike(rows: Sequence[dict[str, Any]], order: list[int], least: int) -> Iterator[list[int]]:
    """Runs of rows in which each shares at least so many first tokens with the next."""
    group = order[:1]
    for row in order[1:]:
        if _shared(rows[group[-1]], rows[row]) >= least:
            group.append(row)
        else:
            yield group
            group = [row]
    if group:
        yield group


def _shared(first: dict[str, Any], second: dict[str, Any]) -> int:
    """How many first tokens two rows may share."""
    most = min(int(first["answer_start"]), int(second["answer_start"])) - 1
    for place, (one, other) in enumerate(zip(first["input_ids"], second["input_ids"], strict=False)):
        if place >= most or one != other:
            return place
    return max(0, min(most, len(first["input_ids"]), len(second["input_ids"])))
