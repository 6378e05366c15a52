"""The application: routes, what runs behind them, and the guards around them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp

from mark import __version__
from mark.config import Serve
from mark.errors import MarkError
from mark.serve.access import ACCESS, access_router
from mark.serve.batching import Batcher
from mark.serve.completions import Completions
from mark.serve.documents import DocumentShelf
from mark.serve.errors import ErrorBody, add_handlers
from mark.serve.experiments import experiments_router
from mark.serve.feedback import FeedbackDesk
from mark.serve.health import health_router
from mark.serve.ingesting import IngestQueue
from mark.serve.limits import BodyLimit, BodyLimits
from mark.serve.metrics import Metrics
from mark.serve.observing import Observer
from mark.serve.page_images import PageImages
from mark.serve.pool import PipelinePool
from mark.serve.review import ReviewDesk
from mark.serve.security import OPEN_PATHS, Guard, SecureHeaders, Tokens, allowed_hosts
from mark.serve.web_page import WebFile, web_files, web_router

log = logging.getLogger(__name__)

_ENVELOPE = 16 << 10  # bytes of a multipart body around its file


@dataclass(frozen=True)
class Place:
    """Where and for whom is served.

    Attributes:
        root: The project's root.
        host: The address that the server is bound to.
        tokens: Who is let in.
    """

    root: Path
    host: str
    tokens: Tokens


def create_app(place: Place, settings: Serve) -> ASGIApp:
    """The guarded application.

    Args:
        place: Where and for whom.
        settings: Section `serve`.
    """
    metrics, web = Metrics(), web_files()
    body = BodyLimit(settings.max_body_kb << 10, settings.read_timeout_s)
    upload = BodyLimit((settings.max_upload_mb << 20) + _ENVELOPE, settings.timeout_s)
    limited = BodyLimits(_inner(place, settings, metrics, web), body, {("POST", "/v1/documents"): upload})
    hosts = allowed_hosts(place.host, settings.allowed_hosts)
    guarded = Guard(limited, place.tokens, hosts, OPEN_PATHS | {ACCESS} | web.keys())
    return Observer(SecureHeaders(guarded, revalidated=frozenset(web)), metrics)


def _inner(place: Place, settings: Serve, metrics: Metrics, web: Mapping[str, WebFile]) -> FastAPI:
    background = _Background(place, settings, metrics)
    app = FastAPI(
        title="MARK",
        version=__version__,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        lifespan=background.lifespan,
        responses={"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}},
    )
    add_handlers(app)
    app.include_router(web_router(web))
    app.include_router(access_router(place.tokens))
    app.include_router(health_router(lambda: background.ready, metrics))
    app.include_router(Completions(place.root, settings, background.batcher).router())
    for desk in background.desks:
        app.include_router(desk.router())
    app.include_router(experiments_router(place.root))
    app.include_router(DocumentShelf(place.root, settings, background.ingest).router())
    return app


class _Background:
    """What runs behind the routes from start to stop."""

    def __init__(self, place: Place, settings: Serve, metrics: Metrics) -> None:
        root = place.root
        self._pool, self._poll_s = PipelinePool(root, settings.models_in_memory), settings.swap_poll_s
        self.batcher = Batcher(self._pool, settings, metrics)
        self.ingest = IngestQueue(root, settings.shutdown_s)
        self.desks = (
            FeedbackDesk(root, (place.tokens.ask or "").encode(), metrics),
            ReviewDesk(root, place.tokens),
            PageImages(root),
        )
        self.ready = False

    @contextlib.asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Load, answer, look for changes; at the end answer what waits."""
        self.batcher.start()
        self.ingest.start()
        watch = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            self.ready = False
            watch.cancel()
            await self.batcher.close()
            await self.ingest.close()
            for desk in self.desks:
                desk.close()

    async def _watch(self) -> None:
        while True:
            try:
                if self.ready:
                    await asyncio.sleep(self._poll_s)
                    await run_in_threadpool(self._pool.refresh)
                else:
                    log.info("ready: %s answers", await self.batcher.preload())
                    self.ready = True
            except MarkError as fault:
                log.error("no question can be answered yet: %s", fault)
                await asyncio.sleep(self._poll_s)
            except Exception:  # whatever it is, it is looked again
                log.exception("looking for changed models failed")
                await asyncio.sleep(self._poll_s)
