"""Passing on an answer while it is written."""

from __future__ import annotations

from collections.abc import Callable

from mark.pipeline.checking import QuoteCheck, settled

Listener = Callable[[str], None]


class Draft:
    """Passes on what is written, checked quotations and all; holds back a quotation until it is closed."""

    def __init__(self, check: QuoteCheck, listener: Listener) -> None:
        self._check, self._listener, self._told = check, listener, ""

    def hear(self, text: str) -> None:
        """The answer so far."""
        self._tell(self._check.without_fakes(settled(text.lstrip())))

    def finish(self, text: str) -> None:
        """The whole answer."""
        self._tell(self._check.without_fakes(text))

    def _tell(self, text: str) -> None:
        if text.startswith(self._told) and len(text) > len(self._told):
            self._listener(text[len(self._told) :])
            self._told = text
