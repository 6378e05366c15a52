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
from mark.pipeline.feedback import UnknownResponseError, add_feedback
from mark.serve.errors import ApiError
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


def feedback_router(root: Path, salt: bytes, metrics: Metrics) -> APIRouter:
    """The route.

    Args:
        root: The project's root.
        salt: Goes into the senders' names with their addresses, which are not kept.
        metrics: Count what is taken.
    """
    routes = APIRouter(prefix="/v1")
    thread = ThreadPoolExecutor(1, "feedback")  # one writer: many would wait for the inbox's lock by polling

    @routes.post("/feedback")
    async def feedback(body: FeedbackRequest, request: Request) -> FeedbackReceipt:
        """Rate an answer, or say what it should have been."""
        host = request.client.host if request.client is not None else ""
        source = f"http-{hashlib.sha256(salt + host.encode()).hexdigest()[:16]}"
        said = (root, body.id, body.rating, body.edited, body.comment, source)
        try:
            row = await asyncio.get_running_loop().run_in_executor(thread, add_feedback, *said)
        except UnknownResponseError as fault:
            raise ApiError(404, str(fault), "unknown_response", "id") from None
        except DataError as fault:
            raise ApiError(400, str(fault), "invalid_feedback") from None
        metrics.feedback.inc()
        return FeedbackReceipt(id=body.id, placed=row.placed)

    return routes
