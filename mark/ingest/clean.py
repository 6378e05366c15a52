"""From printed lines to clean paragraphs, with a map back to the characters that were read."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import quantiles

from mark.ingest.furniture import edge_line_counts
from mark.ingest.layout import RawLine, RawPage
from mark.ingest.structure import Paragraph, is_bare_heading, is_closed, is_point

_HYPHENS = "-\u2010\u00ad\u0002\ufffe"  # the last two: pdfium's mark for a hyphen at a line's end
_INVISIBLE = frozenset("\u00ad\u200b\u2060\ufeff")
_COMPATIBLE = re.compile("[\ufb00-\ufdff\ufe70-\ufefc\uff01-\uff5e]")  # ligatures, forms, full width
_WORD = re.compile(r"[^\W\d_]+")
_LAST_WORD = re.compile(r"[^\W\d_]+$")
_SUSPENDED = re.compile(r"(?:and|or|und|oder|et|ou|to)\b")  # after `two-`: the hyphen ends its word
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u3000-\u303f]")  # scripts without spaces
_GAP = 1.2  # of the usual distance between baselines: more starts a paragraph
_SLACK = 6.0  # points by which a full line may miss the right edge


@dataclass(frozen=True)
class CleanPage:
    """A page's part of the document's joined text; `text` keeps the separator that follows it."""

    page: int
    label: str
    text: str
    offset: int
    raw_map: list[tuple[int, int]]


@dataclass(frozen=True)
class CleanDocument:
    """A whole document after cleaning."""

    pages: list[CleanPage]  # those that keep text
    emptied: list[int]  # physical pages on which nothing but running heads stood
    paragraphs: list[Paragraph]

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
    lines = _body_lines(pages)
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
    return texts.finish(pages, spans)


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


def _body_lines(pages: Sequence[RawPage]) -> list[_Line]:
    by_page: dict[int, list[_Line]] = {}
    for page in pages:
        made = [(*normalise(page.text, line.start, line.end), line) for line in page.lines]
        by_page[page.page] = [_Line(page.page, text, raw, line) for text, raw, line in made if text]
    edges = edge_line_counts({page: [line.text for line in lines] for page, lines in by_page.items()})
    kept: list[_Line] = []
    for number, lines in by_page.items():
        top, bottom = edges[number]
        kept += lines[top : len(lines) - bottom]
    return kept


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
        rights = [line.print.right for line in lines if line.print.right is not None]
        edge = quantiles(rights, n=20)[-1] if len(rights) >= 4 else max(rights, default=None)
        return cls(leading, edge)

    def is_short(self, line: _Line, following: _Line) -> bool:
        """Whether the following line's first word would have fitted."""
        here, there = line.print, following.print
        if self.right_edge is None or here.right is None or there.left is None or there.right is None:
            return False
        word = len(following.text.split(" ", 1)[0]) + 1
        width = word * (there.right - there.left) / max(len(following.text), 1)
        return here.right + width < self.right_edge - _SLACK

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
        if usual.right_edge is None:
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
    return short and (closed or line.text[0].isupper() or line.text[0] in "‘'\"“«(")


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
