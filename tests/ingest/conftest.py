"""Settings and small documents for the ingest tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mark.config import Ingest
from mark.ingest.clean import CleanDocument, clean
from mark.ingest.layout import RawLine, RawPage

SettingsFactory = Callable[..., Ingest]


@pytest.fixture
def settings() -> SettingsFactory:
    """Ingest settings with some values changed."""

    def make(**changes: object) -> Ingest:
        values: dict[str, object] = {
            "source": "pdf", "input": "data/raw", "chunk_tokens": 64, "workers": 2, "timeout_s": 60.0,
            "memory_mb": 2048, "max_file_mb": 50, "max_pages": 100, "min_page_chars": 20,
            "reader": "pdfium", "ocr": "never", "ocr_languages": "eng", "ocr_page_timeout_s": 60.0,
            "ocr_max_chars": 300, "ocr_image_share": 0.6, "embed_batch": 16, "cache_mb": 64,
            "engine": "local", "ray": {"address": None, "workers": 0, "threads": 1}, "store": "chroma", "chroma_path": "chroma_db", "collection": "pdf_docs",
            "chroma": {"url": None, "token_env": None}, "pgvector": {"url": None, "index": "hnsw"},
        }  # fmt: skip
        return Ingest.model_validate(values | changes)

    return make


def raw_page(number: int, *lines: str) -> RawPage:
    """A page without geometry, one printed line each."""
    text, spans = "", []
    for line in lines:
        spans.append(RawLine(len(text), len(text) + len(line)))
        text += line + "\n"
    return RawPage(number, str(number), text, spans)


def printed_page(number: int, *lines: tuple[str, float, float] | tuple[str, float, float, bool]) -> RawPage:
    """A page whose lines are (text, right edge, baseline[, bold]); left edge 72, size 10."""
    text, spans = "", []
    for content, right, baseline, *bold in lines:
        end = len(text) + len(content)
        spans.append(RawLine(len(text), end, 72.0, right, baseline, 10.0, bool(bold and bold[0])))
        text += content + "\r\n"
    return RawPage(number, str(number), text, spans)


def cleaned(*lines: str) -> CleanDocument:
    """One page of lines, cleaned."""
    return clean([raw_page(1, *lines)])


@pytest.fixture
def text_pdf() -> Callable[..., Path]:
    """Writes a PDF with the given lines, one list a page."""

    def write(path: Path, *pages: list[str], title: str = "") -> Path:
        from reportlab.pdfgen.canvas import Canvas

        canvas = Canvas(str(path), pagesize=(595, 842), invariant=1)
        canvas.setTitle(title)
        for lines in pages:
            for at, line in enumerate(lines):
                canvas.drawString(72, 770 - 16 * at, line)
            canvas.showPage()
        canvas.save()
        return path

    return write
