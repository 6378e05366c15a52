"""Passing on an answer while it is written."""

from __future__ import annotations

from collections.abc import Callable

from mark.pipeline.checking import QuoteCheck, settled
from mark.pipeline.disclosure import InstructionGuard

Listener = Callable[[str], None]


class Draft:
    """Passes on what is written; holds back open quotations and what may become a recital of the prompt."""

    def __init__(self, check: QuoteCheck, guard: InstructionGuard, listener: Listener) -> None:
        self._check, self._guard, self._listener, self._told = check, guard, listener, ""

    def hear(self, text: str) -> None:
        """The answer so far."""
        self._tell(self._guard.settled(self._check.without_fakes(settled(text.lstrip()))))

    def finish(self, text: str) -> None:
        """The whole answer."""
        self._tell(self._guard.cut(self._check.without_fakes(text)))

    def _tell(self, text: str) -> None:
        if text.startswith(self._told) and len(text) > len(self._told):
            self._listener(text[len(self._told) :])
            self._told = text
