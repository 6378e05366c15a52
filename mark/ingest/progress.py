"""A line now and then about work that takes longer than a few seconds."""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType

log = logging.getLogger(__name__)

_FIRST_S = 5.0
_SLOWER = 1.5  # each pause between two lines is this much longer than the last
_LONGEST_S = 30.0


class Progress:
    """Logs what is being done after five seconds and then ever more rarely, from a thread of its own.

    It speaks also while one file or one forward pass takes long.
    """

    def __init__(self, name: str, pause_s: float = _FIRST_S) -> None:
        """Nothing is logged before it is entered.

        Args:
            name: Opens each line.
            pause_s: Before the first line.
        """
        self._name = name
        self._pause_s = pause_s
        self._lines: dict[str, str] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._speak, daemon=True)

    def set(self, topic: str, text: str) -> None:
        """Replace what is said about a topic; topics appear in the order of their first use."""
        self._lines[topic] = text

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _speak(self) -> None:
        started, pause = time.monotonic(), self._pause_s
        while not self._done.wait(pause):
            told = "; ".join(text for text in list(self._lines.values()) if text)
            log.info("%s: %.0f s, %s", self._name, time.monotonic() - started, told or "working")
            pause = min(_LONGEST_S, pause * _SLOWER)
