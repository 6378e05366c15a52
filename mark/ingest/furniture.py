"""Lines that are no text: running heads, page numbers, filing stamps, line numbers in the margin."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal

from mark.ingest.layout import RawLine
from mark.ingest.structure import is_bare_heading

Kind = Literal["running_head", "page_number", "stamp", "line_number"]

EDGE_ROWS = 3  # rows at either edge that may be furniture
_MIN_SHARE = 0.2  # of the pages; chapter-wise heads change
_DIGITS = re.compile(r"\d+")
_PAGE_NUMBER = re.compile(
    r"[^\w]*(?:page|seite|pagina|página|p\.)?\s*(?P<number>\d{1,5})\s*"
    r"(?:(?:/|of|von|de|sur|di)\s*\d{1,5})?[^\w]*",
    re.IGNORECASE,
)
_ROMAN_NUMBER = re.compile(r"[^\w]*(?P<roman>[ivxl]{1,7})[^\w.)]*")
_ROMAN = {"i": 1, "v": 5, "x": 10, "l": 50}
_STAMP = re.compile(r"\b(?:filed|entered|received|docket|ecf|case)\b", re.IGNORECASE)
_SAME_ROW = 2.0  # points
_HEAD_GAP = 1.2  # of the usual distance of rows: a head in the text's own size stands further away
_OTHER_SIZE = 0.4  # points by which a head's print differs from the text's
_MIN_ROWS = 5  # on a page with fewer the usual distance is not known
_LINE_NUMBER = re.compile(r"\d{1,4}")
_ALIGNED = 12.0  # points between the centres of line numbers
_REGULAR = 0.25  # by which their distance may differ from the usual one
_STEPS = {1: 8, 5: 3, 10: 3}  # step of the numbering -> how many numbers prove it


@dataclass(frozen=True)
class EdgeLine:
    """A line of a page as the search for furniture sees it."""

    text: str
    baseline: float | None = None
    size: float = 0.0


def edge_furniture(pages: Mapping[int, Sequence[EdgeLine]]) -> dict[int, dict[int, Kind]]:
    """Which lines at the top and the bottom of each page are running heads, numbers or stamps.

    Lines are compared with their digits masked, over all pages. Three kinds of line are never taken
    away: a bare heading (`Article 17`); a sentence whose digits neither stay nor move with the page
    number; digits without a word that are no page number and not always the same (the first row of
    a table of figures). A page number must keep its distance to the physical page.

    Args:
        pages: Physical page -> its lines, in any order where they have a baseline, else as read.

    Returns:
        Physical page -> index of the line -> what it is.
    """
    rows = {number: _rows(lines) for number, lines in pages.items()}
    seen: defaultdict[str, dict[int, str]] = defaultdict(dict)
    for number, lines in pages.items():
        edge = [*rows[number][:EDGE_ROWS], *rows[number][-EDGE_ROWS:]]
        for text in (lines[at].text for row in edge for at in row):
            seen[_masked(text, number)].setdefault(number, text)
    needed = max(min(len(pages), 3), round(_MIN_SHARE * len(pages)))
    repeated = {
        key for key, texts in seen.items() if len(pages) > 1 and len(texts) >= needed and not _is_body(texts)
    }
    found: dict[int, dict[int, Kind]] = {}
    for number, lines in pages.items():
        top = _walk(lines, rows[number], number, repeated)
        rest = [row for row in rows[number] if not set(row) & set(top)]
        found[number] = top | _walk(lines, rest[::-1], number, repeated)
    return found


def _rows(lines: Sequence[EdgeLine]) -> list[list[int]]:
    """Indices of the lines on one baseline each, top first; without geometry as read."""
    if any(line.baseline is None for line in lines):
        return [[at] for at in range(len(lines))]
    rows: list[list[int]] = []
    reach = 0.0
    for at in sorted(range(len(lines)), key=lambda one: -(lines[one].baseline or 0.0)):
        baseline = lines[at].baseline or 0.0
        if rows and reach - baseline <= _SAME_ROW:
            rows[-1].append(at)
        else:
            rows.append([at])
            reach = baseline
    return rows


def _masked(line: str, page: int) -> str:
    number = _PAGE_NUMBER.fullmatch(line)
    if number is not None:
        return f"page number {int(number['number']) - page:+d}"
    roman = _ROMAN_NUMBER.fullmatch(line)
    if roman is not None:
        return f"roman page number {_value(roman['roman']) - page:+d}"
    plain = " ".join(line.lower().split())
    if not any(char.isalpha() for char in plain):
        return plain
    return _DIGITS.sub("#", plain)


def _value(roman: str) -> int:
    values = [_ROMAN[letter] for letter in roman]
    return sum(-one if one < after else one for one, after in pairwise([*values, 0]))


def _is_body(texts: Mapping[int, str]) -> bool:
    """A sentence that recurs with other figures: `The fee is 5 euros.`"""
    if not all(text.rstrip().endswith((".", ";", ":", ",")) for text in texts.values()):
        return False
    figures = {page: [int(digits) for digits in _DIGITS.findall(text)] for page, text in texts.items()}
    slots = zip(*figures.values(), strict=True)
    return any(
        len(set(slot)) > 1 and len({value - page for value, page in zip(slot, figures, strict=True)}) > 1
        for slot in slots
    )


def _walk(
    lines: Sequence[EdgeLine], rows: Sequence[Sequence[int]], page: int, repeated: set[str]
) -> dict[int, Kind]:
    """From the edge inwards until a row that is not furniture.

    What is set like the text and close to it stays: the same form printed on every page, the first
    row of a table that goes on.
    """
    going: list[Sequence[int]] = []
    for row in rows[:EDGE_ROWS]:
        if not all(_goes(lines[index].text, page, repeated) for index in row):
            break
        going.append(row)
    while going and len(going) < len(rows) and not _is_apart(lines, rows, len(going)):
        going.pop()
    return {index: _kind(lines[index].text) for row in going for index in row}


def _is_apart(lines: Sequence[EdgeLine], rows: Sequence[Sequence[int]], inner: int) -> bool:
    """Whether the row before `inner` is no part of the text that begins there."""
    row, following = rows[inner - 1], rows[inner]
    here, there = lines[row[0]], lines[following[0]]
    if here.baseline is None or there.baseline is None or len(rows) < _MIN_ROWS:
        return True
    kinds = {_kind(lines[index].text) for index in row}
    if kinds != {"running_head"} or abs(here.size - there.size) > _OTHER_SIZE:
        return True
    gaps = [
        abs((lines[a[0]].baseline or 0.0) - (lines[b[0]].baseline or 0.0)) for a, b in pairwise(rows[inner:])
    ]
    usual = max(median(gaps) if gaps else 0.0, there.size)
    return abs(here.baseline - there.baseline) > _HEAD_GAP * usual


def _goes(text: str, page: int, repeated: set[str]) -> bool:
    key = _masked(text, page)
    alone = key == "page number +0" and not text.strip().endswith((".", ")"))
    return not is_bare_heading(text) and (key in repeated or alone)


def _kind(text: str) -> Kind:
    if _PAGE_NUMBER.fullmatch(text) or _ROMAN_NUMBER.fullmatch(text):
        return "page_number"
    return "stamp" if _STAMP.search(text) and _DIGITS.search(text) else "running_head"


def margin_numbers(texts: Sequence[str], lines: Sequence[RawLine]) -> set[int]:
    """Indices of the line numbers in a page's margin: 1, 2, 3 ... or every fifth line.

    They stand outside all other text, at regular distances, and count on by 1, 5 or 10. The first
    column of a table does so too: where most of them stand beside several cells they stay.

    Args:
        texts: The lines' texts.
        lines: The lines, with geometry or without; without it nothing is found.
    """
    if any(line.baseline is None for line in lines):
        return set()
    numbers = [at for at, text in enumerate(texts) if _LINE_NUMBER.fullmatch(text.strip())]
    for group in _aligned(numbers, lines):
        group = sorted(group, key=lambda at: -(lines[at].baseline or 0.0))
        others = [line for at, line in enumerate(lines) if at not in set(group)]
        if _counts_on(group, texts, lines) and _is_outside(group, lines, others):
            return set(group)
    return set()


def _aligned(numbers: Sequence[int], lines: Sequence[RawLine]) -> list[list[int]]:
    groups: list[list[int]] = []
    for at in sorted(numbers, key=lambda one: _centre(lines[one])):
        if groups and _centre(lines[at]) - _centre(lines[groups[-1][0]]) <= _ALIGNED:
            groups[-1].append(at)
        else:
            groups.append([at])
    return groups


def _centre(line: RawLine) -> float:
    return ((line.left or 0.0) + (line.right or 0.0)) / 2


def _counts_on(group: Sequence[int], texts: Sequence[str], lines: Sequence[RawLine]) -> bool:
    values = [int(texts[at]) for at in group]
    steps = {after - before for before, after in pairwise(values)}
    if len(steps) != 1 or len(values) < _STEPS.get(min(steps), len(values) + 1):
        return False
    gaps = [
        (lines[before].baseline or 0.0) - (lines[after].baseline or 0.0) for before, after in pairwise(group)
    ]
    usual = median(gaps)
    return all(abs(gap - usual) <= _REGULAR * usual for gap in gaps)


def _is_outside(group: Sequence[int], lines: Sequence[RawLine], others: Sequence[RawLine]) -> bool:
    """Whether the numbers stand left or right of all other text, and not before a table's cells."""
    if not others:
        return False
    mine = [lines[at] for at in group]
    left = max(line.right or 0.0 for line in mine) < min(line.left or 0.0 for line in others)
    right = min(line.left or 0.0 for line in mine) > max(line.right or 0.0 for line in others)
    beside = [
        sum(abs((line.baseline or 0.0) - (number.baseline or 0.0)) <= _SAME_ROW for line in others)
        for number in mine
    ]
    return (left or right) and 2 * sum(count > 1 for count in beside) < len(mine)
