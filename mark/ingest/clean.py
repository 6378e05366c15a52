"""From printed lines to clean paragraphs, with a map back to the characters that were read."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import quantiles

from mark.ingest.furniture import EdgeLine, Kind, edge_furniture, margin_numbers
from mark.ingest.layout import RawLine, RawPage
from mark.ingest.order import PrintedLine, reading_order
from mark.ingest.segment import is_right_to_left
from mark.ingest.structure import SEPARATOR, Paragraph, is_bare_heading, is_closed, is_point, starts_article

_HYPHENS = "-\u2010\u00ad\u0002\ufffe"  # the last two: pdfium's mark for a hyphen at a line's end
_INVISIBLE = frozenset(
    "\u00ad\u200b\u2060\ufeff\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
# Ligatures, letter forms, radicals that PDF fonts give for characters, full-width letters and digits;
# full-width punctuation stays, since it ends sentences without a space.
_COMPATIBLE = re.compile("[\ufb00-\ufdff\ufe70-\ufefc\u2f00-\u2fd5\uff10-\uff19\uff21-\uff3a\uff41-\uff5a]")
_WORD = re.compile(r"[^\W\d_]+")
_LAST_WORD = re.compile(r"[^\W\d_]+$")
_SUSPENDED = re.compile(r"(?:and|or|und|oder|et|ou|to)\b")  # after `two-`: the hyphen ends its word
_UNSPACED = re.compile(
    "[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u3000-\u303f\uff01-\uff5e]"
)  # scripts without spaces
_GAP = 1.2  # of the usual distance between baselines: more starts a paragraph
_SLACK = 6.0  # points by which a full line may miss the right edge

_Plain = tuple[str, list[int]]  # plain characters of a line and the raw index of each


@dataclass(frozen=True)
class CleanPage:
    """A page's part of the document's joined text; `text` keeps the separator that follows it."""

    page: int
    label: str
    text: str
    offset: int
    raw_map: list[tuple[int, int]]


@dataclass(frozen=True)
class Furniture:
    """A line that was taken away."""

    page: int
    start: int  # span in the page's raw text
    end: int
    kind: Kind


@dataclass(frozen=True)
class CleanDocument:
    """A whole document after cleaning."""

    pages: list[CleanPage]  # those that keep text
    emptied: list[int]  # physical pages on which nothing but running heads stood
    paragraphs: list[Paragraph]
    furniture: list[Furniture] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The joined text: the pages' texts, one after the other."""
        return "".join(page.text for page in self.pages)


@dataclass(frozen=True)
class _Line:
    page: int
    text: str
    raw: list[int]  # raw index of each character
    print: RawLine
    edge: float | None = None  # right edge of its column, where that is not the document's
    alone: bool = False  # a row of a table or a note: a paragraph of its own


@dataclass
class _Buffer:
    chars: list[str] = field(default_factory=list)
    raw: list[int] = field(default_factory=list)


def clean(pages: Sequence[RawPage]) -> CleanDocument:
    """Clean one document.

    Running heads and page numbers go; ligatures, odd spaces and soft hyphens become plain;
    wrapped lines become paragraphs while headings and numbered points keep their own line; a
    hyphen at a line's end goes only where the joined word occurs elsewhere in the document.

    Args:
        pages: The pages that hold text, ascending.

    Returns:
        Page texts that join without loss into `CleanDocument.text`, and its paragraphs.
    """
    lines, furniture = _body_lines(pages)
    texts = _Assembly(lines)
    starts = _paragraph_starts(lines)
    spans: list[tuple[int, int]] = []
    for index, line in enumerate(lines):
        if index > 0:
            texts.join(lines[index - 1], line, starts[index])
        texts.add(line)
        if starts[index]:
            spans.append((index, index))
        spans[-1] = (spans[-1][0], index)
    return replace(texts.finish(pages, spans), furniture=furniture)


def normalise(text: str, start: int, end: int) -> tuple[str, list[int]]:
    """Plain characters of `text[start:end]` and the raw index of each.

    White space becomes one space, ends are stripped, ligatures and full-width forms take their
    plain letters, combining marks join their letter, invisible characters go. Superscripts stay
    what they are: NFKC as a whole would turn 10² into 102.
    """
    chars: list[str] = []
    raw: list[int] = []
    for index in range(start, end):
        char = text[index]
        if char in _HYPHENS[3:]:
            char = "-"
        elif char in _INVISIBLE and not (char == "\u00ad" and not text[index + 1 : end].strip()):
            continue
        elif _COMPATIBLE.match(char):
            char = unicodedata.normalize("NFKC", char)
        for plain in char:
            _append(chars, raw, plain, index)
    while chars and chars[-1] == " ":
        chars.pop()
        raw.pop()
    return "".join(chars), raw


def _append(chars: list[str], raw: list[int], char: str, index: int) -> None:
    category = "Ll" if char.isascii() and char.isalnum() else unicodedata.category(char)
    if char.isspace() or category == "Zs":
        if chars and chars[-1] != " ":
            chars.append(" ")
            raw.append(index)
        return
    if category == "Cc":
        return
    if category == "Mn" and chars:
        composed = unicodedata.normalize("NFC", chars[-1] + char)
        if len(composed) == 1:
            chars[-1] = composed
            return
    chars.append(char)
    raw.append(index)


def _body_lines(pages: Sequence[RawPage]) -> tuple[list[_Line], list[Furniture]]:
    """The lines that are text, in reading order, and those that are not."""
    furniture: list[Furniture] = []
    left: dict[int, list[RawLine]] = {}
    edges: dict[int, list[EdgeLine]] = {}
    plain: dict[tuple[int, int], _Plain] = {}  # page, start of the line
    for page in pages:
        for line in page.lines:
            plain[page.page, line.start] = normalise(page.text, line.start, line.end)
        texts = [plain[page.page, line.start][0] for line in page.lines]
        numbers = margin_numbers(texts, page.lines)
        furniture += [_taken(page.page, page.lines[at], "line_number") for at in sorted(numbers)]
        left[page.page] = [line for at, line in enumerate(page.lines) if at not in numbers and texts[at]]
        edges[page.page] = [
            EdgeLine(plain[page.page, line.start][0], line.baseline, line.size) for line in left[page.page]
        ]
    gone = edge_furniture(edges)
    kept: list[_Line] = []
    for page in pages:
        taken = gone[page.page]
        furniture += [_taken(page.page, left[page.page][at], kind) for at, kind in sorted(taken.items())]
        body = [line for at, line in enumerate(left[page.page]) if at not in taken]
        kept += [_line(page.page, printed, plain) for printed in reading_order(page, body)]
    return kept, furniture


def _taken(page: int, line: RawLine, kind: Kind) -> Furniture:
    return Furniture(page, line.start, line.end, kind)


def _line(page: int, printed: PrintedLine, plain: Mapping[tuple[int, int], _Plain]) -> _Line:
    """A printed line or a table's row with its plain text."""
    text, raw = "", list[int]()
    for at, cell in enumerate(printed.cells):
        for index, part in enumerate(cell):
            chars, places = plain[page, part.start]
            between = SEPARATOR if at and not index else " " if index else ""
            raw += [raw[-1] + 1 + step for step in range(len(between))] if raw else []
            text += between if text else ""
            text += chars
            raw += places
    parts = [part for cell in printed.cells for part in cell]
    middle = parts[len(parts) // 2]
    whole = parts[0] if len(parts) == 1 else replace(
        parts[0],
        end=parts[-1].end,
        left=min((part.left for part in parts if part.left is not None), default=None),
        right=max((part.right for part in parts if part.right is not None), default=None),
        size=middle.size,
        bold=all(part.bold for part in parts),
    )  # fmt: skip
    return _Line(page, text, raw, whole, printed.edge, printed.alone)


@dataclass(frozen=True)
class _Print:
    """How the document's lines are usually set."""

    leading: dict[float, float]  # font size -> points between baselines inside a paragraph
    right_edge: float | None  # of a full line; None without geometry

    @classmethod
    def of(cls, lines: Sequence[_Line]) -> _Print:
        gaps: defaultdict[float, list[float]] = defaultdict(list)
        for before, line in pairwise(lines):
            gap = _gap(before, line)
            if gap is not None and 0 < gap < 3 * line.print.size and before.print.size == line.print.size:
                gaps[line.print.size].append(gap)
        leading = {size: quantiles(values, n=4)[0] for size, values in gaps.items() if len(values) >= 3}
        rights = [line.print.right for line in lines if line.print.right is not None and line.edge is None]
        edge = quantiles(rights, n=20)[-1] if len(rights) >= 4 else max(rights, default=None)
        return cls(leading, edge)

    def is_short(self, line: _Line, following: _Line) -> bool:
        """Whether the following line's first word would have fitted."""
        here, there = line.print, following.print
        edge = self.right_edge if line.edge is None else line.edge
        if edge is None or here.right is None or there.left is None or there.right is None:
            return False
        unspaced = _UNSPACED.match(following.text) is not None
        word = 1 if unspaced else len(following.text.split(" ", 1)[0]) + 1
        width = word * (there.right - there.left) / max(len(following.text), 1)
        return here.right + width < edge - _SLACK

    def has_gap(self, line: _Line, following: _Line) -> bool:
        """Whether more white space than usual, or a change of print, lies between two lines."""
        if line.print.bold != following.print.bold or abs(line.print.size - following.print.size) > 0.6:
            return True
        gap = _gap(line, following)
        size = following.print.size
        return gap is not None and gap > _GAP * self.leading.get(size, 1.25 * size)


def _gap(line: _Line, following: _Line) -> float | None:
    if line.page != following.page or line.print.baseline is None or following.print.baseline is None:
        return None
    return line.print.baseline - following.print.baseline


def _paragraph_starts(lines: Sequence[_Line]) -> list[bool]:
    """For each line, whether it starts a paragraph."""
    usual = _Print.of(lines)
    starts = [True] * len(lines)
    for index in range(1, len(lines)):
        before, line = lines[index - 1], lines[index]
        if starts[index - 1] and is_bare_heading(before.text):
            continue
        if line.alone or before.alone:
            continue
        if line.print.right is None:
            heading = lines[index - 2].text if index > 1 and starts[index - 1] else ""
            starts[index] = _starts_plain(before, line, is_bare_heading(heading))
        else:
            starts[index] = _starts_printed(before, line, usual)
    return starts


def _starts_printed(before: _Line, line: _Line, usual: _Print) -> bool:
    """Judged by the print: gaps, changes of style, and whether the line before was full."""
    if usual.has_gap(before, line):
        return True
    short, closed = usual.is_short(before, line), is_closed(before.text)
    if is_bare_heading(line.text) or is_point(line.text):
        return short or closed or before.text.endswith(",")
    if starts_article(line.text):
        return short or closed
    upper = line.text[0].isupper() or is_right_to_left(line.text)
    return short and (closed or upper or line.text[0] in "‘'\"“«(「『（")


def _starts_plain(before: _Line, line: _Line, after_title: bool) -> bool:
    """Judged by the words alone (a collection): its own breaks, punctuation and numbers."""
    if before.page == line.page and line.print.start - before.print.end > 1:
        return True  # a blank line
    if is_closed(before.text) or is_bare_heading(line.text) or is_point(line.text):
        return True
    return after_title and line.text[0].isupper()


class _Assembly:
    """Joins lines into page texts and remembers where each line came to lie."""

    def __init__(self, lines: Sequence[_Line]) -> None:
        self._pages: defaultdict[int, _Buffer] = defaultdict(_Buffer)
        self._places: list[tuple[_Line, int]] = []  # line -> start in its page's buffer
        self._lines = lines
        self._words: Counter[str] | None = None

    def add(self, line: _Line) -> None:
        buffer = self._pages[line.page]
        self._places.append((line, len(buffer.chars)))
        buffer.chars += line.text
        buffer.raw += line.raw

    def join(self, before: _Line, line: _Line, new_paragraph: bool) -> None:
        """Put what separates two lines behind the first: a line break, a space or nothing."""
        buffer = self._pages[before.page]
        separator = "\n"
        if not new_paragraph:
            separator = self._separator(before.text, line.text)
            if separator == "drop":
                del buffer.chars[-1], buffer.raw[-1]
                return
        if separator:
            buffer.chars.append(separator)
            buffer.raw.append(buffer.raw[-1] + 1)

    def _separator(self, before: str, after: str) -> str:
        if before[-1] in _HYPHENS and len(before) > 1 and before[-2].isalnum():
            left, right = _LAST_WORD.search(before[:-1]), _WORD.match(after)
            if left is None or right is None or not after[0].islower():
                return "" if after[0].isalnum() else " "
            if self._occurs(left[0] + right[0]):
                return "drop"
            return " " if _SUSPENDED.match(after) else ""
        return "" if _UNSPACED.match(before[-1]) and _UNSPACED.match(after) else " "

    def _occurs(self, word: str) -> bool:
        """Whether a word stands whole on some line of the document."""
        if self._words is None:
            self._words = Counter()
            for line in self._lines:
                self._words.update(found.lower() for found in _WORD.findall(line.text))
        return self._words[word.lower()] > 0

    def finish(self, pages: Sequence[RawPage], spans: Sequence[tuple[int, int]]) -> CleanDocument:
        """The clean pages and paragraphs.

        Args:
            pages: As read.
            spans: First and last line of each paragraph.
        """
        offsets: dict[int, int] = {}
        done: list[CleanPage] = []
        offset = 0
        for page in pages:
            buffer = self._pages.get(page.page)
            if buffer is None:
                continue
            offsets[page.page] = offset
            text = "".join(buffer.chars)
            done.append(CleanPage(page.page, page.label, text, offset, _runs(buffer.raw)))
            offset += len(text)
        joined = "".join(page.text for page in done)
        paragraphs = [self._paragraph(joined, offsets, first, last) for first, last in spans]
        emptied = [page.page for page in pages if page.page not in offsets]
        return CleanDocument(done, emptied, paragraphs)

    def _paragraph(self, joined: str, offsets: dict[int, int], first: int, last: int) -> Paragraph:
        line, place = self._places[first]
        end_line, end_place = self._places[last]
        start = offsets[line.page] + place
        end = offsets[end_line.page] + end_place + len(end_line.text)
        return Paragraph(start, end, joined[start:end], line.print.size, line.print.bold)


def _runs(raw: Sequence[int]) -> list[tuple[int, int]]:
    """(clean index, raw index) wherever the two stop advancing together."""
    return [(at, index) for at, index in enumerate(raw) if at == 0 or index != raw[at - 1] + 1]
