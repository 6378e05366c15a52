"""A legal text as the renderer takes it: articles with headings and one point a line."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field

CUT_NOTE = "[The source text of this article is cut here.]"


@dataclass(frozen=True)
class Article:
    """One article in printing order."""

    label: str  # "Article 17", "Preamble"
    heading: str  # "" where the label says it all
    lines: list[str]  # the body, one numbered point a line
    divisions: list[str] = field(default_factory=list)  # chapter and section headings printed above it
    cut: bool = False  # the source ends amid this article; CUT_NOTE is printed


@dataclass(frozen=True)
class Document:
    """A text with its titles."""

    stem: str  # file name without .pdf
    title: str  # short, for people: the PDF's metadata and running head
    full_title: str  # printed on the first page
    articles: list[Article]


def fold(text: str) -> str:
    """NFKC, every run of white space one space: two verbatim copies compare equal."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text)).strip()
