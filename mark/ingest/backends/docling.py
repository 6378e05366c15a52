"""Docling: layout and table models instead of rules; optional, slow, for pages that rules misread.

Its models are fetched beforehand (`docling-tools models download`); nothing is downloaded here. A line is
one of Docling's items (paragraph, list item, heading, table row), so a paragraph needs no joining.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MODELS = Path.home() / ".cache" / "docling" / "models"  # where docling-tools puts them


def read(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of one file."""
    import pypdfium2

    try:
        with pypdfium2.PdfDocument(job["path"], password=job["password"]) as pdf:
            pages, title = len(pdf), pdf.get_metadata_value("Title")
    except pypdfium2.PdfiumError as fault:
        locked = fault.err_code == pypdfium2.raw.FPDF_ERR_PASSWORD
        detail = ("wrong password" if job["password"] else "needs a password") if locked else str(fault)
        yield {"kind": "fault", "code": "encrypted" if locked else "corrupt", "detail": detail}
        return
    yield {"kind": "document", "pages": pages, "title": title}
    if pages > job["max_pages"]:
        yield {"kind": "fault", "code": "too_large", "detail": f"{pages} pages"}
        return
    models = Path(os.environ.get("DOCLING_ARTIFACTS_PATH") or _MODELS)
    try:
        converter = _converter(job, models)
    except (OSError, ValueError, RuntimeError) as fault:
        detail = f"Docling's models are not in {models} ({type(fault).__name__}); fetch them with "
        remedy = "`docling-tools models download`, or set ingest.reader=pdfium"
        yield {"kind": "unusable", "detail": detail + remedy}
        return
    result = converter.convert(job["path"], raises_on_error=False)
    if str(result.status.value) not in {"success", "partial_success"}:
        why = "; ".join(str(error.error_message) for error in result.errors) or result.status.value
        yield {"kind": "fault", "code": "corrupt", "detail": " ".join(why.split())[:200]}
        return
    yield from page_rows(result.document, pages)


def _converter(job: dict[str, Any], models: Path) -> Any:
    """Docling with its models loaded; raises where they are missing."""
    from docling.datamodel.backend_options import PdfBackendOptions
    from docling.datamodel.base_models import InputFormat
    from docling.datamodel.pipeline_options import PdfPipelineOptions
    from docling.document_converter import DocumentConverter, PdfFormatOption

    # Scans are found and recognised as for every reader, by ingest.ocr.
    options = PdfPipelineOptions(do_ocr=False, artifacts_path=models)
    form = PdfFormatOption(
        pipeline_options=options, backend_options=PdfBackendOptions(password=job["password"])
    )
    converter = DocumentConverter(allowed_formats=[InputFormat.PDF], format_options={InputFormat.PDF: form})
    converter.initialize_pipeline(InputFormat.PDF)
    return converter


def page_rows(document: Any, pages: int) -> Iterator[dict[str, Any]]:
    """A `page` row for each page that Docling knows, a `damaged` row for the others.

    Args:
        document: A `DoclingDocument`.
        pages: How many pages the file has.
    """
    lines: dict[int, list[tuple[str, bool]]] = {}
    pictures: dict[int, float] = {}
    for item, _ in document.iterate_items():
        for number, text, heading in _printed(item):
            lines.setdefault(number, []).append((" ".join(text.split()), heading))
        if item.label.value == "picture":
            for place in item.prov:
                size = document.pages[place.page_no].size
                share = place.bbox.width * abs(place.bbox.height) / max(size.width * size.height, 1.0)
                pictures[place.page_no] = pictures.get(place.page_no, 0.0) + share
    for number in range(1, pages + 1):
        if number in document.pages:
            yield _page_row(number, lines.get(number, []), pictures.get(number, 0.0))
        else:
            yield {"kind": "damaged", "page": number, "detail": "Docling left it out"}


def _printed(item: Any) -> Iterator[tuple[int, str, bool]]:
    """(physical page, line, whether it is a heading) of one item."""
    kind = item.label.value
    if kind in {"table", "document_index"} and item.prov:
        for row in _table_rows(item):
            yield item.prov[0].page_no, row, False
        return
    text = getattr(item, "text", "")
    for at, place in enumerate(getattr(item, "prov", [])):
        part = text[slice(*place.charspan)] if len(item.prov) > 1 else text
        marker = getattr(item, "marker", "") if at == 0 else ""
        if part.strip():
            yield place.page_no, f"{marker} {part}".strip(), kind in {"section_header", "title"}


def _table_rows(item: Any) -> list[str]:
    """A line a row; a cell over several columns or rows stands once."""
    rows: dict[int, list[tuple[int, str]]] = {}
    for cell in item.data.table_cells:
        rows.setdefault(cell.start_row_offset_idx, []).append((cell.start_col_offset_idx, cell.text))
    return [" | ".join(text for _, text in sorted(cells)) for _, cells in sorted(rows.items())]


def _page_row(number: int, printed: list[tuple[str, bool]], pictures: float) -> dict[str, Any]:
    text, lines = "", []
    for line, heading in printed:
        lines.append([len(text), len(text) + len(line), None, None, None, 0.0, heading])
        text += line + "\n"
    return {
        "kind": "page",
        "page": number,
        "label": str(number),
        "text": text,
        "lines": lines,
        "images": min(pictures, 1.0),
        "print": None,
    }
