"""/v1/chat/completions and /v1/models."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from mark.config import Serve
from mark.serve.batching import Batcher, Job, Served
from mark.serve.conversation import Asked, read_conversation
from mark.serve.errors import ApiError, check_wanted
from mark.serve.models import checked_model, list_models
from mark.serve.schema import (
    ChatCompletion,
    ChatRequest,
    Choice,
    ModelCard,
    ModelList,
    Reply,
    Usage,
    mark_of,
)
from mark.serve.streaming import Chunks, Drafts, events

log = logging.getLogger(__name__)

_LOOK_S = 0.1  # between two looks whether the client is still there


@dataclass(frozen=True)
class Completions:
    """What the routes need."""

    root: Path
    settings: Serve
    batcher: Batcher

    def router(self) -> APIRouter:
        """The routes."""
        routes = APIRouter(prefix="/v1")

        @routes.get("/models")
        def models() -> ModelList:
            """Models that may be asked for."""
            return list_models(self.root)

        @routes.get("/models/{name}")
        def model(name: str) -> ModelCard:
            """One of them."""
            checked_model(name, self.root)
            return next(card for card in list_models(self.root).data if card.id == name)

        @routes.post("/chat/completions", response_model=ChatCompletion)
        async def complete(body: ChatRequest, request: Request) -> Any:
            """Answer the last user message from the documents."""
            asked = read_conversation(body, self.settings.max_question_chars)
            await run_in_threadpool(checked_model, body.model, self.root)
            if self.settings.log_questions:
                log.info("asked: %r", asked.question)
            if body.stream:
                return self._streamed(body, asked)
            job = self.batcher.submit(asked.question, body.model)
            return _completion(await self._wait(job, request), asked)

        return routes

    async def _wait(self, job: Job, request: Request) -> Served:
        """The answer, unless the client goes away or time is up: then the question leaves the queue."""
        ends = job.entered + self.settings.timeout_s
        try:
            while (left := ends - time.perf_counter()) > 0:
                done, _ = await asyncio.wait({job.done}, timeout=min(_LOOK_S, left))
                if done:
                    return job.done.result()
                await check_wanted(request)
            raise _late(self.settings.timeout_s)
        finally:
            job.done.cancel()

    def _streamed(self, body: ChatRequest, asked: Asked) -> StreamingResponse:
        drafts = Drafts() if body.mark is not None and body.mark.draft else None
        job = self.batcher.submit(asked.question, body.model, None if drafts is None else drafts.hear)
        asyncio.get_running_loop().call_later(self.settings.timeout_s, _expire, job, self.settings.timeout_s)
        usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        chunks = Chunks(body.model)
        stream = events(
            job.done,
            chunks,
            drafts,
            lambda served: chunks.answer(served, mark_of(served.answer, served.queue_s, asked.notes), usage),
        )
        return StreamingResponse(stream, media_type="text/event-stream", headers={"x-accel-buffering": "no"})


def _completion(served: Served, asked: Asked) -> ChatCompletion:
    answer = served.answer
    choice = Choice(
        message=Reply(content=answer.text), finish_reason="length" if served.usage.truncated else "stop"
    )
    return ChatCompletion(
        id=answer.response_id,
        created=int(time.time()),
        model=answer.model,
        choices=[choice],
        usage=Usage.of(served.usage),
        mark=mark_of(answer, served.queue_s, asked.notes),
    )


def _expire(job: Job, seconds: float) -> None:
    if not job.done.done():
        job.done.set_exception(_late(seconds))


def _late(seconds: float) -> ApiError:
    return ApiError(408, f"no answer within {seconds:g} s (serve.timeout_s); ask again later", "timeout")
