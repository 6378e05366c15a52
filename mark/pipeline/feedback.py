"""Taking feedback to an answer, from wherever it comes: the command line, a chat, a server."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from mark.answering.quotes import fold
from mark.config import PARAMS, Serve, load_section
from mark.errors import DataError
from mark.pipeline.journal import JournalEntry, find_entry, newest_entry
from mark.rlhf.feedback import (
    MAX_ANSWER,
    MAX_COMMENT,
    MAX_QUESTION,
    InboxFeedback,
    Placed,
    append_feedback,
    printable,
)

Rating = Literal["up", "down"]
_SHOWN = 40  # characters of a wrong id


class UnknownResponseError(DataError):
    """Feedback names an answer that is not in the journal."""


class JudgementError(DataError):
    """Feedback says nothing, too much or what no text holds: its sender can mend it."""


@dataclass(frozen=True)
class FeedbackRow:
    """A judgement as it stands in the inbox.

    Attributes:
        row: What a review will see.
        placed: `already there`: the same source had said just this; nothing was written.
    """

    row: InboxFeedback
    placed: Placed


def add_feedback(
    root: Path,
    response_id: str,
    rating: Rating | None,
    edited: str | None,
    comment: str | None,
    source: str,
) -> FeedbackRow:
    """Put a judgement of an answer into the inbox: exactly once, and on the disk when this returns.

    Each call states the whole judgement: a later one of the same source takes the place of its earlier one.

    Args:
        root: The project's root.
        response_id: `Answer.response_id`.
        rating: Thumb up or down.
        edited: What the answer should have been.
        comment: For the reviewer.
        source: Who says so: a name that the caller gives, never one that a client chooses.

    Raises:
        UnknownResponseError: The journal does not hold the answer.
        JudgementError: Neither rating nor edit, an edit that is empty, too long or the answer itself, or a
            character that no text has.
        DataError: The inbox is full or held, or cannot be written; or the journal cannot be read.
    """
    entry = find_entry(root, response_id)
    if entry is None:
        raise _unknown(root, f"no answer {printable(response_id[:_SHOWN])}")
    _check(entry, rating, edited, comment)
    row = _row(entry, rating, edited, comment, source)
    return FeedbackRow(*append_feedback(row, root))


def newest_response_id(root: Path) -> str:
    """The id of the last answer that was given, by whomever; not for servers.

    Raises:
        UnknownResponseError: None is in the journal.
    """
    entry = newest_entry(root)
    if entry is None:
        raise _unknown(root, "no answer")
    return entry.response_id


def _unknown(root: Path, what: str) -> UnknownResponseError:
    keep = load_section(Serve, "serve", root / PARAMS).journal
    if keep == 0:
        return UnknownResponseError(
            "answers are not kept (serve.journal: 0), so feedback is not possible; set it in "
            "conf/serve/default.yaml and run `mark params`"
        )
    return UnknownResponseError(
        f"{what} among the newest {keep} (serve.journal); the id is in the last line of `mark ask`"
    )


def _check(entry: JournalEntry, rating: str | None, edited: str | None, comment: str | None) -> None:
    if not entry.answer.strip():
        raise JudgementError("the answer is empty; there is nothing to judge")
    for name, text, limit in (
        ("question", entry.question, MAX_QUESTION),
        ("answer", entry.answer, MAX_ANSWER),
        ("edited answer", edited, MAX_ANSWER),
        ("comment", comment, MAX_COMMENT),
    ):
        if text is not None and len(text) > limit:
            raise JudgementError(f"the {name} has {len(text)} characters, feedback takes at most {limit}")
    for name, text in (("edited answer", edited), ("comment", comment)):
        _check_characters(name, text or "")
    if rating not in ("up", "down", None):
        raise JudgementError(f"rating: {printable(str(rating)[:_SHOWN])} found, up or down is allowed")
    if edited is None and rating is None:
        raise JudgementError("neither a rating nor an edited answer was given; give one of them")
    if edited is not None and not fold(edited):
        raise JudgementError("the edited answer is empty; leave it out, or write what the answer should be")
    if edited is not None and fold(edited) == fold(entry.answer):
        raise JudgementError("the edited answer is the answer itself; rate it up instead")


def _check_characters(name: str, text: str) -> None:
    for char in text:
        if unicodedata.category(char) in ("Cc", "Cs") and char not in "\t\n\r":
            raise JudgementError(f"the {name} holds the control character {char!r}; remove it")


def _row(
    entry: JournalEntry, rating: Rating | None, edited: str | None, comment: str | None, source: str
) -> InboxFeedback:
    try:
        return InboxFeedback(
            id=entry.response_id,
            question=entry.question,
            contexts=entry.contexts,
            answer=entry.answer,
            thumb=rating,
            edited=edited,
            model=entry.model,
            adapter_sha256=entry.adapter_sha256,
            source=source,
            received=datetime.now(UTC).isoformat(timespec="seconds"),
            comment=comment or None,
        )
    except ValidationError as fault:
        first = fault.errors()[0]
        raise JudgementError(f"feedback: {first['loc'][0]}: {first['msg']}") from None
