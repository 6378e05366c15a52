"""The cleaned pages of the documents, in which every quote is looked up before it is shown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from mark.pipeline.answer import PageQuote
from mark.records import Chunk, Page


class PageTexts:
    """Turns a span of a chunk into spans of physical pages."""

    def __init__(self, pages: Iterable[Page]) -> None:
        """Keep data/pages.jsonl by document."""
        self._pages: dict[str, list[Page]] = defaultdict(list)
        for page in pages:
            self._pages[page.doc_id].append(page)

    def quotes(self, chunk: Chunk, start: int, end: int) -> list[PageQuote]:
        """Where `chunk.text[start:end]` stands, one quote a page that it touches.

        Returns:
            Quotes in reading order; none where the pages do not hold exactly this text.
        """
        first, last = chunk.start + start, chunk.start + end
        parts: list[tuple[Page, int, int]] = []
        for page in self._pages.get(chunk.doc_id, ()):
            begin, stop = max(first - page.offset, 0), min(last - page.offset, len(page.text))
            if begin < stop:
                parts.append((page, begin, stop))
        parts.sort(key=lambda part: part[0].offset)
        if "".join(page.text[a:b] for page, a, b in parts) != chunk.text[start:end]:
            return []
        return [quote for page, a, b in parts if (quote := _quote(chunk, page, a, b)) is not None]


def _quote(chunk: Chunk, page: Page, start: int, end: int) -> PageQuote | None:
    """White space at both ends left out; None where nothing else is there."""
    text = page.text[start:end]
    start += len(text) - len(text.lstrip())
    text = text.strip()
    if not text:
        return None
    return PageQuote(
        text=text,
        document=page.document,
        title=page.title,
        heading=" > ".join(chunk.heading_path),
        page=page.page,
        label=page.label,
        start=start,
        end=start + len(text),
        chunk_id=chunk.chunk_id,
    )
