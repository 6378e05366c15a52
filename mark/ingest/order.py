"""Reading order by geometry: columns, notes in the margin, and tables whose rows stay rows.

A page is a stack of bands. A band is a run of rows that leaves a vertical strip white with text on
both sides of it; a line across the strip (a heading over two columns) ends it. What a band holds is
judged by how full its columns are, whether their rows start together, and by the order in which the
file draws them. A page without such a band keeps the order of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from mark.ingest.layout import RawLine, RawPage
from mark.ingest.segment import Segment, joined, rows_of, segments_of, with_markers_joined
from mark.ingest.table import table_rows, wraps_together

_GUTTER = 0.8  # font sizes: the narrowest white strip between columns
_FULL = 0.6  # share of its column that half of the lines of prose fill at least
_WORDS = 3.0  # per line of prose, on average
_WIDE_CHARS = 8.0  # the same for scripts without spaces
_DEPTH = 3  # columns inside columns
_BAND_GAP = 3.0  # font sizes of white over the whole width that end a band
_NOTE_SHARE = 0.34  # of the width: a wider column is no margin


@dataclass(frozen=True)
class PrintedLine:
    """What is read as one line: a printed line, or a row of a table."""

    cells: tuple[tuple[RawLine, ...], ...]  # one cell for a line of prose
    edge: float | None = None  # right edge of its column, points; None: of the document
    alone: bool = False  # a row or a note: no paragraph with its neighbours


def reading_order(page: RawPage, lines: Sequence[RawLine]) -> list[PrintedLine]:
    """The lines of a page in the order in which a person reads them.

    Args:
        page: The page; without geometry its own order stays.
        lines: Those of its lines that are left after the furniture has gone.

    Returns:
        Every line exactly once.
    """
    if any(line.baseline is None for line in lines):
        return [PrintedLine(((line,),)) for line in lines]
    segments = segments_of(page, lines)
    same_line = _same_line(page)
    found = _ordered(segments, same_line, _DEPTH)
    if found is None:
        return _plain(segments, same_line)
    return found


def _same_line(page: RawPage) -> Callable[[RawLine, RawLine], bool]:
    def same(before: RawLine, line: RawLine) -> bool:
        between = page.text[before.end : line.start]
        # nothing at all between two lines: a hyphen's mark at the end of the first
        return line.start > before.end and not between.strip() and "\n" not in between and "\r" not in between

    return same


def _plain(
    segments: Sequence[Segment], same_line: Callable[[RawLine, RawLine], bool], edge: float | None = None
) -> list[PrintedLine]:
    """Segments as they come; those that the file sets as one line are one again."""
    groups: list[list[RawLine]] = []
    for line in (line for segment in segments for line in segment.lines):
        if groups and same_line(groups[-1][-1], line):
            groups[-1].append(line)
        else:
            groups.append([line])
    return [PrintedLine((tuple(group),), edge) for group in groups]


def _ordered(
    segments: Sequence[Segment], same_line: Callable[[RawLine, RawLine], bool], depth: int
) -> list[PrintedLine] | None:
    """None where no band is found, so that the file's order is kept."""
    rows = with_markers_joined(rows_of(segments))
    bands = _bands(rows) if depth else []
    if not bands:
        return None
    done: list[PrintedLine] = []
    at = 0
    for first, stop in [*bands, (len(rows), len(rows))]:
        between = [segment for row in rows[at:first] for segment in row]
        done += _plain(between, same_line)
        if first < stop:
            done += _read_band(rows[first:stop], same_line, depth)
        at = stop
    return done


def _bands(rows: Sequence[Sequence[Segment]]) -> list[tuple[int, int]]:
    """First and last+1 row of each band."""
    bands: list[tuple[int, int]] = []
    first = 0
    while first < len(rows):
        stop = _band_end(rows, first)
        if _is_band(rows[first:stop]):
            bands.append((first, stop))
            first = stop
        else:
            first += 1
    return bands


def _band_end(rows: Sequence[Sequence[Segment]], first: int) -> int:
    """How far down a strip stays white, if there is one at all."""
    left = min(segment.left for row in rows for segment in row)
    right = max(segment.right for row in rows for segment in row)
    white = [(left, right)]
    stop = first
    while stop < len(rows):
        size = median(segment.size for segment in rows[stop]) or 1.0
        if stop > first and rows[stop - 1][0].baseline - rows[stop][0].baseline > _BAND_GAP * size:
            break
        several = [row for row in rows[first:stop] if len(row) > 1]
        if len(rows[stop]) == 1 and len(several) > 1 and _crosses(rows[stop], several):
            break
        left_over = _white_in(white, rows[stop], _GUTTER * size)
        inner = [(a, b) for a, b in left_over if b > left and a < right]
        band = [segment for row in rows[first : stop + 1] for segment in row]
        if not any(_sides(band, strip, size) for strip in inner):
            break
        white = inner
        stop += 1
    return stop


def _sides(band: Sequence[Segment], strip: tuple[float, float], size: float) -> bool:
    """Whether a strip can still become a gutter: it has text on a side and room on the other."""
    a, b = strip
    has_left = any(segment.right <= a + 0.1 for segment in band)
    has_right = any(segment.left >= b - 0.1 for segment in band)
    return (has_left and has_right) or ((has_left or has_right) and b - a > 5 * size)


def _white_in(
    white: Sequence[tuple[float, float]], row: Sequence[Segment], least: float
) -> list[tuple[float, float]]:
    """What a row leaves of the white strips."""
    left = list(white)
    for segment in row:
        cut: list[tuple[float, float]] = []
        for a, b in left:
            if segment.right <= a or segment.left >= b:
                cut.append((a, b))
                continue
            cut += [(a, segment.left), (segment.right, b)]
        left = cut
    return [(a, b) for a, b in left if b - a >= least]


def _columns(rows: Sequence[Sequence[Segment]]) -> list[list[Segment]]:
    """The segments of a band by column, in reading direction; each column from top to bottom."""
    flat = sorted((segment for row in rows for segment in row), key=lambda one: one.left)
    size = median(segment.size for segment in flat)
    columns: list[list[Segment]] = []
    reach = 0.0
    for segment in flat:
        if columns and segment.left - reach < _GUTTER * size:
            columns[-1].append(segment)
            reach = max(reach, segment.right)
        else:
            columns.append([segment])
            reach = segment.right
    return [sorted(column, key=lambda one: -one.baseline) for column in columns]


def _is_band(rows: Sequence[Sequence[Segment]]) -> bool:
    """Two columns side by side over at least two lines."""
    if len(rows) < 2:
        return False
    columns = _columns(rows)
    if len(columns) < 2:
        return False
    shared = sum(len(row) > 1 for row in rows)
    side = [min(range(len(columns)), key=lambda at: row[0] not in columns[at]) for row in rows]
    changes = sum(a != b for a, b in pairwise(side))
    return shared >= 2 or (changes >= 4 and min(len(column) for column in columns) >= 3)


def _read_band(
    rows: Sequence[Sequence[Segment]], same_line: Callable[[RawLine, RawLine], bool], depth: int
) -> list[PrintedLine]:
    columns = _columns(rows)
    note = _note_column(columns)
    if note is not None:
        return _with_notes(columns, note, same_line)
    if _is_prose(columns):
        done: list[PrintedLine] = []
        for column in columns:
            inner = _ordered(column, same_line, depth - 1)
            edge = max(segment.right for segment in column)
            done += _plain(column, same_line, edge) if inner is None else inner
        return done
    head, table, tail = _trimmed(rows)
    done = _plain([segment for row in head for segment in row], same_line)
    done += [
        PrintedLine(tuple(cell.lines for cell in row), None, alone=True)
        for row in table_rows(table, _columns(table))
    ]
    return done + _plain([segment for row in tail for segment in row], same_line)


_Rows = Sequence[Sequence[Segment]]


def _trimmed(rows: _Rows) -> tuple[_Rows, _Rows, _Rows]:
    """Lines of text above and below a table that leave one of its gutters white by chance."""
    several = [at for at, row in enumerate(rows) if len(row) > 1]
    if not several:
        return [], rows, []
    table = rows[several[0] : several[-1] + 1]
    above = [at for at in range(several[0]) if _crosses(rows[at], table)]
    below = [at for at in range(several[-1] + 1, len(rows)) if _crosses(rows[at], table)]
    first, stop = max(above, default=-1) + 1, min(below, default=len(rows))
    return rows[:first], rows[first:stop], rows[stop:]


def _crosses(row: Sequence[Segment], table: _Rows) -> bool:
    """Whether a line stands in none of a table's columns, or in several."""
    extents = [
        (min(one.left for one in column), max(one.right for one in column)) for column in _columns(table)
    ]
    return sum(row[0].left < right and row[0].right > left for left, right in extents) != 1


def _is_prose(columns: Sequence[Sequence[Segment]]) -> bool:
    """Columns of running text, and not a table."""
    if any(2 * sum(segment.is_numeric for segment in column) >= len(column) for column in columns):
        return False
    if wraps_together(columns):
        return False
    if all(_is_full(column) for column in columns):
        return True
    return _drawn_by_column(columns) and all(_words(column) >= 2 for column in columns)


def _words(column: Sequence[Segment]) -> float:
    """Words in a line, on average; a run of a script without spaces counts by its characters."""
    words = sum(len(segment.text.split()) for segment in column)
    wide = sum(ord(char) >= 0x2E80 for segment in column for char in segment.text)
    return (words + wide * _WORDS / _WIDE_CHARS) / len(column)


def _is_full(column: Sequence[Segment]) -> bool:
    if _words(column) < _WORDS:
        return False
    width = max(one.right for one in column) - min(one.left for one in column)
    return len(column) < 3 or median(one.right - one.left for one in column) >= _FULL * width


def _drawn_by_column(columns: Sequence[Sequence[Segment]]) -> bool:
    """Whether the file sets each column as a whole, four lines or more in the longest."""
    owner = sorted((segment.lines[0].start, at) for at, column in enumerate(columns) for segment in column)
    changes = sum(a[1] != b[1] for a, b in pairwise(owner))
    return changes == len(columns) - 1 and max(map(len, columns)) >= 4


def _note_column(columns: Sequence[Sequence[Segment]]) -> int | None:
    """Which of two columns is notes in the margin of the other: narrow, sparse, apart in print or place."""
    if len(columns) != 2:
        return None
    widths = [max(one.right for one in column) - min(one.left for one in column) for column in columns]
    narrow = 0 if widths[0] < widths[1] else 1
    notes, body = columns[narrow], columns[1 - narrow]
    if widths[narrow] > _NOTE_SHARE * sum(widths) or 2 * len(notes) > len(body) or not _is_full(body):
        return None
    smaller = median(one.size for one in notes) < median(one.size for one in body) - 0.7
    if any(segment.is_numeric for segment in notes):
        return None
    numbered = [one for one in body if one.text[:1].isdigit() or one.text[:1] in "(§"]
    tops = _blocks(notes)
    beside = sum(any(abs(top[0].baseline - one.baseline) < one.size for one in numbered) for top in tops)
    return narrow if smaller or narrow == 1 or 2 * beside > len(tops) else None


def _blocks(column: Sequence[Segment]) -> list[list[Segment]]:
    """Runs of lines without more white than usual between them."""
    blocks = [[column[0]]]
    for before, segment in pairwise(column):
        if before.baseline - segment.baseline > 1.5 * segment.size:
            blocks.append([])
        blocks[-1].append(segment)
    return blocks


def _with_notes(
    columns: Sequence[Sequence[Segment]], note: int, same_line: Callable[[RawLine, RawLine], bool]
) -> list[PrintedLine]:
    """Each note as a line of its own before the paragraph that it stands beside."""
    body = columns[1 - note]
    edge = max(segment.right for segment in body)
    before: dict[int, list[PrintedLine]] = {}
    for block in _blocks(columns[note]):
        top = block[0].baseline + 0.5 * block[0].size
        at = next((index for index, one in enumerate(body) if one.baseline <= top), len(body))
        while 0 < at < len(body) and not _starts_paragraph(body, at, edge):
            at -= 1
        whole = block[0]
        for segment in block[1:]:
            whole = joined(whole, segment)
        before.setdefault(at, []).append(PrintedLine((whole.lines,), None, alone=True))
    done: list[PrintedLine] = []
    for index, segment in enumerate(body):
        done += before.get(index, [])
        done += _plain([segment], same_line, edge)
    return [*done, *before.get(len(body), [])]


def _starts_paragraph(body: Sequence[Segment], at: int, edge: float) -> bool:
    before, line = body[at - 1], body[at]
    gap = before.baseline - line.baseline
    return gap > 1.5 * line.size or before.right < edge - 4 * line.size
