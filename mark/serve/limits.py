"""Limits of one request: how large its body may be and how long it may take to arrive."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import h11
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from mark.serve.errors import ApiError, error_response

_CLOSE = {"Connection": "close"}  # what is left of the body is not waited for


@dataclass(frozen=True)
class BodyLimit:
    """Of one kind of request."""

    size: int  # bytes
    seconds: float


class BodyLimits:
    """413 for a body that is too large, said beforehand or not; 408 for one that does not arrive in time."""

    def __init__(self, app: ASGIApp, usual: BodyLimit, by_path: dict[tuple[str, str], BodyLimit]) -> None:
        """Wrap an application.

        Args:
            app: What is guarded.
            usual: Of all requests but those below.
            by_path: By method and path.
        """
        self._app, self._usual, self._by_path = app, usual, by_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; its body is counted while it is read."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._by_path.get((scope["method"], scope["path"]), self._usual)
        length = Headers(scope=scope).get("content-length", "0")
        if not length.isdecimal() or int(length) > limit.size:
            await error_response(_too_large(limit))(scope, receive, send)
            return
        await self._app(scope, _Counted(receive, limit), send)


class _Counted:
    """Receives a body within its limits; what comes after it is the client's going away."""

    def __init__(self, receive: Receive, limit: BodyLimit) -> None:
        self._receive, self._limit = receive, limit
        self._ends = asyncio.get_running_loop().time() + limit.seconds
        self._left, self._complete = limit.size, False

    async def __call__(self) -> Message:
        if self._complete:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._ends):
                message = await self._receive()
        except TimeoutError:
            raise ApiError(
                408, f"the body did not arrive within {self._limit.seconds:g} s", "timeout", headers=_CLOSE
            ) from None
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise _too_large(self._limit)
        self._complete = not message.get("more_body", False)
        return message


def _too_large(limit: BodyLimit) -> ApiError:
    return ApiError(413, f"the body may have {limit.size} bytes", "body_too_large", headers=_CLOSE)


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP protocol that closes a connection whose request does not show its head in time."""

    head_seconds: float
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._arm()

    def data_received(self, data: bytes) -> None:
        """Wait on while the head is incomplete."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._disarm()
        elif self._waiting is None:
            self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._disarm()
        super().connection_lost(exc)

    def _arm(self) -> None:
        self._waiting = self.loop.call_later(self.head_seconds, self._give_up)

    def _disarm(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self) -> None:
        self._waiting = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()


def patient_protocol(head_seconds: float) -> type[PatientProtocol]:
    """The protocol with a limit."""
    return type("Protocol", (PatientProtocol,), {"head_seconds": head_seconds})
