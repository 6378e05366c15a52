"""Text recognition: OCRmyPDF writes a copy of the PDF whose scanned pages carry a text layer.

Pages without any text are recognised with `--skip-text`. A page with a stamp over a scan would be
skipped by that, and so would letters of unknown meaning, so such a file takes `--force-ocr`, limited to
the pages asked for: the page is
rendered, stamp and all, and recognised as a whole.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Write `job["out"]`; a row is a fault, or a note of pages that took too long."""
    import ocrmypdf
    import ocrmypdf.exceptions

    source = _decrypted(job)
    late = _Late()
    logging.getLogger("ocrmypdf").addHandler(late)
    try:
        ocrmypdf.ocr(
            source,
            job["out"],
            language=job["languages"],
            pages=",".join(str(page) for page in job["pages"]),
            force_ocr=job["stamped"],
            skip_text=not job["stamped"],
            rotate_pages=True,
            output_type="pdf",
            optimize=0,
            jobs=1,
            use_threads=True,  # so that its log lines pass through this process
            tesseract_timeout=job["page_timeout_s"],
            invalidate_digital_signatures=True,
            progress_bar=False,
        )
    except ocrmypdf.exceptions.ExitCodeException as fault:
        detail = " ".join(f"{type(fault).__name__}: {fault}".split())[:200]
        yield {"kind": "fault", "code": "needs_ocr", "detail": detail}
        return
    if late.count:
        pages = "1 page" if late.count == 1 else f"{late.count} pages"
        yield {"kind": "note", "detail": f"more than {job['page_timeout_s']:g} s on {pages}"}


class _Late(logging.Handler):
    """Counts the pages that Tesseract gave up: OCRmyPDF goes on without their text and only logs it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += "took too long to OCR" in record.getMessage()


def _decrypted(job: dict[str, Any]) -> Path:
    """OCRmyPDF refuses encrypted files: a copy without encryption beside the output."""
    import pikepdf

    with pikepdf.open(job["path"], password=job["password"] or "") as pdf:
        if not pdf.is_encrypted:
            return Path(job["path"])
        copy = Path(job["out"]).with_name("decrypted.pdf")
        pdf.save(copy)
        return copy
