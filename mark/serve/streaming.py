"""A streamed answer: server-sent events as OpenAI's clients read them.

What is sent as content is the checked answer and nothing else: the refusal rule needs the whole answer, and
a client cannot take back what it has shown. So the pieces follow each other at once when it is ready. What is
being written before that may be asked for (`mark.draft`); it comes in a field of its own.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from mark.serve.batching import Served
from mark.serve.errors import ApiError, error_body
from mark.serve.schema import Mark, Usage

_PIECE = re.compile(r"\s*\S+\s*|\s+")
_SIGN_OF_LIFE_S = 10.0  # proxies close connections on which nothing moves

DONE = "data: [DONE]\n\n"


class Chunks:
    """Makes the events of one answer."""

    def __init__(self, model: str) -> None:
        """Open an answer.

        Args:
            model: What was asked for, until it is known who answers.
        """
        self._model, self._created, self._id = model, int(time.time()), "ans-pending"

    def start(self, served: Served | None = None) -> str:
        """Who speaks."""
        if served is not None:
            self._id, self._model = served.answer.response_id, served.answer.model
        return self._event([_choice({"role": "assistant", "content": ""})])

    def draft(self, text: str | None) -> str:
        """What is being written (None: no draft comes); a client that does not know of it shows nothing."""
        return self._event([_choice({})], {"mark": {"draft": text}})

    def answer(self, served: Served, mark: Mark, include_usage: bool) -> list[str]:
        """The whole checked answer; the last chunk carries `mark`."""
        finish = "length" if served.usage.truncated else "stop"
        extra = {"mark": mark.model_dump(mode="json")}
        none: dict[str, Any] = {"usage": None} if include_usage else {}
        events = [
            self._event([_choice({"content": piece})], none) for piece in _PIECE.findall(served.answer.text)
        ]
        if not include_usage:
            return [*events, self._event([_choice({}, finish)], extra), DONE]
        usage = {"usage": Usage.of(served.usage).model_dump()}
        return [*events, self._event([_choice({}, finish)], none), self._event([], usage | extra), DONE]

    def _event(self, choices: list[dict[str, Any]], extra: dict[str, Any] | None = None) -> str:
        chunk = {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }
        return f"data: {json.dumps(chunk | (extra or {}))}\n\n"


class Drafts:
    """Carries the draft from the thread that writes it to the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue()

    def hear(self, piece: str | None) -> None:
        """Called in the thread that answers; None: there will be no draft."""
        self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)

    async def next(self) -> str | None:
        """The next piece."""
        return await self._pieces.get()


async def events(
    waiting: asyncio.Future[Served],
    chunks: Chunks,
    drafts: Drafts | None,
    finish: Callable[[Served], list[str]],
) -> AsyncIterator[str]:
    """The events of one answer.

    Args:
        waiting: The answer to come; cancelled where the client goes away.
        chunks: Makes them.
        drafts: What is being written, where it was asked for.
        finish: The events of the answer.
    """
    try:
        async for event in _until(waiting, chunks, drafts):
            yield event
        served = await waiting
        yield chunks.start(served)
        for event in finish(served):
            yield event
    except ApiError as fault:  # the status is sent already: the error follows as an event
        body = error_body(fault.status_code, fault.detail, fault.code)
        yield f"data: {json.dumps(body)}\n\n"
    finally:
        waiting.cancel()


async def _until(
    waiting: asyncio.Future[Served], chunks: Chunks, drafts: Drafts | None
) -> AsyncIterator[str]:
    """Signs of life, and pieces of the draft, until the answer is there."""
    piece = None if drafts is None else asyncio.ensure_future(drafts.next())
    try:
        while not waiting.done():
            tasks: set[asyncio.Future[Any]] = {waiting} if piece is None else {waiting, piece}
            done, _ = await asyncio.wait(tasks, timeout=_SIGN_OF_LIFE_S, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                yield ": waiting\n\n"
            elif drafts is not None and piece is not None and piece in done:
                yield chunks.draft(piece.result())
                piece = asyncio.ensure_future(drafts.next())
    finally:
        if piece is not None:
            piece.cancel()


def _choice(delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
