"""Requests and tokens a minute, kept by all workers together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Pacer:
    """Spreads requests evenly, so that no minute holds more than the limits (plus the one that opens it).

    Source: the virtual scheduling algorithm of ITU-T I.371, annex A, with no tolerance for bursts.
    """

    def __init__(
        self,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._request_s = 0.0 if requests_per_minute is None else 60.0 / requests_per_minute
        self._token_s = 0.0 if tokens_per_minute is None else 60.0 / tokens_per_minute
        self._clock = clock
        self._next = clock()
        self._lock = threading.Lock()

    def reserve(self, tokens: int) -> float:
        """Take the next free place.

        Args:
            tokens: Of the request and its reply.

        Returns:
            Seconds until that place, >= 0.
        """
        with self._lock:
            now = self._clock()
            start = max(now, self._next)
            self._next = start + max(self._request_s, tokens * self._token_s)
            return start - now

    def pause(self, seconds: float) -> None:
        """Give out no place before so many seconds from now: the endpoint asked for it."""
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)
