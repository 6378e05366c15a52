"""One log line and one count a request; nothing of its text."""

from __future__ import annotations

import logging
import secrets
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mark.serve.metrics import Metrics

log = logging.getLogger(__name__)

_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
_PAGE = "/static/"


class Observer:
    """Gives each request an id, counts it and logs its route, status and time: never its path or its body."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        """Wrap an application."""
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        name, started, status = f"req-{secrets.token_hex(8)}", time.perf_counter(), 499  # 499: nobody waits

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", name.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_named)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, str(status)).inc()
            quiet = route in _QUIET or route.startswith(_PAGE)
            level = logging.DEBUG if quiet else logging.INFO
            took = (time.perf_counter() - started) * 1000
            log.log(level, "%s %s %s %d %.0f ms", name, scope["method"], route, status, took)
