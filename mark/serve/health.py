"""/healthz: the process answers; /readyz: questions will be answered; /metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from mark.serve.errors import ApiError
from mark.serve.metrics import Metrics


class Health(BaseModel):
    """Up."""

    status: Literal["ok"] = "ok"


def health_router(ready: Callable[[], bool], metrics: Metrics) -> APIRouter:
    """The routes.

    Args:
        ready: Whether a model is loaded and the server is not stopping.
        metrics: What /metrics shows.
    """
    routes = APIRouter()

    @routes.get("/healthz")
    async def healthz() -> Health:
        """Whether the process answers."""
        return Health()

    @routes.get("/readyz")
    async def readyz() -> Health:
        """Whether questions will be answered."""
        if not ready():
            raise ApiError(503, "the model is not loaded yet, or the server is stopping", "not_ready")
        return Health()

    @routes.get("/metrics", response_class=PlainTextResponse)
    async def prometheus() -> PlainTextResponse:
        """For Prometheus."""
        return PlainTextResponse(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return routes
