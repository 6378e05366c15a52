"""Reads one PDF in a process of its own: `python -P worker.py FILE JSON`; a crash costs one file.

Standard library and pypdfium2 only, so that a process starts in a fraction of a second. It
writes one JSON object a line: `document`, then one `page` each, then `end`; or a `fault` with
its quarantine code. What the parent has read up to a crash says which page was at fault.
"""

from __future__ import annotations

import ctypes
import json
import re
import sys
from itertools import pairwise
from typing import Any

_BOLD = re.compile(r"bold|black|heavy|demi", re.IGNORECASE)
_FORCE_BOLD = 1 << 18  # font descriptor flag, ISO 32000-1 table 123
_NEWLINE = re.compile("\r\n|\r|\n|(?<=[\ufffe\x02])")  # the last: a hyphen at a line's end
_FONT_NAME_BYTES = 128
_INKED = re.compile(r"\S+")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_WIDE = 1.1  # font sizes between two words: more is a gap between columns or cells


def _emit(kind: str, **values: Any) -> None:
    sys.stdout.write(json.dumps({"kind": kind, **values}) + "\n")
    sys.stdout.flush()


def _limit_memory(megabytes: int) -> None:
    try:
        import resource
    except ImportError:  # no such limits on this system; the time limit remains
        return
    try:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    except (OSError, ValueError):  # macOS has the call and refuses it
        return


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
        if max(next_left - right, left - next_right) > wide > 0:
            cuts.append(after)
    ends = [max(stop for _, stop in words if stop <= cut) for cut in cuts[1:]]
    return list(zip(cuts, [*ends, words[-1][1]], strict=True))


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


def _image_share(page: Any, raw: Any) -> float:
    """Share of the page's area under images, overlaps counted twice, at most 1."""
    width, height = page.get_size()
    covered = 0.0
    for item in page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE], max_depth=5):
        left, bottom, right, top = item.get_bounds()
        inside = (min(right, width) - max(left, 0.0), min(top, height) - max(bottom, 0.0))
        covered += max(inside[0], 0.0) * max(inside[1], 0.0)
    return float(min(covered / max(width * height, 1.0), 1.0))


def _read_page(document: Any, raw: Any, index: int, few: int) -> dict[str, Any]:
    page = document[index]
    text_page = page.get_textpage()
    text = _page_text(text_page, raw)
    inked = sum(not char.isspace() for char in text)
    return {
        "label": document.get_page_label(index),
        "text": text,
        "lines": _lines(text_page, raw, text),
        "images": round(_image_share(page, raw), 3) if inked < few else None,
    }


def _read(path: str, limits: dict[str, int]) -> None:
    import pypdfium2
    from pypdfium2 import raw

    try:
        document = pypdfium2.PdfDocument(path)
        pages = len(document)
    except pypdfium2.PdfiumError as fault:
        # Success without a single page: the file is whole and has none.
        codes = {
            raw.FPDF_ERR_PASSWORD: "encrypted",
            raw.FPDF_ERR_SECURITY: "encrypted",
            raw.FPDF_ERR_SUCCESS: "empty",
        }
        code = codes.get(fault.err_code, "corrupt")
        _emit("fault", code=code, detail="0 pages" if code == "empty" else str(fault))
        return
    title = document.get_metadata_value("Title")
    _emit("document", pages=pages, title=title)
    if pages > limits["max_pages"]:
        _emit("fault", code="too_large", detail=f"{pages} pages")
        return
    for index in range(pages):
        try:
            _emit("page", page=index + 1, **_read_page(document, raw, index, limits["min_page_chars"]))
        except pypdfium2.PdfiumError as fault:
            _emit("damaged", page=index + 1, detail=str(fault))
    _emit("end")


def main(path: str, limits: dict[str, int]) -> int:
    """Read one file under the limits; the exit code is 0 unless the process itself failed."""
    _limit_memory(limits["memory_mb"])
    try:
        _read(path, limits)
    except MemoryError:
        _emit("fault", code="crashed", detail=f"more than {limits['memory_mb']} MB of memory")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], json.loads(sys.argv[2])))
