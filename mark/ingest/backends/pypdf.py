"""The second try: pypdf, pure Python, ten times as slow, where pdfium gives up.

It knows the lines of a page but not where they stand, so structure follows from their text alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_Matrix = list[float]


def read(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of one file."""
    from pypdf import PdfReader
    from pypdf.errors import FileNotDecryptedError, PyPdfError

    try:
        reader = PdfReader(job["path"], password=job["password"])
        pages = len(reader.pages)
        title = _title(reader)
    except FileNotDecryptedError:
        detail = "wrong password" if job["password"] else "needs a password"
        yield {"kind": "fault", "code": "encrypted", "detail": detail}
        return
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError) as fault:
        yield {"kind": "fault", "code": "corrupt", "detail": _described(fault)}
        return
    yield {"kind": "document", "pages": pages, "title": title}
    if pages > job["max_pages"]:
        yield {"kind": "fault", "code": "too_large", "detail": f"{pages} pages"}
        return
    for number in range(1, pages + 1) if job["pages"] is None else job["pages"]:
        try:
            row = _read_page(reader, number, job)
        except MemoryError:
            raise
        except Exception as fault:  # noqa: BLE001  # pypdf lets any exception out on a damaged page
            yield {"kind": "damaged", "page": number, "detail": _described(fault)}
        else:
            yield row


def _described(fault: Exception) -> str:
    return " ".join(f"{type(fault).__name__}: {fault}".split())[:200]


def _title(reader: Any) -> str:
    metadata = reader.metadata
    return str(metadata.title or "") if metadata is not None else ""


def _read_page(reader: Any, number: int, job: dict[str, Any]) -> dict[str, Any]:
    page = reader.pages[number - 1]
    boxes: list[tuple[float, float, float, float]] = []

    def note_images(operator: bytes, operands: Any, matrix: _Matrix, _: _Matrix) -> None:
        if operator == b"INLINE IMAGE" or (operator == b"Do" and _is_image(page, operands)):
            boxes.append(_unit_square(matrix))

    text = page.extract_text(visitor_operand_before=note_images)
    # A lone surrogate cannot be written as UTF-8.
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    inked = sum(not char.isspace() for char in text)
    few = inked < max(job["ocr_max_chars"], job["min_page_chars"])
    return {
        "kind": "page",
        "page": number,
        "label": str(number),
        "text": text,
        "lines": _lines(text),
        "images": _covered(boxes, page) if few else None,
        "print": None,
    }


def _lines(text: str) -> list[list[int]]:
    lines, start = [], 0
    for line in text.splitlines(keepends=True):
        inked = line.rstrip()
        if inked.strip():
            lines.append([start, start + len(inked)])
        start += len(line)
    return lines


def _is_image(page: Any, operands: Any) -> bool:
    resources: Any = page.get("/Resources")
    objects: Any = None if resources is None else resources.get_object().get("/XObject")
    found: Any = None if objects is None else objects.get_object().get(operands[0])
    return found is not None and found.get_object().get("/Subtype") == "/Image"


def _unit_square(matrix: _Matrix) -> tuple[float, float, float, float]:
    """The box of the unit square, into which every image is drawn, under a transformation."""
    a, b, c, d, e, f = (float(value) for value in matrix)
    xs, ys = [e, e + a, e + c, e + a + c], [f, f + b, f + d, f + b + d]
    return min(xs), min(ys), max(xs), max(ys)


def _covered(boxes: list[tuple[float, float, float, float]], page: Any) -> float:
    """Share of the page under images, overlaps counted twice, at most 1."""
    left, bottom, right, top = (float(value) for value in page.cropbox)
    area = max((right - left) * (top - bottom), 1.0)
    inside = [
        max(min(right, x1) - max(left, x0), 0.0) * max(min(top, y1) - max(bottom, y0), 0.0)
        for x0, y0, x1, y1 in boxes
    ]
    return round(min(sum(inside) / area, 1.0), 3)
