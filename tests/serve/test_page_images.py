"""Pages as pictures: the marked pixels lie on the words of the passage and nowhere else."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pikepdf
import pypdfium2
from PIL import Image, ImageDraw
from reportlab.pdfbase.pdfmetrics import stringWidth

from mark.files import sha256_file
from mark.records import Page
from tests.ingest.difficult import LEFT_TEXT, canvas_at, lines_of, two_columns
from tests.ingest.scans import BODY, picture_of, scan_pdf, turned
from tests.ingest.test_odd_pdfs import _form as filled_form
from tests.pipeline.test_auto import QUESTIONS
from tests.serve.conftest import Live, StartServer, asking
from tests.serve.pages import HEIGHT, LEFT, LINES, SIZE, STEP, TOP, WIDTH, Shelve, get, oven, page_of, shelve

__all__ = ["oven", "shelve"]

Box = tuple[float, float, float, float]


def picture(live: Live, row: Page, words: str, **more: Any) -> Image.Image:
    """The page with these words of its text marked."""
    start = row.text.index(words)
    found = get(live, row.document, start, start + len(words), row.page, **more)
    assert found.status_code == 200, found.text
    assert found.headers["x-highlight"] == "found" and found.headers["content-type"] == "image/png"
    image = Image.open(io.BytesIO(found.content)).convert("RGB")
    image.load()
    first = np.flatnonzero(marked(image).any(axis=1))[0]
    assert abs(float(found.headers["x-highlight-at"]) * image.height - first) < 3
    return image


def marked(image: Image.Image) -> Any:
    """Which pixels are tinted, print included."""
    pixels = np.asarray(image).astype(int)
    return pixels[..., 0] - pixels[..., 2] > 20


def drawn(row: int, words: str) -> Box:
    """Where words of LINES[row] were drawn: left, baseline, right, top of small letters, in points."""
    before, _, _ = LINES[row].partition(words)
    left = LEFT + stringWidth(before, "Times-Roman", SIZE)
    baseline = TOP - STEP * row
    return left, baseline, left + stringWidth(words, "Times-Roman", SIZE), baseline + 0.45 * SIZE


def mask(
    boxes: list[Box], size: tuple[int, int], grow: float, page: tuple[float, float] = (WIDTH, HEIGHT)
) -> Any:
    """The boxes as pixels of an upright page; `grow` in points on each side."""
    image = Image.new("1", size)
    across, up = size[0] / page[0], size[1] / page[1]
    for left, bottom, right, top in boxes:
        corners = (
            (left - grow) * across,
            (page[1] - top - grow) * up,
            (right + grow) * across,
            (page[1] - bottom + grow) * up,
        )
        ImageDraw.Draw(image).rectangle(corners, fill=1)
    return np.asarray(image)


def assert_on(yellow: Any, boxes: list[Box], turn: int = 0) -> None:
    """All of the words are yellow, and nothing that is further from them than a few points."""
    upright = np.rot90(yellow, turn)
    size = (upright.shape[1], upright.shape[0])
    core, around = mask(boxes, size, -1.0), mask(boxes, size, 5.0)
    assert (upright & core).sum() > 0.97 * core.sum()
    assert not (upright & ~around).any()


def test_the_words_of_a_live_quote_are_marked(start: StartServer, shelve: Shelve, three_pdfs: Path) -> None:
    """From the question to the picture; where the words stand is asked of pdfium."""
    root = shelve(*three_pdfs.glob("*.pdf"))
    live = start(root=root, models=())
    with live.client() as client:
        answer = client.post("/v1/chat/completions", json=asking(QUESTIONS[2])).json()
    quote = answer["mark"]["quotes"][0]
    image = picture(live, page_of(root, quote["document"], quote["page"]), quote["text"])
    with pypdfium2.PdfDocument(root / f"data/raw/{quote['document']}.pdf") as pdf:
        text_page, size = pdf[quote["page"] - 1].get_textpage(), pdf[quote["page"] - 1].get_size()
        words = r"\s+".join(map(re.escape, quote["text"].split()))
        found = re.search(words, text_page.get_text_range())
        assert found is not None
        boxes = [text_page.get_charbox(at) for at in range(*found.span()) if not found.string[at].isspace()]
    yellow = marked(image)
    inside = mask(boxes, image.size, 0.0, size)
    assert (yellow & inside).sum() > 0.97 * inside.sum()
    bounds = [max(box[2] for box in boxes), min(box[0] for box in boxes)]
    columns = np.flatnonzero(yellow.any(axis=0)) * size[0] / image.width
    assert columns.min() > bounds[1] - 5 and columns.max() < bounds[0] + 5


def test_on_turned_pages_too(start: StartServer, shelve: Shelve, oven: Path, tmp_path: Path) -> None:
    turns = (0, 90, 180, 270)
    root = shelve(*(turned(tmp_path / f"turned-{degrees}.pdf", oven, degrees) for degrees in turns))
    live = start(root=root, models=())
    for degrees in turns:
        image = picture(live, page_of(root, f"turned-{degrees}"), "the doors are closed")
        assert (image.width > image.height) is (degrees in (90, 270))
        assert_on(marked(image), [drawn(1, "the doors are closed")], turn=degrees // 90)


def test_text_that_lies_on_its_side_stays_there(start: StartServer, shelve: Shelve, tmp_path: Path) -> None:
    """The reader turns such a page to read it; the picture shows it as it is printed."""
    canvas = canvas_at(tmp_path / "side.pdf")
    canvas.translate(WIDTH, 0)
    canvas.rotate(90)
    canvas.setFont("Times-Roman", SIZE)
    for row, line in enumerate(LINES):
        canvas.drawString(LEFT, 500 - STEP * row, line)
    canvas.save()
    root = shelve(tmp_path / "side.pdf")
    yellow = marked(picture(start(root=root, models=()), page_of(root, "side"), "sweep it each evening"))
    left, bottom, right, top = drawn(0, "sweep it each evening")
    upright = np.rot90(yellow, -1)
    box = (left, bottom - TOP + 500, right, top - TOP + 500)
    page = (HEIGHT, WIDTH)
    size = (upright.shape[1], upright.shape[0])
    core, around = mask([box], size, -1.0, page), mask([box], size, 5.0, page)
    assert (upright & core).sum() > 0.97 * core.sum() and not (upright & ~around).any()


def test_on_a_cropped_page(start: StartServer, shelve: Shelve, oven: Path, tmp_path: Path) -> None:
    crop = (50, 600, 450, 800)
    with pikepdf.open(oven) as pdf:
        pdf.pages[0].cropbox = pikepdf.Array(crop)
        pdf.save(tmp_path / "cropped.pdf")
    root = shelve(tmp_path / "cropped.pdf")
    image = picture(start(root=root, models=()), page_of(root, "cropped"), "write down the hour", width=800)
    assert image.size == (800, 400)
    left, bottom, right, top = drawn(1, "write down the hour")
    moved = [(left - crop[0], bottom - crop[1], right - crop[0], top - crop[1])]
    core, around = (mask(moved, image.size, grow, (400, 200)) for grow in (-1.0, 5.0))
    yellow = marked(image)
    assert (yellow & core).sum() > 0.97 * core.sum() and not (yellow & ~around).any()


def test_a_word_that_a_line_end_splits(start: StartServer, shelve: Shelve, oven: Path) -> None:
    root = shelve(oven)
    row = page_of(root, "oven")
    assert "the compensation of two loaves" in row.text  # the hyphen went
    image = picture(start(root=root, models=()), row, "he owes the compensation of two loaves")
    assert_on(marked(image), [drawn(2, "he owes the compen-"), drawn(3, "sation of two loaves")])


def test_of_equal_words_those_that_are_meant(start: StartServer, shelve: Shelve, tmp_path: Path) -> None:
    canvas = canvas_at(tmp_path / "twice.pdf")
    canvas.setFont("Times-Roman", SIZE)
    for row in range(2):
        canvas.drawString(LEFT, TOP - STEP * row, LINES[0])
    canvas.save()
    root = shelve(tmp_path / "twice.pdf")
    row = page_of(root, "twice")
    at = row.text.rindex("each evening")
    found = get(start(root=root, models=()), "twice", at, at + len("each evening"))
    left, bottom, right, top = drawn(0, "each evening")
    image = Image.open(io.BytesIO(found.content)).convert("RGB")
    assert_on(marked(image), [(left, bottom - STEP, right, top - STEP)])


def test_in_columns_the_neighbour_stays_white(start: StartServer, shelve: Shelve, tmp_path: Path) -> None:
    root = shelve(*(two_columns(tmp_path / f"{order}.pdf", order) for order in ("columns", "rows")))
    live = start(root=root, models=())
    words = " ".join(lines_of(LEFT_TEXT, int((230 - 24) / 4.5))[:4])
    for order in ("columns", "rows"):
        image = picture(live, page_of(root, order), words)
        yellow = marked(image)
        columns = np.flatnonzero(yellow.any(axis=0)) * WIDTH / image.width
        rows = HEIGHT - np.flatnonzero(yellow.any(axis=1)) * HEIGHT / image.height
        assert 66 < columns.min() < 76 and columns.max() < 72 + 230 - 6
        assert 760 - 36 - 8 < rows.min() < 760 - 36 + 4 and 760 < rows.max() < 774


def test_what_was_typed_into_a_field(start: StartServer, shelve: Shelve, tmp_path: Path) -> None:
    root = shelve(filled_form(tmp_path / "form.pdf"))
    yellow = marked(picture(start(root=root, models=()), page_of(root, "form"), "Anna Baker"))
    field = [(250, 734, 250 + 280, 734 + 20)]
    size = (yellow.shape[1], yellow.shape[0])
    assert (yellow & mask(field, size, 0.0)).sum() > 500 and not (yellow & ~mask(field, size, 2.0)).any()


def test_a_scan_is_marked_in_its_text_layer_alone(
    start: StartServer, shelve: Shelve, oven: Path, tmp_path: Path
) -> None:
    """A row whose places belong to another reading (text recognition): the file's own text decides."""
    root = shelve(oven)
    scan = scan_pdf(root / "data/raw/scan.pdf", picture_of(BODY, tmp_path))
    live = start(root=root, models=())
    row = page_of(root, "oven")
    recognised = row.model_copy(
        update={"raw_map": [(0, 5)], "text": "The  doors are CLOSED, and nobody sweeps"}
    )
    pictured = recognised.model_copy(update={"document": "scan", "doc_id": sha256_file(scan)})
    (root / "data/pages.jsonl").write_text(
        recognised.model_dump_json() + "\n" + pictured.model_dump_json() + "\n"
    )
    image = picture(live, recognised, "doors are CLOSED")
    assert_on(marked(image), [drawn(1, "doors are closed")])
    for document, start_at in (("oven", 23), ("scan", 5)):
        found = get(live, document, start_at, 40)
        assert found.status_code == 200 and found.headers["x-highlight"] == "none"
        image = Image.open(io.BytesIO(found.content)).convert("RGB")
        assert not marked(image).any() and np.asarray(image).min() < 50  # drawn, print and all
