"""The default backend: pypdfium2 (see mark/ingest/backends)."""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

_BOLD = re.compile(r"bold|black|heavy|demi", re.IGNORECASE)
_FORCE_BOLD = 1 << 18  # font descriptor flag, ISO 32000-1 table 123
_NEWLINE = re.compile("\r\n|\r|\n|(?<=[\ufffe\x02])")  # the last: a hyphen at a line's end
_FONT_NAME_BYTES = 128
_GRID = 100  # cells a side that a page's cover by images is counted in
_MIN_OUTLINES = 50  # paths; fewer are a frame or a rule, not letters drawn as outlines
_MAX_RENDERED = 40  # pages of a file that are rendered to look for print
_RENDER_PIXELS = 700  # of the longer side; letters of 10 points are then 8 pixels high
_EDGE = 40  # of 255, between neighbouring pixels
_MIN_EDGES = 20  # in a row of pixels; a printed line has some 100
_INKED = re.compile(r"\S+")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_WIDE = 1.1  # font sizes between two words: more is a gap between columns or cells
_SPACED = 0.15  # font sizes between two letters: more is a word set with wide letters
_SAMPLE = 200  # characters of a page that its direction and its fonts are judged by
_EAST_ASIAN = re.compile("[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]")


def _page_text(text_page: Any, raw: Any) -> str:
    """The page's characters, one for each of pdfium's character indices."""
    count = text_page.count_chars()
    text: str = text_page.get_text_range() if count else ""
    if len(text) == count:
        return text
    codes = [raw.FPDFText_GetUnicode(text_page, index) for index in range(count)]
    return "".join("\ufffd" if 0xD800 <= code < 0xE000 or code > 0x10FFFF else chr(code) for code in codes)


def _is_bold(text_page: Any, raw: Any, index: int) -> bool:
    name = ctypes.create_string_buffer(_FONT_NAME_BYTES)
    flags = ctypes.c_int()
    raw.FPDFText_GetFontInfo(text_page, index, name, _FONT_NAME_BYTES, ctypes.byref(flags))
    if _BOLD.search(name.value.decode("latin-1")) or flags.value & _FORCE_BOLD:
        return True
    return bool(raw.FPDFText_GetFontWeight(text_page, index) >= 600)


def _line(text_page: Any, raw: Any, text: str, start: int, end: int) -> list[Any]:
    """[start, end, left, right, baseline, font size, bold] of one printed line, in points."""
    inked = [index for index in range(start, end) if not text[index].isspace()]
    first, last, middle = inked[0], inked[-1], inked[len(inked) // 2]
    # From right to left the last character is the leftmost.
    outer = inked if _RIGHT_TO_LEFT.search(text, start, end) else [first, last]
    boxes = [text_page.get_charbox(index) for index in outer]
    left, right = (boxes[0][0], boxes[-1][2])
    if len(outer) > 2 or left > right:
        left, right = min(box[0] for box in boxes), max(box[2] for box in boxes)
    x, y = ctypes.c_double(), ctypes.c_double()
    raw.FPDFText_GetCharOrigin(text_page, first, ctypes.byref(x), ctypes.byref(y))
    size = raw.FPDFText_GetFontSize(text_page, middle)
    bold = all(_is_bold(text_page, raw, index) for index in (first, middle, last))
    return [start, end, round(left, 1), round(right, 1), round(y.value, 1), round(size, 1), bold]


def _segments(text_page: Any, raw: Any, text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Cut `text[start:end]` where the page is white for `_WIDE` times the font size.

    pdfium sets one space for a word space, for the gap between two columns and between cells.
    """
    words = [match.span() for match in _INKED.finditer(text, start, end)]
    if len(words) < 2:
        return words
    if _RIGHT_TO_LEFT.search(text, start, end):
        return _segments_by_ink(text_page, raw, text, words)
    cuts = [words[0][0]]
    for (_, before), (after, _) in pairwise(words):
        left, _, right, _ = text_page.get_charbox(before - 1)
        next_left, _, next_right, _ = text_page.get_charbox(after)
        wide = _WIDE * raw.FPDFText_GetFontSize(text_page, after)
        gap = max(next_left - right, left - next_right)
        if gap > wide > 0 and gap > wide + 2 * _letter_gap(text_page, raw, text, before):
            cuts.append(after)
    ends = [max(stop for _, stop in words if stop <= cut) for cut in cuts[1:]]
    return list(zip(cuts, [*ends, words[-1][1]], strict=True))


def _letter_gap(text_page: Any, raw: Any, text: str, end: int) -> float:
    """Points between the last letters of the word that ends here, 0 where they are set as usual."""
    if end < 2 or text[end - 2].isspace():
        return 0.0
    gap: float = text_page.get_charbox(end - 1)[0] - text_page.get_charbox(end - 2)[2]
    size = raw.FPDFText_GetFontSize(text_page, end - 1)
    return gap if _SPACED * size < gap < _WIDE * size else 0.0


def _segments_by_ink(
    text_page: Any, raw: Any, text: str, words: list[tuple[int, int]]
) -> list[tuple[int, int]]:
    """The same for a line with two directions, where neighbours in the text may stand apart."""
    extents = []
    for start, end in words:
        boxes = [text_page.get_charbox(index) for index in range(start, end)]
        extents.append((min(box[0] for box in boxes), max(box[2] for box in boxes)))
    wide = _WIDE * raw.FPDFText_GetFontSize(text_page, words[0][0])
    ordered = sorted(range(len(words)), key=lambda word: extents[word])
    group = {ordered[0]: 0}
    reach = extents[ordered[0]][1]
    for before, word in pairwise(ordered):
        group[word] = group[before] + (extents[word][0] - reach > wide > 0)
        reach = max(reach, extents[word][1])
    cuts = [word for word in range(1, len(words)) if group[word] != group[word - 1]]
    if len(cuts) > len(set(group.values())) - 1:  # a group lies in pieces: no cells, only two directions
        return [(words[0][0], words[-1][1])]
    bounds = [0, *cuts, len(words)]
    return [(words[a][0], words[b - 1][1]) for a, b in pairwise(bounds)]


def _lines(text_page: Any, raw: Any, text: str) -> list[list[Any]]:
    lines = []
    start = 0
    for match in [*_NEWLINE.finditer(text), None]:
        end = match.start() if match else len(text)
        segments = _segments(text_page, raw, text, start, end)
        if len(segments) == 1:
            segments = [(start, end)]
        lines += [_line(text_page, raw, text, first, last) for first, last in segments]
        start = match.end() if match else end
    return lines


class _Scan:
    """Tells how much of a page is images, and whether something is printed in them.

    Only pages with few characters are looked at. Rendering is the costly part, so a file has a
    budget of rendered pages; a long scan shows within it whether its images hold print.
    """

    def __init__(self, raw: Any, job: dict[str, Any]) -> None:
        self._raw = raw
        self._job = job
        self._budget = _MAX_RENDERED

    def measure(self, page: Any, inked: int) -> dict[str, float | None]:
        """`images` and `print` of a page with `inked` characters, both None where those are many."""
        if inked >= max(self._job["ocr_max_chars"], self._job["min_page_chars"]):
            return {"images": None, "print": None}
        raw = self._raw
        items = [item for item in page.get_objects(max_depth=5) if item.type != raw.FPDF_PAGEOBJ_FORM]
        images = [_bounds(item) for item in items if item.type == raw.FPDF_PAGEOBJ_IMAGE]
        share = _covered(images, page.get_bbox())
        paths = sum(item.type == raw.FPDF_PAGEOBJ_PATH for item in items)
        few = inked < self._job["min_page_chars"]
        stamped = not few and share >= self._job["ocr_image_share"]
        outlined = few and share < self._job["ocr_image_share"] and paths >= _MIN_OUTLINES
        printed = None
        if (stamped or outlined) and self._budget > 0:
            self._budget -= 1
            printed = round(_printed_rows(page, items, raw), 3)
        return {"images": round(share, 3), "print": printed}


def _bounds(item: Any) -> tuple[float, float, float, float]:
    """An object's box in page space: pdfium gives it in the space of the form that holds it."""
    box: tuple[float, float, float, float] = item.get_bounds()
    form = item.container
    while form is not None:
        box = form.get_matrix().on_rect(*box)
        form = form.container
    return box


def _covered(
    boxes: list[tuple[float, float, float, float]], page: tuple[float, float, float, float]
) -> float:
    """Share of the page under the boxes, overlaps counted once, on a grid of 100 x 100 cells.

    Strips of one scan add up, layers of one scan (background, mask) do not.
    """
    left, bottom, right, top = page
    across, up = max(right - left, 1e-6) / _GRID, max(top - bottom, 1e-6) / _GRID
    rows = [0] * _GRID
    for x0, y0, x1, y1 in boxes:
        first, last = (min(max(round((x - left) / across), 0), _GRID) for x in (x0, x1))
        low, high = (min(max(round((y - bottom) / up), 0), _GRID) for y in (y0, y1))
        for row in range(low, high):
            rows[row] |= ((1 << max(last - first, 0)) - 1) << first
    return sum(row.bit_count() for row in rows) / _GRID**2


def _printed_rows(page: Any, items: list[Any], raw: Any) -> float:
    """Share of the page's pixel rows that look printed once its text objects are gone.

    Print crosses from dark to light many times along a row; paper, photographs of large shapes and
    watermarks do not.
    """
    for item in items:
        if item.type == raw.FPDF_PAGEOBJ_TEXT and item.container is None:
            page.remove_obj(item)
    width, height = page.get_size()
    bitmap = page.render(scale=_RENDER_PIXELS / max(width, height, 1.0), grayscale=True)
    pixels = bytes(bitmap.buffer)
    rows = [pixels[at : at + bitmap.width] for at in range(0, bitmap.height * bitmap.stride, bitmap.stride)]
    printed = 0
    for row in rows[::2]:
        edges = sum(abs(a - b) > _EDGE for a, b in pairwise(row))
        printed += edges >= _MIN_EDGES
    return printed / max(len(rows[::2]), 1)


def _load(document: Any, raw: Any, index: int) -> tuple[Any, Any, str, int | None]:
    """(page, text page, text, where the fields' text begins) with most of the text upright.

    pdfium gives positions as if a page were not turned, and mixes up the lines of text that runs up or
    down. So such a page is redrawn, in memory, with its content turned instead, and loaded anew.
    """
    page, fields = _with_fields(document, raw, index)
    page = _turned(document, raw, index, page, page.get_rotation())
    text_page = page.get_textpage()
    text = _page_text(text_page, raw)
    turn = _direction(text_page, raw, text)
    if turn:
        text_page.close()
        page = _turned(document, raw, index, page, turn)
        text_page = page.get_textpage()
        text = _page_text(text_page, raw)
    return page, text_page, text, fields


def _with_fields(document: Any, raw: Any, index: int) -> tuple[Any, int | None]:
    """The page with what was typed into its fields, or over it, drawn behind all other text.

    Returns:
        The page and how many characters it had before; None where it has no fields.
    """
    page = document[index]
    shown = {raw.FPDF_ANNOT_WIDGET, raw.FPDF_ANNOT_FREETEXT}
    for at in range(raw.FPDFPage_GetAnnotCount(page)):
        annotation = raw.FPDFPage_GetAnnot(page, at)
        kind = raw.FPDFAnnot_GetSubtype(annotation)
        raw.FPDFPage_CloseAnnot(annotation)
        if kind in shown:
            text_page = page.get_textpage()
            printed = text_page.count_chars()
            text_page.close()
            raw.FPDFPage_Flatten(page, raw.FLAT_NORMALDISPLAY)
            page.close()
            return document[index], printed
    return page, None


def _beside_labels(lines: list[list[Any]], fields: int) -> list[list[Any]]:
    """Each field's line behind the printed line on its left, and its further lines behind the first."""
    printed = [line for line in lines if line[0] < fields]
    done = list(printed)
    before: list[Any] | None = None
    for line in lines[len(printed) :]:
        labels = [one for one in printed if abs(one[4] - line[4]) <= 0.5 * line[5] and one[3] <= line[2] + 1]
        wraps = before is not None and 0 < before[4] - line[4] < 2 * line[5] and abs(before[2] - line[2]) < 3
        after = max(labels, key=lambda one: float(one[3])) if labels else before if wraps else None
        done.insert(done.index(after) + 1 if after in done else len(done), line)
        before = line
    return done


def _direction(text_page: Any, raw: Any, text: str) -> int:
    """By how many degrees clockwise most of a page's text must be turned to stand upright."""
    turns = [
        round(-raw.FPDFText_GetCharAngle(text_page, at) / (math.pi / 2)) % 4 * 90 for at in _sampled(text)
    ]
    return next((turn for turn in (90, 180, 270) if 2 * turns.count(turn) > len(turns)), 0)


def _sampled(text: str) -> list[int]:
    """Characters from all over a page."""
    inked = [at for at, char in enumerate(text) if not char.isspace()]
    return inked[:: max(1, len(inked) // _SAMPLE)]


def _turned(document: Any, raw: Any, index: int, page: Any, turn: int) -> Any:
    """The page with its content turned clockwise by some degrees."""
    if turn == 0:
        return page
    left, bottom, right, top = page.get_bbox()
    matrix, box = {
        90: ((0, -1, 1, 0, -bottom, right), (0, 0, top - bottom, right - left)),
        180: ((-1, 0, 0, -1, right, top), (0, 0, right - left, top - bottom)),
        270: ((0, 1, -1, 0, top, -left), (0, 0, top - bottom, right - left)),
    }[turn]
    if not raw.FPDFPage_TransFormWithClip(page, raw.FS_MATRIX(*matrix), None):
        return page  # it has no content
    page.set_mediabox(*box)
    page.set_cropbox(*box)
    page.set_rotation(0)
    page.close()
    return document[index]


def _is_unmapped(text_page: Any, raw: Any, text: str) -> bool:
    """Whether the fonts do not say which characters most of a page's letters are."""
    sampled = _sampled(text)
    unknown: int = sum(raw.FPDFText_HasUnicodeMapError(text_page, at) == 1 for at in sampled)
    return 2 * unknown > len(sampled)


def _with_repeats(page: Any, text_page: Any, raw: Any, text: str, lines: list[list[Any]]) -> str:
    """Put back lines that pdfium takes for a second print of the line above, and return the longer text.

    Where a font does not tell its height (East Asian fonts that are not embedded) pdfium drops an equal
    line that follows at a usual distance.
    """
    if not _EAST_ASIAN.search(text):
        return text
    known: dict[tuple[int, int], str] = {}  # left edge and width -> the last text that had them
    for item in page.get_objects(filter=[raw.FPDF_PAGEOBJ_TEXT], max_depth=5):
        left, _, right, _ = _bounds(item)
        baseline = item.get_matrix().get()[5]
        place = (round(left), round(right - left))
        found = _object_text(text_page, raw, item).strip()
        if found:
            known[place] = found
        elif place in known:
            above = [line for line in lines if abs(line[2] - left) < 1 and line[4] > baseline - 0.5 * line[5]]
            if above and min(line[4] - 0.5 * line[5] for line in above) > baseline:
                nearest = min(above, key=lambda line: float(line[4]))
                start = len(text) + 2
                text += f"\r\n{known[place]}"
                new = [start, len(text), *(round(x, 1) for x in (left, right, baseline)), *nearest[5:]]
                lines.insert(lines.index(nearest) + 1, new)
    return text


def _object_text(text_page: Any, raw: Any, item: Any) -> str:
    size = raw.FPDFTextObj_GetText(item, text_page, None, 0)
    buffer = (ctypes.c_ushort * (size // 2 + 1))()
    raw.FPDFTextObj_GetText(item, text_page, buffer, size)
    return bytes(buffer)[: max(size - 2, 0)].decode("utf-16-le", errors="replace")


def _read_page(document: Any, raw: Any, index: int, scan: _Scan) -> dict[str, Any]:
    page, text_page, text, fields = _load(document, raw, index)
    label = document.get_page_label(index)
    if _is_unmapped(text_page, raw, text):
        text_page.close()
        return {"label": label, "text": "", "lines": [], "images": 0.0, "print": 1.0, "unmapped": True}
    lines = _lines(text_page, raw, text)
    if fields is not None:
        lines = _beside_labels(lines, fields)
    inked = sum(not char.isspace() for char in text)
    text = _with_repeats(page, text_page, raw, text, lines)
    text_page.close()
    return {"label": label, "text": text, "lines": lines, **scan.measure(page, inked)}


def read(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of one file."""
    import pypdfium2
    from pypdfium2 import raw

    try:
        document = pypdfium2.PdfDocument(job["path"], password=job["password"])
        pages = len(document)
    except pypdfium2.PdfiumError as fault:
        # Success without a single page: the file is whole and has none.
        codes = {
            raw.FPDF_ERR_PASSWORD: ("encrypted", "wrong password" if job["password"] else "needs a password"),
            raw.FPDF_ERR_SECURITY: ("encrypted", "a protection that pdfium does not know"),
            raw.FPDF_ERR_SUCCESS: ("empty", "0 pages"),
        }
        code, detail = codes.get(fault.err_code, ("corrupt", str(fault)))
        yield {"kind": "fault", "code": code, "detail": detail}
        return
    yield {"kind": "document", "pages": pages, "title": document.get_metadata_value("Title")}
    if pages > job["max_pages"]:
        yield {"kind": "fault", "code": "too_large", "detail": f"{pages} pages"}
        return
    if document.get_formtype() != raw.FORMTYPE_NONE:
        document.init_forms()  # draws the fields that the file gives without their looks
    scan = _Scan(raw, job)
    for index in range(pages) if job["pages"] is None else [page - 1 for page in job["pages"]]:
        try:
            yield {"kind": "page", "page": index + 1, **_read_page(document, raw, index, scan)}
        except pypdfium2.PdfiumError as fault:
            yield {"kind": "damaged", "page": index + 1, "detail": str(fault)}
