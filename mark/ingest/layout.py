"""What a reader delivers: pages of printed lines, before any cleaning."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RawLine:
    """One printed line; positions in points from the page's lower left corner."""

    start: int  # span in the page's raw text
    end: int
    left: float | None = None  # None: the source has no geometry (a collection)
    right: float | None = None
    baseline: float | None = None
    size: float = 0.0  # font size, points
    bold: bool = False


@dataclass(frozen=True)
class RawPage:
    """One physical page as read."""

    page: int  # from 1
    label: str
    text: str
    lines: list[RawLine]


@dataclass(frozen=True)
class RawDocument:
    """One readable file."""

    doc_id: str  # sha256 of its bytes, hex
    document: str  # file name without suffix
    title: str
    page_count: int  # physical pages, dropped ones included
    pages: list[RawPage]  # those that hold text, ascending
    dropped: dict[int, str]  # physical page -> why it holds none
    reader: str = ""  # the backend that read it
    recognised: tuple[int, ...] = ()  # physical pages whose text comes from text recognition
    notes: tuple[str, ...] = ()  # what went wrong on the way, a sentence each
