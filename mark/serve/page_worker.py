"""Draws one page with a passage marked; runs in ingest's process with limits (mark/ingest/backends).

Like a backend it imports nothing of MARK. The passage's place comes from ingest as indices of the page's
characters; where these hold other text (text recognition, another reader), the passage's letters are looked
for in the page's own text, so that spaces, hyphens, ligatures and quotation marks do not matter.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import unicodedata
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

# Blend mode; red, green, blue, opacity. The first leaves print dark, the second shows on dark paper too.
_LAYERS = ((b"Multiply", (255, 232, 110, 255)), (b"Normal", (255, 200, 0, 40)))
_MAX_PIXELS = 8_000_000
_MAX_SIDE = 8_000  # pixels
_FILLED = 3  # characters between two of the passage that belong to it: a hyphen and a line's end
_SAME_LINE = 0.8  # of the usual height of a letter, between two baselines
_APART = 3.0  # of the same, between two letters: more is a gap between columns
_MARGIN = 0.15  # of the same, around the letters

Box = tuple[float, float, float, float]  # left, bottom, right, top in points


class _Mark:
    """A part of one printed line."""

    def __init__(self, baseline: float, box: Box) -> None:
        self.baseline, self.box = baseline, box

    def takes(self, baseline: float, box: Box, height: float) -> bool:
        """Whether a letter stands on the same line, next to what is marked."""
        gap = max(box[0] - self.box[2], self.box[0] - box[2])
        return abs(baseline - self.baseline) < _SAME_LINE * height and gap < _APART * height

    def add(self, box: Box) -> None:
        """Reach over a letter."""
        (a, b, c, d), (left, bottom, right, top) = self.box, box
        self.box = (min(a, left), min(b, bottom), max(c, right), max(d, top))


def read(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of one page: `image`, a PNG in base64; `found`, whether the passage is marked; `at`, where.

    Args:
        job: Besides what each backend gets: `width` in pixels, `reader` (the file of the backend that gave
            the indices), `raw` (indices of the passage's characters), `passage`, and `near` (where on the
            page it should stand, 0 to 1).
    """
    import pypdfium2
    from pypdfium2 import raw

    index, reader = job["pages"][0] - 1, _module(job["reader"])
    try:
        marks = _passage_boxes(job, reader, index) if job["passage"] else []
        # Fields become part of the page, or they would be drawn over the mark.
        page, _ = reader._with_fields(_opened(job), raw, index)
        at = _top(marks, page.get_bbox(), page.get_rotation()) if marks else None
        for mode, colour in _LAYERS if marks else ():
            page.insert_obj(_path(marks, mode, colour, raw))
        image = page.render(scale=_scale(page.get_size(), job["width"]), may_draw_forms=False).to_pil()
    except pypdfium2.PdfiumError as fault:
        yield {"kind": "fault", "code": "corrupt", "detail": str(fault)}
        return
    stream = io.BytesIO()
    image.save(stream, "PNG")
    picture = base64.b64encode(stream.getvalue()).decode("ascii")
    yield {"kind": "page", "page": index + 1, "found": bool(marks), "at": at, "image": picture}


def _opened(job: dict[str, Any]) -> Any:
    """The document, with looks for the fields that the file gives without them."""
    import pypdfium2
    from pypdfium2 import raw

    document = pypdfium2.PdfDocument(job["path"], password=job["password"])
    if document.get_formtype() != raw.FORMTYPE_NONE:
        document.init_forms()
    return document


def _scale(size: tuple[float, float], width: int) -> float:
    """Pixels a point: the wanted width, less where the page would take too many pixels."""
    across, up = max(size[0], 1e-3), max(size[1], 1e-3)
    caps = (width / across, _MAX_SIDE / up, (_MAX_PIXELS / (across * up)) ** 0.5)
    return float(min(caps))


def _path(boxes: Sequence[Box], mode: bytes, colour: tuple[int, ...], raw: Any) -> Any:
    """One filled path of all boxes: where they overlap the colour is laid on once."""
    import pypdfium2

    path = raw.FPDFPageObj_CreateNewPath(boxes[0][0], boxes[0][1])
    for left, bottom, right, top in boxes:
        raw.FPDFPath_MoveTo(path, left, bottom)
        for x, y in ((right, bottom), (right, top), (left, top)):
            raw.FPDFPath_LineTo(path, x, y)
        raw.FPDFPath_Close(path)
    raw.FPDFPageObj_SetFillColor(path, *colour)
    raw.FPDFPageObj_SetBlendMode(path, mode)
    raw.FPDFPath_SetDrawMode(path, raw.FPDF_FILLMODE_WINDING, False)
    return pypdfium2.PdfObject(path)


def _passage_boxes(job: dict[str, Any], reader: Any, index: int) -> list[Box]:
    """Boxes of the passage in the page's own space, a printed line each; empty: it is not on the page.

    The characters are counted on a page that stands upright, as the reader counts them, in a second
    document: the one that is drawn stays as it is.
    """
    from pypdfium2 import raw

    text_page, text, turns = _upright(reader, _opened(job), raw, index)
    indices = _indices(text, job)
    boxes = [mark.box for mark in _marks(text_page, raw, indices)]
    for degrees, page_box in reversed(turns):
        boxes = [_turned_back(box, degrees, page_box) for box in boxes]
    return boxes


def _top(boxes: Sequence[Box], page: Box, degrees: int) -> float:
    """Where the marks begin on the page as it is shown, turned clockwise: 0 at its top, 1 at its foot."""
    left, bottom, right, top = page
    edges = {
        0: (top - max(box[3] for box in boxes), top - bottom),
        90: (min(box[0] for box in boxes) - left, right - left),
        180: (min(box[1] for box in boxes) - bottom, top - bottom),
        270: (right - max(box[2] for box in boxes), right - left),
    }
    above, height = edges[degrees]
    return min(max(above / max(height, 1e-3), 0.0), 1.0)


def _module(file: str) -> Any:
    spec = importlib.util.spec_from_file_location("mark_reader", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _upright(reader: Any, document: Any, raw: Any, index: int) -> tuple[Any, str, list[tuple[int, Box]]]:
    """A page as the reader sees it: (text page, its text, degrees and box before each turn)."""
    page, _ = reader._with_fields(document, raw, index)
    turns = [(page.get_rotation(), page.get_bbox())]
    page = reader._turned(document, raw, index, page, turns[0][0])
    text_page = page.get_textpage()
    text = reader._page_text(text_page, raw)
    turn = reader._direction(text_page, raw, text)
    if turn:
        turns.append((turn, page.get_bbox()))
        page = reader._turned(document, raw, index, page, turn)
        text_page = page.get_textpage()
        text = reader._page_text(text_page, raw)
    return text_page, text, turns


def _turned_back(box: Box, degrees: int, page: Box) -> Box:
    """A box of a page that the reader has turned clockwise, in the space of the page before."""
    (left, bottom, right, top), (x0, y0, x1, y1) = page, box
    if degrees == 90:
        return right - y1, bottom + x0, right - y0, bottom + x1
    if degrees == 180:
        return right - x1, top - y1, right - x0, top - y0
    if degrees == 270:
        return left + y0, top - x1, left + y1, top - x0
    return box


def _indices(text: str, job: dict[str, Any]) -> list[int]:
    """The passage's characters on the page."""
    wanted = "".join(_letters(job["passage"]))
    given = [at for at in job["raw"] if at < len(text)]
    if wanted and wanted == "".join(_letters("".join(text[at] for at in dict.fromkeys(given)))):
        return _filled(given)
    return _search(text, wanted, job["near"])


def _filled(given: Sequence[int]) -> list[int]:
    """With what the cleaning took out between two characters."""
    done = list(given[:1])
    for at in given[1:]:
        if 1 < at - done[-1] <= _FILLED + 1:
            done += range(done[-1] + 1, at)
        done.append(at)
    return done


def _search(text: str, wanted: str, near: float) -> list[int]:
    """Where the page holds these letters in a row; of several places the one nearest to `near`."""
    letters, places = [], []
    for at, char in enumerate(text):
        for letter in _letters(char):
            letters.append(letter)
            places.append(at)
    page, expected = "".join(letters), near * len(letters)
    found, at = [], page.find(wanted) if wanted else -1
    while at >= 0:
        found.append(at)
        at = page.find(wanted, at + 1)
    if not found:
        return []
    first = min(found, key=lambda place: abs(place - expected))
    return _filled(places[first : first + len(wanted)])


def _letters(text: str) -> Iterator[str]:
    """Letters and digits alone, in one form and case."""
    for char in unicodedata.normalize("NFKC", text).casefold():
        if char.isalnum():
            yield char


def _marks(text_page: Any, raw: Any, indices: Sequence[int]) -> list[_Mark]:
    """What to colour: the printed letters at these places, joined along each line."""
    import ctypes

    printed: list[tuple[float, Box]] = []
    x, y = ctypes.c_double(), ctypes.c_double()
    for at in dict.fromkeys(indices):
        box = text_page.get_charbox(at)
        if chr(raw.FPDFText_GetUnicode(text_page, at)).isspace() or box[2] <= box[0] or box[3] <= box[1]:
            continue
        raw.FPDFText_GetCharOrigin(text_page, at, ctypes.byref(x), ctypes.byref(y))
        printed.append((y.value, box))
    if not printed:
        return []
    height = median(box[3] - box[1] for _, box in printed)
    marks: list[_Mark] = []
    for baseline, box in printed:
        if not (marks and marks[-1].takes(baseline, box, height)):
            marks.append(_Mark(baseline, box))
        marks[-1].add(box)
    margin = _MARGIN * height
    for mark in marks:
        left, bottom, right, top = mark.box
        mark.box = (left - margin, bottom - margin, right + margin, top + margin)
    return marks
