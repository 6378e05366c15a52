"""Running heads and page numbers: lines at a page's edge that repeat across pages."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from mark.ingest.structure import is_bare_heading

EDGE_LINES = 3  # lines at either edge that may be a running head
_MIN_SHARE = 0.2  # of the pages; chapter-wise heads change
_DIGITS = re.compile(r"\d+")
_PAGE_NUMBER = re.compile(
    r"[^\w]*(?:page|seite|pagina|página|p\.)?\s*(?P<number>\d{1,5})\s*"
    r"(?:(?:/|of|von|de|sur|di)\s*\d{1,5})?[^\w]*",
    re.IGNORECASE,
)


def edge_line_counts(pages: Mapping[int, Sequence[str]]) -> dict[int, tuple[int, int]]:
    """How many lines at the top and the bottom of each page are running heads or page numbers.

    Lines are compared with their digits masked. A line that is a page number and nothing else
    must keep its distance to the physical page, so that a list's numbers stay. A bare heading
    (`Article 17`) is never taken away.

    Args:
        pages: Physical page -> its lines in reading order.

    Returns:
        Physical page -> (lines at the top, lines at the bottom).
    """
    seen: Counter[str] = Counter()
    for number, lines in pages.items():
        edge = [*lines[:EDGE_LINES], *lines[-EDGE_LINES:]]
        seen.update({_masked(line, number) for line in edge})
    needed = max(min(len(pages), 3), round(_MIN_SHARE * len(pages)))
    repeated = {key for key, count in seen.items() if count >= needed} if len(pages) > 1 else set()
    return {number: _counts(lines, number, repeated) for number, lines in pages.items()}


def _masked(line: str, page: int) -> str:
    number = _PAGE_NUMBER.fullmatch(line)
    if number is not None:
        return f"page number {int(number['number']) - page:+d}"
    return _DIGITS.sub("#", " ".join(line.lower().split()))


def _counts(lines: Sequence[str], page: int, repeated: set[str]) -> tuple[int, int]:
    top = _run(lines[:EDGE_LINES], page, repeated)
    rest = list(reversed(lines[top:]))
    return top, _run(rest[:EDGE_LINES], page, repeated)


def _run(lines: Sequence[str], page: int, repeated: set[str]) -> int:
    count = 0
    for line in lines:
        key = _masked(line, page)
        alone = key == "page number +0" and not line.strip().endswith((".", ")"))
        if is_bare_heading(line) or (key not in repeated and not alone):
            break
        count += 1
    return count
