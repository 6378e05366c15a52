"""An engine that tells what it writes while it writes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from mark.answering.decoding import BatchState
from mark.answering.engine import Engine


class StreamingEngine(Engine):
    """The engine of the eval stage; `listener`, where set, hears one request's text after each token."""

    listener: Callable[[str], None] | None = None

    def _write(self, state: BatchState, logits: Tensor) -> tuple[list[list[int]], list[list[float]]]:
        if self.listener is None or len(logits) != 1:
            return super()._write(state, logits)
        return super()._write(_Overheard(state, self.tokenizer, self.listener), logits)


class _Overheard:
    """A batch state of one row that reports each token which is appended to it."""

    def __init__(self, state: BatchState, tokenizer: Any, listener: Callable[[str], None]) -> None:
        self._state, self._tokenizer, self._listener = state, tokenizer, listener
        self._tokens: list[int] = []

    def start(self, prompts: list[list[int]]) -> Tensor:
        return self._state.start(prompts)

    def probe(self, tokens: list[int]) -> Tensor:
        return self._state.probe(tokens)

    def step(self, tokens: Tensor) -> Tensor:
        self._tokens += tokens.tolist()
        self._listener(self._tokenizer.decode(self._tokens, skip_special_tokens=True))
        return self._state.step(tokens)

    def keep(self, rows: Tensor) -> None:
        self._state.keep(rows)
