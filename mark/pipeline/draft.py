"""Passing on an answer while it is written."""

from __future__ import annotations

from collections.abc import Callable

from mark.pipeline.checking import QuoteCheck, settled
from mark.pipeline.disclosure import InstructionGuard

Listener = Callable[[str], None]  # what it raises ends the writing


class Draft:
    """Passes on what is written; holds back open quotations and what may become a recital of the prompt."""

    def __init__(self, check: QuoteCheck, guard: InstructionGuard, listener: Listener) -> None:
        self._check, self._guard, self._listener, self._told = check, guard, listener, ""

    def hear(self, text: str) -> None:
        """The answer so far; the listener hears of each call, if only "", so that it can end the writing."""
        self._listener(self._new(self._guard.settled(self._check.without_fakes(settled(text.lstrip())))))

    def finish(self, text: str) -> None:
        """The whole answer."""
        if rest := self._new(self._guard.cut(self._check.without_fakes(text))):
            self._listener(rest)

    def _new(self, text: str) -> str:
        """What was not told before."""
        if not text.startswith(self._told):
            return ""
        new, self._told = text[len(self._told) :], text
        return new
