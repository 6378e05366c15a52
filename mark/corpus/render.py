"""Rendering a legal text as a PDF: title, running head, page numbers, bold headings. Same bytes each time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib.enums import TA_CENTER
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.platypus import (
    BaseDocTemplate,
    CondPageBreak,
    Flowable,
    Frame,
    PageTemplate,
    Paragraph,
    Spacer,
)

from mark.corpus.document import CUT_NOTE, Article, Document
from mark.errors import DataError

_BODY = ParagraphStyle("body", fontName="Times-Roman", fontSize=10.5, leading=13.5, spaceAfter=4)
_TITLE = ParagraphStyle(
    "title", fontName="Times-Bold", fontSize=16, leading=21, alignment=TA_CENTER, spaceAfter=14 * mm
)
_DIVISION = ParagraphStyle(
    "division",
    fontName="Times-Bold",
    fontSize=12,
    leading=15,
    alignment=TA_CENTER,
    spaceAfter=2,
    keepWithNext=1,
)
_LABEL = ParagraphStyle(
    "label", fontName="Times-Bold", fontSize=11, leading=14, spaceBefore=10, spaceAfter=1, keepWithNext=1
)
_HEADING = ParagraphStyle("heading", parent=_LABEL, spaceBefore=0, spaceAfter=4)
_NOTE = ParagraphStyle("note", parent=_BODY, fontName="Times-Italic")
# Indents of 6 mm: none, letters, Roman numbers.
_INDENTED = [ParagraphStyle(f"body{n}", parent=_BODY, leftIndent=n * 6 * mm) for n in range(3)]
_MARKER = re.compile(r"‘?\((?P<word>[a-z]{1,5})\) ")
_ROMAN = re.compile(r"[ivx]+")
_DIVISION_PARTS = re.compile(r"((?:CHAPTER|SECTION|Section) (?:[IVX]+|\d+))\s*(.*)")


def render_pdf(document: Document, path: Path) -> None:
    """Write a document as an A4 PDF.

    Args:
        document: The text.
        path: The file to write.

    Raises:
        DataError: A character is not in the standard fonts.
    """
    _check_characters(document)
    template = _Template(document, path)
    story: list[Flowable] = [Spacer(1, 20 * mm), Paragraph(escape(document.full_title), _TITLE)]
    for article in document.articles:
        story += _article(article)
    template.build(story)


class _Template(BaseDocTemplate):  # type: ignore[misc]
    """Running head, page number and an outline entry for each heading."""

    def __init__(self, document: Document, path: Path) -> None:
        # invariant: no creation date and no random id, so that equal texts give equal bytes.
        super().__init__(
            str(path), pagesize=A4, invariant=1, title=document.title, author="", lang="en", pageCompression=1
        )
        width, height = A4
        frame = Frame(24 * mm, 22 * mm, width - 48 * mm, height - 46 * mm, 0, 0, 0, 0)
        self.addPageTemplates([PageTemplate("page", [frame], onPage=self._head, onPageEnd=self._foot)])
        self._running_head = document.title
        self._entries = 0
        self._seen_division = False

    def _head(self, canvas: Any, _: Any) -> None:
        width, height = A4
        canvas.saveState()
        canvas.setFont("Times-Italic", 9)
        canvas.drawCentredString(width / 2, height - 14 * mm, self._running_head)
        canvas.restoreState()

    def _foot(self, canvas: Any, _: Any) -> None:
        canvas.saveState()
        canvas.setFont("Times-Roman", 9)
        canvas.drawCentredString(A4[0] / 2, 12 * mm, str(canvas.getPageNumber()))
        canvas.restoreState()

    def afterFlowable(self, flowable: Flowable) -> None:
        """Add a heading to the outline (called by reportlab)."""
        style, title = getattr(flowable, "style", None), getattr(flowable, "outline_title", None)
        if title is None:
            return
        key = f"h{self._entries}"
        self._entries += 1
        self._seen_division = self._seen_division or style is _DIVISION
        level = 1 if style is _LABEL and self._seen_division else 0
        self.canv.bookmarkPage(key)
        self.canv.addOutlineEntry(title, key, level, closed=True)


def _article(article: Article) -> list[Flowable]:
    story: list[Flowable] = [CondPageBreak(30 * mm)]
    for division in article.divisions:
        match = _DIVISION_PARTS.fullmatch(division)
        parts = [division] if match is None else [part for part in match.groups() if part]
        story.append(Spacer(1, 4 * mm))
        story.append(_outlined("<br/>".join(escape(part) for part in parts), _DIVISION, division))
    story.append(_outlined(escape(article.label), _LABEL, f"{article.label} {article.heading}".strip()))
    if article.heading:
        story.append(Paragraph(escape(article.heading), _HEADING))
    for line, step in zip(article.lines, indents(article.lines), strict=True):
        story.append(Paragraph(escape(line), _INDENTED[step]))
    if article.cut:
        story.append(Paragraph(CUT_NOTE, _NOTE))
    return story


def _outlined(markup: str, style: ParagraphStyle, title: str) -> Paragraph:
    paragraph = Paragraph(markup, style)
    paragraph.outline_title = title
    return paragraph


def indents(lines: list[str]) -> list[int]:
    """Indent steps: 0 for paragraphs and numbers, 1 for letters, 2 for Roman numbers.

    `(i)`, `(v)` and `(x)` are letters where they follow `(h)`, `(u)`, `(w)` of a list of letters.
    """
    steps = []
    letter, roman = "", False  # the last letter marker, and whether Roman numbers came after it
    for line in lines:
        match = _MARKER.match(line)
        word = match["word"] if match is not None else None
        if word is None:
            steps.append(0)
            letter, roman = "", False
            continue
        continues = len(word) == 1 and letter != "" and ord(word) == ord(letter[-1]) + 1 and not roman
        is_roman = _ROMAN.fullmatch(word) is not None and not continues
        steps.append(2 if is_roman else 1)
        letter, roman = (letter, True) if is_roman else (word, False)
    return steps


def _check_characters(document: Document) -> None:
    """The standard fonts draw cp1252 and put a black square for anything else, in silence."""
    texts = [document.title, document.full_title]
    for article in document.articles:
        texts += [article.label, article.heading, *article.divisions, *article.lines]
    for text in texts:
        try:
            text.encode("cp1252")
        except UnicodeEncodeError as fault:
            odd = text[fault.start]
            raise DataError(
                f"{document.stem}: character {odd!r} (U+{ord(odd):04X}) cannot be printed; map it where "
                "mark/corpus reads the source"
            ) from None
