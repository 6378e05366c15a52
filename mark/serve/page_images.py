"""/v1/documents/{document}/pages/{page}.png: a page of a PDF as a picture, with a passage marked in it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Response
from starlette.concurrency import run_in_threadpool

from mark.config import PARAMS, Ingest, load_section
from mark.corpus.folder import list_pdfs
from mark.corpus.passwords import read_passwords
from mark.errors import MarkError
from mark.files import PDFS, RAW, sha256_file
from mark.ingest.backends import BACKENDS
from mark.ingest.reading import Job, run
from mark.records import Page
from mark.serve.errors import ApiError
from mark.serve.page_rows import PageRows

_WORKER = Path(__file__).with_name("page_worker.py")
_READER = "pdfium"  # gave the places in Page.raw_map
_TIMEOUT_S = 20.0  # a picture, where ingest.timeout_s is not less
_MEMORY_MB = 1024  # of its process, where ingest.memory_mb is not less
_AT_ONCE = 2  # processes that draw
_WAITING = 16  # requests for one of them; more are told 429
_CACHE_BYTES = 32 << 20
_MIN_WIDTH, _WIDTH, _MAX_WIDTH = 100, 1000, 2000  # pixels
_FAR = 1 << 31  # beyond any page and any span

Number = Annotated[int, Query(ge=0, lt=_FAR)]


@dataclass(frozen=True)
class Wanted:
    """A picture: a page, a span of its text, the width in pixels."""

    page: Page
    start: int
    end: int
    width: int

    @property
    def key(self) -> tuple[str, int, int, int, int]:
        """Equal for equal pictures."""
        return self.page.doc_id, self.page.page, self.start, self.end, self.width

    @property
    def places(self) -> list[int]:
        """Of the passage's characters among those that the reader gave; white space left out."""
        runs = self.page.raw_map
        clean = [first for first, _ in runs]
        found = []
        for at in range(self.start, self.end):
            run_at = bisect_right(clean, at) - 1
            if run_at >= 0 and not self.page.text[at].isspace():
                found.append(runs[run_at][1] + at - runs[run_at][0])
        return found


@dataclass(frozen=True)
class Picture:
    """A PNG, whether the passage is marked in it, and where that begins: 0 at the top, 1 at the foot."""

    png: bytes
    found: bool
    at: float | None = None


class PictureCache:
    """The pictures that were asked for last, up to a number of bytes; used in one event loop."""

    def __init__(self, limit: int) -> None:
        """Empty.

        Args:
            limit: Bytes.
        """
        self._limit, self.size = limit, 0
        self._kept: OrderedDict[object, Picture] = OrderedDict()

    def get(self, key: object) -> Picture | None:
        """A picture that is kept."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def put(self, key: object, picture: Picture) -> None:
        """Keep a picture; those not asked for the longest go."""
        if key in self._kept:
            self.size -= len(self._kept.pop(key).png)
        self._kept[key] = picture
        self.size += len(picture.png)
        while self.size > self._limit:
            self.size -= len(self._kept.popitem(last=False)[1].png)


class PageImages:
    """Draws pages, a few at once, each in a process with limits of time and memory."""

    def __init__(self, root: Path) -> None:
        """Nothing is drawn yet.

        Args:
            root: The project's root.
        """
        self._root, self._rows = root, PageRows(root)
        self._cache = PictureCache(_CACHE_BYTES)
        self._slots, self._waiting = asyncio.Semaphore(_AT_ONCE), 0

    def router(self) -> APIRouter:
        """The route."""
        routes = APIRouter(prefix="/v1")

        @routes.get(
            "/documents/{document}/pages/{page}.png",
            response_class=Response,
            responses={200: {"content": {"image/png": {}}, "description": "The page; see x-highlight"}},
        )
        async def page_image(
            document: str, page: int, start: Number | None = None, end: Number | None = None,
            width: Annotated[int, Query(ge=_MIN_WIDTH, le=_MAX_WIDTH)] = _WIDTH,
        ) -> Response:  # fmt: skip
            """A page, with the span of a quote marked; `x-highlight` says whether, `x-highlight-at` where."""
            row = await run_in_threadpool(self._rows.find, document, page)
            picture = await self._picture(Wanted(row, *_span(row, start, end), width))
            headers = {"x-highlight": "found" if picture.found else "none"}
            if picture.at is not None:
                headers["x-highlight-at"] = f"{picture.at:.4f}"
            return Response(picture.png, media_type="image/png", headers=headers)

        return routes

    async def _picture(self, wanted: Wanted) -> Picture:
        path = await run_in_threadpool(_file, self._root, wanted.page)
        if (kept := self._cache.get(wanted.key)) is not None:
            return kept
        async with self._slot():
            if (kept := self._cache.get(wanted.key)) is None:
                kept = await run_in_threadpool(draw, path, wanted, self._root)
                self._cache.put(wanted.key, kept)
        return kept

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if self._waiting >= _WAITING:
            raise ApiError(
                429, "too many pages wait to be drawn; ask again in a moment", "busy",
                headers={"Retry-After": "2"},
            )  # fmt: skip
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()


def draw(path: Path, wanted: Wanted, root: Path) -> Picture:
    """Draw a page in a process with limits.

    Args:
        path: The PDF.
        wanted: What of it.
        root: The project's root, for its limits and passwords.

    Raises:
        ApiError: 409 where the file is no longer what was ingested, 422 where its page cannot be drawn.
    """
    page = wanted.page
    _check_unchanged(path, page)
    settings = load_section(Ingest, "ingest", root / PARAMS)
    limits = settings.model_copy(
        update={
            "timeout_s": min(settings.timeout_s, _TIMEOUT_S),
            "memory_mb": min(settings.memory_mb, _MEMORY_MB),
        }
    )
    extra = {
        "backend_file": str(_WORKER),
        "reader": str(BACKENDS[_READER].file),
        "width": wanted.width,
        "passage": page.text[wanted.start : wanted.end],
        "raw": wanted.places,
        "near": wanted.start / max(len(page.text), 1),
    }
    reading = run(Job(_READER, path, _password(path, root), (page.page,), extra), limits)
    if reading.fault is not None or not reading.texts:
        code, detail = reading.fault or ("crashed", "nothing came back")
        raise ApiError(422, f"page {page.page} of {page.document} cannot be drawn: {code} ({detail})", code)
    row = reading.texts[0]
    return Picture(base64.b64decode(row["image"]), row["found"], row["at"])


def _span(page: Page, start: int | None, end: int | None) -> tuple[int, int]:
    """What is to be marked; nothing where neither is given."""
    if start is None and end is None:
        return 0, 0
    if start is None or end is None:
        missing = "start" if start is None else "end"
        raise ApiError(
            422, f"{missing} is missing; send both ends of a span, or neither", "invalid_span", missing
        )
    if start < end <= len(page.text):
        return start, end
    raise ApiError(
        422, f"start {start}, end {end} is no span of this page's {len(page.text)} characters; "
        "send the span of a quote", "invalid_span", "start" if start >= end else "end",
    )  # fmt: skip


def _file(root: Path, page: Page) -> Path:
    """The document's PDF: its name is looked for among those there and never made into a path."""
    for folder in (RAW, PDFS):
        for path in list_pdfs(root / folder):
            if path.stem == page.document:
                return path
    raise _gone(page)


def _check_unchanged(path: Path, page: Page) -> None:
    try:
        found = sha256_file(path)
    except OSError:
        raise _gone(page) from None
    if found != page.doc_id:
        raise ApiError(
            409, f"{path.name} has changed since it was ingested; run `dvc repro ingest`", "document_changed"
        )


def _gone(page: Page) -> ApiError:
    return ApiError(
        409, f"the PDF of {page.document!r} is not in {RAW}; `dvc pull` or `dvc repro corpus` brings it back",
        "document_gone",
    )  # fmt: skip


def _password(path: Path, root: Path) -> str | None:
    try:
        return read_passwords(root).get(path.name)
    except MarkError as fault:
        raise ApiError(503, str(fault), "unavailable") from None
