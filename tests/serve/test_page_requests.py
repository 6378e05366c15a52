"""Requests for pictures of pages: what is refused, bombs, limits, the cache."""

from __future__ import annotations

import io
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pikepdf
import pytest
from PIL import Image

from mark.files import PASSWORDS
from mark.serve import page_images
from mark.serve.page_images import Picture, PictureCache
from mark.serve.page_rows import PageRows
from tests.serve.bombs import zeros
from tests.serve.conftest import TOKEN, StartServer
from tests.serve.pages import Shelve, get, oven, shelve
from tests.serve.watch import Watch

__all__ = ["oven", "shelve"]

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


def test_a_page_without_a_span_has_no_mark(start: StartServer, shelve: Shelve, oven: Path) -> None:
    live = start(root=shelve(oven), models=())
    with live.client() as client:
        plain = client.get("/v1/documents/oven/pages/1.png")
        assert (plain.status_code, plain.headers["x-highlight"]) == (200, "none")
        assert "x-highlight-at" not in plain.headers
        assert plain.content != get(live, "oven", 0, 5).content
        for half in ("start", "end"):
            found = client.get("/v1/documents/oven/pages/1.png", params={half: 3})
            assert found.status_code == 422 and "or neither" in found.json()["error"]["message"]


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


def pattern_bomb(path: Path, source: Path, megabytes: int) -> Path:
    """A page of text with a tiled area whose tile unpacks to so much; only who draws it unpacks it."""
    with pikepdf.open(source) as pdf:
        tile = pikepdf.Stream(
            pdf, b"", Type=pikepdf.Name.Pattern, PatternType=1, PaintType=1, TilingType=1, BBox=[0, 0, 9, 9], XStep=9,
            YStep=9, Resources=pikepdf.Dictionary(),
        )  # fmt: skip
        tile.write(zeros(megabytes), filter=pikepdf.Name.FlateDecode)
        pdf.pages[0].add_resource(tile, pikepdf.Name.Pattern, pikepdf.Name("/Bomb"))
        pdf.pages[0].contents_add(b"q /Pattern cs /Bomb scn 0 0 100 100 re f Q")
        pdf.save(path)
    return path


def test_a_bomb_takes_its_own_process_down(
    start: StartServer, shelve: Shelve, oven: Path, tmp_path: Path
) -> None:
    """2 GB once unpacked, in a file that ingest reads well."""
    bomb = pattern_bomb(tmp_path / "bomb.pdf", oven, 2000)
    assert bomb.stat().st_size < 4 << 20
    live = start(root=shelve(oven, bomb), models=())
    with Watch() as watch:
        found = get(live, "bomb", 0, 10)
    assert (found.status_code, found.json()["error"]["code"]) == (422, "crashed")
    assert 100 << 20 < watch.child < page_images._MEMORY_MB << 20
    assert watch.mine - watch.before < 100 << 20
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


def test_pictures_that_wait_for_their_pages_keep_nothing_else_waiting(
    start: StartServer, shelve: Shelve, oven: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixty clients ask right after an ingest and go away: no other route waits, nothing is drawn for them."""
    live = start(root=shelve(oven), models=())
    go, drawn, look, draw = threading.Event(), [], PageRows._look_through, page_images.draw

    def slow(self: PageRows, rows: Any) -> None:
        assert go.wait(60)
        look(self, rows)

    def counted(path: Path, wanted: Any, root: Path) -> Picture:
        drawn.append(wanted.width)
        return draw(path, wanted, root)

    monkeypatch.setattr(PageRows, "_look_through", slow)
    monkeypatch.setattr(page_images, "draw", counted)
    host, port = live.url.removeprefix("http://").split(":")
    askers = []
    for width in range(200, 260):
        asker = socket.create_connection((host, int(port)))
        asker.sendall(
            f"GET /v1/documents/oven/pages/1.png?width={width} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        )
        askers.append(asker)
    with live.client() as client:
        assert (
            client.get("/v1/models/extractive", timeout=20).status_code == 200
        )  # answered in the shared pool
        assert client.get("/v1/documents", timeout=20).status_code == 200
    for asker in askers:
        asker.close()
    time.sleep(0.5)
    go.set()
    assert get(live, "oven", 0, 5, width=300).status_code == 200
    assert drawn == [300]


def test_a_fault_of_the_passwords_is_told_without_the_folder(
    start: StartServer, shelve: Shelve, oven: Path
) -> None:
    live = start(root=shelve(oven), models=())
    (live.root / PASSWORDS).parent.mkdir(exist_ok=True)
    (live.root / PASSWORDS).write_text("no JSON")
    found = get(live, "oven", 0, 5)
    message = found.json()["error"]["message"]
    assert found.status_code == 503 and message.startswith(f"{PASSWORDS} is damaged")
    assert str(live.root) not in message
