"""What was answered, so that feedback can name an answer by its id: feedback/answers.jsonl, the newest only.

It holds people's questions. `serve.journal: 0` keeps none; then no feedback can be given.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field, ValidationError

from mark.append_log import append, locked, read_lines, rewrite
from mark.errors import DataError
from mark.pipeline.answer import RESPONSE_ID, Answer
from mark.records import Row

log = logging.getLogger(__name__)

JOURNAL = Path("feedback/answers.jsonl")
_SLACK = 0.1  # of what is kept may lie there beyond it, so that not each answer rewrites the file


class JournalEntry(Row):
    """One answer: what feedback to it has to state, and no more."""

    response_id: str = Field(pattern=RESPONSE_ID)
    time: str  # ISO, UTC
    question: str
    contexts: list[str]  # chunk ids in prompt order
    answer: str
    refused: bool
    model: str
    adapter_sha256: str | None  # of the adapter, or of a base model's weights


class Journal:
    """The newest answers; may be shared by threads and written by several processes."""

    def __init__(self, root: Path, keep: int) -> None:
        """Nothing is read or written yet.

        Args:
            root: The project's root.
            keep: Answers to keep; 0 = none.
        """
        self._path, self._keep = root / JOURNAL, keep

    def write(self, answers: Sequence[Answer]) -> None:
        """Keep answers; where that fails the reader still gets them, and the log says so."""
        if not self._keep:
            return
        now = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            with locked(self._path):
                for answer in answers:
                    append(self._path, _entry(answer, now).model_dump_json())
                self._forget_old()
        except DataError as fault:
            log.warning("the answer is not journalled, feedback to it is not possible: %s", fault)

    def _forget_old(self) -> None:
        if sum(1 for _ in read_lines(self._path)) > self._keep + int(self._keep * _SLACK):
            lines = [line for line in read_lines(self._path) if line is not None]
            rewrite(self._path, lines[-self._keep :])


def find_entry(root: Path, response_id: str) -> JournalEntry | None:
    """The answer with an id, None where the journal does not hold it."""
    named = response_id.encode("utf-8", errors="replace")
    for line in read_lines(root / JOURNAL):
        if line is not None and named in line:
            entry = _parsed(line)
            if entry is not None and entry.response_id == response_id:
                return entry
    return None


def newest_entry(root: Path) -> JournalEntry | None:
    """The last answer that was given, None where the journal is empty."""
    newest = None
    for line in read_lines(root / JOURNAL):
        newest = (_parsed(line) if line is not None else None) or newest
    return newest


def _entry(answer: Answer, now: str) -> JournalEntry:
    return JournalEntry(
        response_id=answer.response_id,
        time=now,
        question=_text(answer.question),
        contexts=[context.chunk_id for context in answer.contexts],
        answer=_text(answer.text),
        refused=answer.refused,
        model=answer.model,
        adapter_sha256=answer.model_sha256,
    )


def _text(text: str) -> str:
    """Without lone surrogates, which a command line in another encoding leaves and no file can hold."""
    return text.encode("utf-8", errors="replace").decode("utf-8")


def _parsed(line: bytes) -> JournalEntry | None:
    """An entry, None for a damaged line."""
    try:
        return JournalEntry.model_validate_json(line)
    except ValidationError:
        return None
