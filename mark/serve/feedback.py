"""/v1/feedback: a judgement of an answer, on the disk when it is acknowledged, exactly once."""

from __future__ import annotations

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from mark.errors import DataError
from mark.pipeline.feedback import JudgementError, UnknownResponseError, add_feedback
from mark.serve.errors import ApiError, told
from mark.serve.metrics import Metrics


class FeedbackRequest(BaseModel):
    """The whole judgement; a later one of the same sender takes the place of his earlier one."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(max_length=80)  # of the response
    rating: Literal["up", "down"] | None = None
    edited: str | None = None  # what the answer should have been
    comment: str | None = None


class FeedbackReceipt(BaseModel):
    """It is on the disk and waits for `mark feedback review`."""

    object: Literal["feedback"] = "feedback"
    id: str
    placed: str  # whether it is new, replaces an earlier one or was there already


class FeedbackDesk:
    """Takes judgements, one after the other, in a thread of its own."""

    def __init__(self, root: Path, salt: bytes, metrics: Metrics) -> None:
        """Nothing is taken yet.

        Args:
            root: The project's root.
            salt: Goes into the senders' names with their addresses, which are not kept.
            metrics: Count what is taken.
        """
        self._root, self._salt, self._metrics = root, salt, metrics
        self._thread = ThreadPoolExecutor(1, "feedback")  # many would wait for the inbox's lock by polling

    def router(self) -> APIRouter:
        """The route."""
        routes = APIRouter(prefix="/v1")

        @routes.post("/feedback")
        async def feedback(body: FeedbackRequest, request: Request) -> FeedbackReceipt:
            """Rate an answer, or say what it should have been."""
            host = request.client.host if request.client is not None else ""
            source = f"http-{hashlib.sha256(self._salt + host.encode()).hexdigest()[:16]}"
            said = (self._root, body.id, body.rating, body.edited, body.comment, source)
            try:
                row = await asyncio.get_running_loop().run_in_executor(self._thread, add_feedback, *said)
            except UnknownResponseError as fault:
                raise ApiError(404, told(fault, self._root), "unknown_response", "id") from None
            except JudgementError as fault:
                raise ApiError(400, told(fault, self._root), "invalid_feedback") from None
            except DataError as fault:
                wait = {"Retry-After": "10"}
                raise ApiError(503, told(fault, self._root), "unavailable", headers=wait) from None
            self._metrics.feedback.inc()
            return FeedbackReceipt(id=body.id, placed=row.placed)

        return routes

    def close(self) -> None:
        """What waits for the thread is not done any more."""
        self._thread.shutdown(wait=False, cancel_futures=True)
