"""Printed segments: what stands on one baseline between two wide gaps, mirrored for right-to-left pages."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mark.ingest.layout import RawLine, RawPage

_NUMERIC = re.compile(
    r"[\s(\[<>≤≥~≈+−–—-]*(?:[^\W\d_]{0,3}[\s$€£¥]?)[\d.,:/\s'’−–-]*\d[\d.,\s]*[%)\]*‰€$£¥]*"
)
_SAME_ROW = 0.35  # font sizes between baselines that still make one row
_MARKER = re.compile(
    r"\(?(?:\d{1,3}|[a-z]{1,2}|[ivxlc]{1,6}|[A-Z])[.)]\)?|\d{1,3}(?:\.\d{1,3})+\.?|[•·▪◦–—*-]"
)
_MARKER_GAP = 60.0  # points between a point's number and its text


@dataclass(frozen=True)
class Segment:
    """Raw lines that belong together on one baseline; x grows in reading direction."""

    lines: tuple[RawLine, ...]
    text: str
    left: float
    right: float
    baseline: float
    size: float

    @property
    def is_numeric(self) -> bool:
        """Whether it is an amount, a date in digits or a dash, as in a numeric table."""
        return _NUMERIC.fullmatch(self.text) is not None or self.text in {"-", "–", "—"}

    @property
    def is_marker(self) -> bool:
        """Whether it is a point's number that stands apart from its text."""
        return _MARKER.fullmatch(self.text) is not None


def segments_of(page: RawPage, lines: Sequence[RawLine]) -> list[Segment]:
    """The lines of a page with geometry, in the order of the file.

    Args:
        page: The page.
        lines: Those of its lines that are wanted.
    """
    mirrored = is_right_to_left(page.text)
    made = []
    for line in lines:
        assert line.left is not None and line.right is not None and line.baseline is not None
        if mirrored:
            line = replace(line, left=-line.right, right=-line.left)
        assert line.left is not None and line.right is not None and line.baseline is not None
        text = " ".join(page.text[line.start : line.end].split())
        made.append(Segment((line,), text, line.left, line.right, line.baseline, line.size))
    return made


def is_right_to_left(text: str) -> bool:
    """Whether most letters of a page run from right to left."""
    letters = [char for char in text if char.isalpha()]
    return 2 * sum(unicodedata.bidirectional(char) in {"R", "AL"} for char in letters) > len(letters)


def rows_of(segments: Sequence[Segment]) -> list[list[Segment]]:
    """Segments on the same baseline, top row first, each in reading direction."""
    rows: list[list[Segment]] = []
    for segment in sorted(segments, key=lambda one: (-one.baseline, one.left)):
        if rows and rows[-1][0].baseline - segment.baseline <= _SAME_ROW * max(segment.size, 1.0):
            rows[-1].append(segment)
        else:
            rows.append([segment])
    return [sorted(row, key=lambda one: one.left) for row in rows]


def joined(first: Segment, second: Segment) -> Segment:
    """Two segments as one."""
    return Segment(
        (*first.lines, *second.lines),
        f"{first.text} {second.text}",
        min(first.left, second.left),
        max(first.right, second.right),
        first.baseline,
        first.size,
    )


def with_markers_joined(rows: Sequence[Sequence[Segment]]) -> list[list[Segment]]:
    """`(a)` and the text that hangs beside it are one segment, not two columns."""
    done = []
    for row in rows:
        made: list[Segment] = []
        for segment in row:
            near = bool(made) and segment.left - made[-1].right < _MARKER_GAP
            if near and made[-1].is_marker and not segment.is_numeric:
                made[-1] = joined(made[-1], segment)
            else:
                made.append(segment)
        done.append(made)
    return done
