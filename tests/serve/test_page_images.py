"""Pages as pictures: the marked pixels lie on the passage's words, and nothing a client sends breaks out."""

from __future__ import annotations

import io
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pikepdf
import psutil
import pypdfium2
import pytest
from PIL import Image, ImageDraw
from reportlab.pdfbase.pdfmetrics import stringWidth

from mark.config import PARAMS, Ingest, load_section
from mark.files import read_jsonl
from mark.ingest import ingest_pdfs
from mark.records import Page
from mark.serve import page_images
from mark.serve.page_images import Picture, PictureCache
from tests.ingest.difficult import LEFT_TEXT, canvas_at, lines_of, two_columns
from tests.ingest.scans import BODY, picture_of, scan_pdf, turned
from tests.pipeline.test_auto import QUESTIONS
from tests.serve.bombs import zeros
from tests.serve.conftest import TOKEN, Live, StartServer, asking

SIZE, STEP, LEFT, TOP = 12, 18, 72, 770  # of the drawn pages, points
WIDTH, HEIGHT = 595, 842
LINES = [
    "The keeper of the oven shall sweep it each evening before",
    "the doors are closed, and shall write down the hour of the",
    "sweeping. For a forgotten evening he owes the compen-",
    "sation of two loaves. The compensation is due at once.",
]
Shelve = Callable[..., Path]
Box = tuple[float, float, float, float]


@pytest.fixture
def shelve(make_root: Any, tiny_bert_dir: Path) -> Shelve:
    """A project of these PDFs, read by the real ingest."""

    def make(*pdfs: Path) -> Path:
        root: Path = make_root([])
        (root / "data/raw").mkdir()
        for path in pdfs:
            shutil.copy(path, root / "data/raw")
        ingest_pdfs(
            load_section(Ingest, "ingest", root / PARAMS), root / "data/raw", tiny_bert_dir, root / "data"
        )
        return root

    return make


@pytest.fixture
def oven(tmp_path: Path) -> Path:
    """A page of LINES whose letters stand at known places."""
    canvas = canvas_at(tmp_path / "oven.pdf")
    canvas.setFont("Times-Roman", SIZE)
    for row, line in enumerate(LINES):
        canvas.drawString(LEFT, TOP - STEP * row, line)
    canvas.save()
    return tmp_path / "oven.pdf"


def page_of(root: Path, document: str, number: int = 1) -> Page:
    (row,) = [
        p for p in read_jsonl(root / "data/pages.jsonl", Page) if (p.document, p.page) == (document, number)
    ]
    return row


def get(live: Live, document: str, start: Any, end: Any, page: Any = 1, **more: Any) -> httpx.Response:
    with live.client() as client:
        return client.get(
            f"/v1/documents/{document}/pages/{page}.png", params={"start": start, "end": end, **more}
        )


def picture(live: Live, row: Page, words: str, **more: Any) -> Image.Image:
    """The page with these words of its text marked."""
    start = row.text.index(words)
    found = get(live, row.document, start, start + len(words), row.page, **more)
    assert found.status_code == 200, found.text
    assert found.headers["x-highlight"] == "found" and found.headers["content-type"] == "image/png"
    image = Image.open(io.BytesIO(found.content)).convert("RGB")
    image.load()
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


def test_a_scan_is_marked_in_its_text_layer_alone(
    start: StartServer, shelve: Shelve, oven: Path, tmp_path: Path
) -> None:
    """A row whose places belong to another reading (text recognition): the file's own text decides."""
    scan_pdf(tmp_path / "scan.pdf", picture_of(BODY, tmp_path))
    root = shelve(oven)
    live = start(root=root, models=())
    row = page_of(root, "oven")
    recognised = row.model_copy(
        update={"raw_map": [(0, 5)], "text": "The  doors are CLOSED, and nobody sweeps"}
    )
    (root / "data/pages.jsonl").write_text(recognised.model_dump_json() + "\n")
    image = picture(live, recognised, "doors are CLOSED")
    assert_on(marked(image), [drawn(1, "doors are closed")])
    found = get(live, "oven", 23, 40)
    assert found.status_code == 200 and found.headers["x-highlight"] == "none"
    assert not marked(Image.open(io.BytesIO(found.content)).convert("RGB")).any()


NAMES = [
    "nobody", "..%2F..%2Fparams.yaml", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "..", "oven.pdf", "oven%00", "OVEN",
    "data%5Craw%5Coven", "%0d%0aX-Evil%3A1", "%ff%fe", "x" * 3000,
]  # fmt: skip


def test_unknown_documents_are_404(start: StartServer, shelve: Shelve, oven: Path) -> None:
    live = start(root=shelve(oven), models=())
    for name in NAMES:
        found = get(live, name, 0, 5)
        assert found.status_code == 404 and "x-evil" not in found.headers, name
        message = found.json()["error"]["message"]
        assert len(message) < 400 and message.isprintable() and str(live.root) not in message


BAD: list[tuple[dict[str, Any], int, str]] = [
    ({"page": 2}, 404, "no text was read from a page 2"),
    ({"page": 0}, 404, "page 0"),
    ({"page": -1}, 404, "page -1"),
    ({"page": 10**30}, 404, ""),
    ({"page": "one"}, 400, "page"),
    ({"start": 5, "end": 5}, 422, "start 5, end 5"),
    ({"start": 6, "end": 5}, 422, "send the span of a quote"),
    ({"end": 100_000}, 422, "no span of this page's"),
    ({"start": -1}, 400, "start"),
    ({"end": "x"}, 400, "end"),
    ({"width": 99}, 400, "width"),
    ({"width": 2001}, 400, "width"),
]


def test_what_cannot_be_shown_is_said(start: StartServer, shelve: Shelve, oven: Path) -> None:
    live = start(root=shelve(oven), models=())
    for query, status, said in BAD:
        found = get(live, "oven", **({"start": 0, "end": 5} | query))
        assert found.status_code == status, query
        message = found.json()["error"]["message"]
        assert said in message and "\n" not in message


def test_a_file_that_is_gone_or_another_is_409(start: StartServer, shelve: Shelve, oven: Path) -> None:
    root = shelve(oven)
    live = start(root=root, models=(), token=TOKEN)
    assert get(live, "oven", 0, 5).status_code == 200
    assert (
        httpx.get(f"{live.url}/v1/documents/oven/pages/1.png?start=0&end=5", trust_env=False).status_code
        == 401
    )
    (root / "data/raw/oven.pdf").write_bytes(oven.read_bytes() + b"\n")
    assert get(live, "oven", 0, 6).json()["error"]["code"] == "document_changed"
    (root / "data/raw/oven.pdf").unlink()
    for end in (5, 6):  # the first lies in the cache
        found = get(live, "oven", 0, end)
        assert (found.status_code, found.json()["error"]["code"]) == (409, "document_gone")
    (root / "data/pdfs").mkdir(exist_ok=True)
    shutil.copy(oven, root / "data/pdfs")
    assert get(live, "oven", 0, 5).status_code == 200
    (root / "data/pages.jsonl").unlink()
    found = get(live, "oven", 0, 5)
    assert found.status_code == 503 and found.headers["retry-after"]


def image_bomb(path: Path, source: Path, side: int) -> Path:
    """A page of text over a black picture of `side` by `side` pixels, a thousandth of that in the file."""
    with pikepdf.open(source) as pdf:
        picture = pikepdf.Stream(
            pdf, b"", Type=pikepdf.Name.XObject, Subtype=pikepdf.Name.Image, Width=side, Height=side,
            ColorSpace=pikepdf.Name.DeviceRGB, BitsPerComponent=8,
        )  # fmt: skip
        picture.write(zeros(3 * side * side >> 20), filter=pikepdf.Name.FlateDecode)
        pdf.pages[0].add_resource(picture, pikepdf.Name.XObject, pikepdf.Name("/Bomb"))
        pdf.pages[0].contents_add(b"q 10 0 0 10 300 300 cm /Bomb Do Q")
        pdf.save(path)
    return path


def test_a_bomb_takes_its_own_process_down(
    start: StartServer, shelve: Shelve, oven: Path, tmp_path: Path
) -> None:
    """2.7 GB once unpacked, in a file that ingest reads well."""
    bomb = image_bomb(tmp_path / "bomb.pdf", oven, 30_000)
    assert bomb.stat().st_size < 4 << 20
    live = start(root=shelve(oven, bomb), models=())
    before = psutil.Process().memory_info().rss
    found = get(live, "bomb", 0, 10)
    assert found.status_code in (200, 422)  # 200: drawn without the picture
    assert psutil.Process().memory_info().rss - before < 100 << 20
    assert get(live, "oven", 0, 10).status_code == 200


def test_what_takes_too_long_is_stopped(
    start: StartServer, shelve: Shelve, oven: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = start(root=shelve(oven), models=())
    monkeypatch.setattr(page_images, "_TIMEOUT_S", 0.05)
    found = get(live, "oven", 0, 10)
    assert (found.status_code, found.json()["error"]["code"]) == (422, "timeout")
    monkeypatch.undo()
    assert get(live, "oven", 0, 10).status_code == 200  # a failure is not kept


def test_huge_and_tiny_pages_have_few_pixels(
    start: StartServer, shelve: Shelve, oven: Path, tmp_path: Path
) -> None:
    paths = []
    for name, box in {"tall": (60, 0, 460, 14_000), "vast": (-1e7, -1e7, 1e7, 1e7)}.items():
        with pikepdf.open(oven) as pdf:
            pdf.pages[0].mediabox = pikepdf.Array([int(side) for side in box])
            pdf.save(tmp_path / f"{name}.pdf")
        paths.append(tmp_path / f"{name}.pdf")
    root = shelve(*paths)
    live = start(root=root, models=())
    for path in paths:
        found = get(live, path.stem, 0, 10, width=2000)
        assert found.status_code == 200
        size = Image.open(io.BytesIO(found.content)).size
        assert size[0] * size[1] <= 8_100_000 and max(size) <= 8_001


def test_few_are_drawn_at_once(
    start: StartServer, shelve: Shelve, oven: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a picture that was drawn is not drawn again."""
    live = start(root=shelve(oven), models=())
    running, most, calls, lock, real = 0, 0, 0, threading.Lock(), page_images.draw

    def counted(*arguments: Any) -> Picture:
        nonlocal running, most, calls
        with lock:
            running, calls = running + 1, calls + 1
            most = max(most, running)
        try:
            time.sleep(0.5)
            return real(*arguments)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(page_images, "draw", counted)
    monkeypatch.setattr(page_images, "_WAITING", 2)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda end: get(live, "oven", 0, end), range(5, 13)))
    refused = [one for one in found if one.status_code == 429]
    assert most == 2 and refused and all(one.headers["retry-after"] for one in refused)
    served = [5 + at for at, one in enumerate(found) if one.status_code == 200]
    assert len(served) == calls and len(served) + len(refused) == 8
    again = get(live, "oven", 0, served[0])
    assert again.content == found[served[0] - 5].content and calls == len(served)


def test_the_cache_keeps_to_its_bytes() -> None:
    cache = PictureCache(10)

    def sizes() -> Iterator[int]:
        for key in "abc":
            kept = cache.get(key)
            if kept is not None:
                yield len(kept.png)

    cache.put("a", Picture(b"1234", True))
    cache.put("b", Picture(b"1234", True))
    assert cache.get("a") is not None
    cache.put("c", Picture(b"1234", True))  # b was asked for the longest ago
    assert cache.get("b") is None and list(sizes()) == [4, 4] and cache.size == 8
    cache.put("a", Picture(b"12", False))
    assert cache.size == 6
    cache.put("b", Picture(b"x" * 11, True))  # larger than the whole cache
    assert cache.size == 0 and list(sizes()) == []
