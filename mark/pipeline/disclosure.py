"""Answers that recite the prompt's instruction instead of answering: told to models, not to readers."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mark import prompting

RUN = 5  # words of the instruction in a row; fewer are ordinary speech
_WORD = re.compile(r"[^\W_]+")

_Run = tuple[str, ...]


class InstructionGuard:
    """Finds the instruction's words in an answer, save where the passages or the question hold them too."""

    def __init__(self, told: Iterable[str], with_passages: bool | None = None) -> None:
        """What may be repeated.

        Args:
            told: The question, and the passages with their headings.
            with_passages: Whether the prompt held passages, which decides its instruction; None: it is not
                known yet, and neither may be recited.
        """
        instructions = {True: prompting.INSTRUCTION, False: prompting.INSTRUCTION_WITHOUT_PASSAGES}
        held = [text for passages, text in instructions.items() if with_passages in (passages, None)]
        parts = [part for text in held for part in text.split(prompting.REFUSAL)]
        self._runs = _runs(parts) - _runs(told)

    def discloses(self, text: str) -> bool:
        """Whether a text recites the instruction."""
        return self.cut(text) != text

    def cut(self, text: str) -> str:
        """A text up to where it begins to recite the instruction."""
        words = list(_WORD.finditer(text))
        folded = [_folded(word.group()) for word in words]
        for at in range(len(words) - RUN + 1):
            if tuple(folded[at : at + RUN]) in self._runs:
                return text[: words[at].start()]
        return text

    def settled(self, text: str) -> str:
        """The part of a text still being written that what follows cannot make a recital."""
        text = self.cut(text)
        words = list(_WORD.finditer(text))
        for count in range(min(RUN, len(words)), 0, -1):
            *whole, last = (_folded(word.group()) for word in words[-count:])
            if any(list(r[: count - 1]) == whole and r[count - 1].startswith(last) for r in self._runs):
                return text[: words[-count].start()]
        return text


def _runs(texts: Iterable[str]) -> set[_Run]:
    found: set[_Run] = set()
    for text in texts:
        words = [_folded(word) for word in _WORD.findall(text)]
        found |= {tuple(words[at : at + RUN]) for at in range(len(words) - RUN + 1)}
    return found


def _folded(word: str) -> str:
    """A word as it is compared; folding may lengthen it (ß) or leave a mark behind (İ)."""
    return "".join(char for char in word.casefold() if char.isalnum())
