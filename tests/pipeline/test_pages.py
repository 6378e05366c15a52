"""Spans of chunks as spans of pages."""

from __future__ import annotations

from mark.pipeline.pages import PageTexts
from mark.records import Chunk, Page


def page(number: int, text: str, offset: int) -> Page:
    return Page(
        doc_id="d", document="lease", title="Lease", page=number, label=str(number + 4), text=text,
        offset=offset, raw_map=[],
    )  # fmt: skip


PAGES = [page(1, "The rent is \n", 0), page(2, "900 euros. Heat is extra.", 13)]
CHUNK = Chunk(
    chunk_id="c", doc_id="d", document="lease", title="Lease", heading_path=["Part I", "Article 1"],
    section="Article 1", pages=[1, 2], start=4, end=23, text="rent is \n900 euros.",
)  # fmt: skip


def test_a_span_on_one_page() -> None:
    (quote,) = PageTexts(PAGES).quotes(CHUNK, 9, 18)  # 4 + 9 = 13, where page 2 starts
    assert (quote.text, quote.page, quote.label, quote.start, quote.end) == ("900 euros", 2, "6", 0, 9)
    assert quote.heading == "Part I > Article 1"


def test_a_span_over_two_pages_is_two_quotes_without_the_break() -> None:
    first, second = PageTexts(reversed(PAGES)).quotes(CHUNK, 0, 18)
    assert (first.text, first.page, first.start, first.end) == ("rent is", 1, 4, 11)
    assert (second.text, second.page, second.start, second.end) == ("900 euros", 2, 0, 9)


def test_pages_of_another_text_or_document_give_nothing() -> None:
    other = [PAGES[0], page(2, "800 euros. Heat is extra.", 13)]
    assert PageTexts(other).quotes(CHUNK, 9, 18) == []
    assert PageTexts(PAGES[:1]).quotes(CHUNK, 0, 18) == []
    assert PageTexts([]).quotes(CHUNK, 9, 18) == []
