"""Rows of tables: cells that wrap over several lines come back to one row."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from mark.ingest.segment import Segment, joined

_WRAPPED = 1.25  # of the leading inside a cell: more starts a row
_LEADING = 1.35  # font sizes: lines further apart are not one cell


def table_rows(
    rows: Sequence[Sequence[Segment]], columns: Sequence[Sequence[Segment]]
) -> list[list[Segment]]:
    """Logical rows from the rows that are seen.

    Args:
        rows: Segments on one baseline each, top row first.
        columns: The same segments by column.

    Returns:
        For each row of the table its cells in reading direction.
    """
    leading = _leading(columns)
    if leading is None:
        return [list(row) for row in rows]
    by_gap = [[list(rows[0])]]
    for before, row in pairwise(rows):
        if before[0].baseline - row[0].baseline > _WRAPPED * leading:
            by_gap.append([])
        by_gap[-1].append(list(row))
    uniform = len(by_gap) == 1 or any(_adds_numbers(group) for group in by_gap)
    groups = _by_first_column(rows, columns) if uniform else by_gap
    return [_merged(group) for group in groups]


def wraps_together(columns: Sequence[Sequence[Segment]]) -> bool:
    """Whether white between rows lies at the same heights in all columns, as in a table of wrapped cells."""
    tops = [_tops(column) for column in columns]
    found = [(at, top) for at, some in enumerate(tops) for top in some]
    if len(found) < 2 * len(columns):
        return False
    matched = sum(
        all(any(abs(top - one) < 2.0 for one in other) for index, other in enumerate(tops) if index != at)
        for at, top in found
    )
    return matched >= 0.7 * len(found)


def _tops(column: Sequence[Segment]) -> list[float]:
    """Baselines of the lines above which there is more white than usual."""
    leading = _leading([column])
    if leading is None:
        return [segment.baseline for segment in column[1:]]
    return [
        line.baseline
        for before, line in pairwise(column)
        if before.baseline - line.baseline > _WRAPPED * leading
    ]


def _leading(columns: Sequence[Sequence[Segment]]) -> float | None:
    """Least distance of two lines of a column, where it is that of lines inside a cell."""
    gaps = [
        (before.baseline - line.baseline, line.size)
        for column in columns
        for before, line in pairwise(column)
        if before.baseline - line.baseline > 0.8 * line.size
    ]
    if not gaps:
        return None
    least, size = min(gaps)
    return least if least <= _LEADING * size else None


def _adds_numbers(group: Sequence[Sequence[Segment]]) -> bool:
    """Whether two amounts stand one above the other, which no wrapped cell has."""
    amounts = [segment for row in group for segment in row if segment.is_numeric]
    return any(
        a is not b and a.baseline != b.baseline and a.left < b.right and b.left < a.right
        for a in amounts
        for b in amounts
    )


def _by_first_column(
    rows: Sequence[Sequence[Segment]], columns: Sequence[Sequence[Segment]]
) -> list[list[list[Segment]]]:
    """Rows that begin in the first column; others without amounts and with one cell missing go on."""
    first = max(segment.right for segment in columns[0])
    groups: list[list[list[Segment]]] = []
    for row in rows:
        starts = row[0].left < first
        wrapped = not starts and len(row) < max(len(columns) - 1, 2) and not any(s.is_numeric for s in row)
        if groups and wrapped:
            groups[-1].append(list(row))
        else:
            groups.append([list(row)])
    return groups


def _merged(group: Sequence[Sequence[Segment]]) -> list[Segment]:
    """Cells of one row: each later segment goes on the cell that it stands under."""
    cells: list[Segment] = []
    for row in group:
        for segment in row:
            overlaps = [min(segment.right, cell.right) - max(segment.left, cell.left) for cell in cells]
            best = max(range(len(cells)), key=overlaps.__getitem__, default=0)
            if cells and overlaps[best] > 0:
                cells[best] = joined(cells[best], segment)
            else:
                cells.append(segment)
    return sorted(cells, key=lambda cell: cell.left)
