"""What people said about answers: untrusted until a review has accepted it.

`feedback/inbox.jsonl` gets what is sent, git-ignored; `data/feedback_accepted.jsonl` holds what a review took
over, sorted by id, and is the only feedback that a stage reads. Time and source stay in the inbox.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from mark.answering.quotes import fold
from mark.config import Feedback
from mark.data_prep.question_index import QuestionIndex
from mark.errors import DataError
from mark.files import read_jsonl, write_jsonl
from mark.records import Row

log = logging.getLogger(__name__)

INBOX = Path("feedback/inbox.jsonl")
REJECTED = Path("feedback/rejected.jsonl")  # ids that a review refused for good
ACCEPTED = Path("data/feedback_accepted.jsonl")

Encode = Callable[[Sequence[str]], NDArray[np.float32]]
Reason = Literal["duplicate", "rejected", "test question", "flood", "full"]


class AcceptedFeedback(Row):
    """One judgement of one answer."""

    id: str = Field(pattern=r"^[\w.-]{1,80}$")  # of the response
    question: str = Field(min_length=1, max_length=2000)
    contexts: list[str] = Field(max_length=20)  # chunk ids in prompt order
    answer: str = Field(min_length=1, max_length=8000)
    thumb: Literal["up", "down"] | None
    edited: str | None = Field(max_length=8000)  # what the answer should have been
    model: str = Field(max_length=80)
    adapter_sha256: str | None = Field(pattern=r"^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _says_something(self) -> AcceptedFeedback:
        if self.thumb is None and self.edited is None:
            raise ValueError("neither thumb nor edited answer")
        if self.edited is not None and not self.edited.strip():
            raise ValueError("edited answer is empty")
        return self

    @property
    def content(self) -> str:
        """What makes two judgements the same, whoever sent them."""
        said = (self.question, self.answer, self.edited or "", self.thumb or "")
        return "\x1f".join(fold(text).casefold() for text in said)


class InboxFeedback(AcceptedFeedback):
    """The same with who sent it and when."""

    source: str = Field(min_length=1, max_length=80)  # an opaque name of the sender
    received: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}")  # ISO time; the day counts

    def accepted(self) -> AcceptedFeedback:
        """What a stage may know of it."""
        return AcceptedFeedback.model_validate(self.model_dump(exclude={"source", "received"}))


class RejectedId(Row):
    """Feedback that a review refused."""

    id: str


@dataclass(frozen=True)
class Screened:
    """One row of the inbox and why it may not be accepted; None: it waits for a review."""

    row: InboxFeedback
    reason: Reason | None


@dataclass(frozen=True)
class Inbox:
    """What lies in the inbox."""

    rows: list[InboxFeedback]
    unreadable: int  # lines that are no feedback


def append_feedback(row: InboxFeedback, root: Path) -> None:
    """Put feedback into the inbox; nothing reads it before a review."""
    path = root / INBOX
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")), path.open("a", encoding="utf-8", newline="\n") as stream:
        stream.write(row.model_dump_json() + "\n")


def read_inbox(root: Path) -> Inbox:
    """The inbox, oldest first; lines that are no feedback are counted, never fatal."""
    path, rows, unreadable = root / INBOX, [], 0
    if not path.is_file():
        return Inbox([], 0)
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.strip():
            continue
        try:
            rows.append(InboxFeedback.model_validate_json(line))
        except ValidationError:
            unreadable += 1
    return Inbox(rows, unreadable)


def read_accepted(path: Path) -> list[AcceptedFeedback]:
    """The reviewed feedback, sorted by id.

    Raises:
        DataError: Missing, damaged, unsorted, or an id stands in it twice.
    """
    rows = read_jsonl(path, AcceptedFeedback)
    ids = [row.id for row in rows]
    if ids != sorted(set(ids)):
        raise DataError(f"{path} is not sorted by id, or holds an id twice; `mark feedback review` writes it")
    return rows


class TestQuestions:
    """Tells whether a question is a test question, in nearly the same words or meaning the same."""

    __test__ = False  # not a test of pytest's

    def __init__(self, questions: Sequence[str], encode: Encode | None = None) -> None:
        """Index them.

        Args:
            questions: Of the test.
            encode: Unit vectors of texts; None = wording only.
        """
        self._index, self._encode = QuestionIndex(), encode
        vectors = encode(list(questions)) if encode is not None and questions else [None] * len(questions)
        for question, vector in zip(questions, vectors, strict=True):
            self._index.add(question, vector)

    def near(self, questions: Sequence[str]) -> list[bool]:
        """Whether each is one of them."""
        encode = self._encode
        vectors = encode(list(questions)) if encode is not None and questions else [None] * len(questions)
        return [
            self._index.near(question, vector) is not None
            for question, vector in zip(questions, vectors, strict=True)
        ]


def screen(
    rows: Sequence[InboxFeedback],
    accepted: Sequence[AcceptedFeedback],
    rejected: Iterable[str],
    test: TestQuestions,
    limits: Feedback,
) -> list[Screened]:
    """Say of each row of the inbox whether a review may accept it.

    Out stay: what was accepted or rejected before, the same judgement again, questions of the test, and
    whatever one source sent beyond its share of the day.

    Args:
        rows: The inbox, oldest first.
        accepted: What was accepted before.
        rejected: Ids that were refused before.
        test: The test questions.
        limits: Section `rlhf.feedback`.
    """
    refused = set(rejected)
    ids, said = {row.id for row in accepted}, {row.content for row in accepted}
    sent: Counter[tuple[str, str]] = Counter()
    out = []
    for row, tested in zip(rows, test.near([row.question for row in rows]), strict=True):
        day = (row.source, row.received[:10])
        sent[day] += 1  # whatever it says: a flood of duplicates is a flood
        reason: Reason | None = None
        if row.id in refused:
            reason = "rejected"
        elif row.id in ids or row.content in said:
            reason = "duplicate"
        elif tested:
            reason = "test question"
        elif sent[day] > limits.max_per_source:
            reason = "flood"
        elif len(ids) >= limits.max_accepted:
            reason = "full"
        if reason is None:
            ids.add(row.id)
            said.add(row.content)
        out.append(Screened(row, reason))
    return out


def accept(screened: Sequence[Screened], ids: Sequence[str] | None, root: Path) -> list[str]:
    """Take waiting feedback over into data/feedback_accepted.jsonl.

    Args:
        screened: Of `screen`.
        ids: Which; None: all that wait.
        root: The project's root.

    Returns:
        The ids that were taken over.

    Raises:
        DataError: An id is not in the inbox, or may not be accepted (says why).
    """
    waiting = {item.row.id: item.row for item in screened if item.reason is None}
    for wanted in ids or ():
        if wanted not in waiting:
            reasons = sorted({item.reason or "" for item in screened if item.row.id == wanted})
            said = f"stays out: {', '.join(reasons)}" if reasons else "is not in the inbox"
            raise DataError(f"feedback {wanted} {said}; `mark feedback list` shows what waits")
    chosen = [waiting[i] for i in (waiting if ids is None else dict.fromkeys(ids))]
    rows = read_accepted(root / ACCEPTED) if (root / ACCEPTED).is_file() else []
    merged = sorted([*rows, *(row.accepted() for row in chosen)], key=lambda row: row.id)
    write_jsonl(root / ACCEPTED, merged)
    return [row.id for row in chosen]


def reject(ids: Sequence[str], root: Path) -> None:
    """Remember that feedback was refused."""
    known = read_jsonl(root / REJECTED, RejectedId) if (root / REJECTED).is_file() else []
    names = sorted({*(row.id for row in known), *ids})
    write_jsonl(root / REJECTED, [RejectedId(id=name) for name in names])


def rejected_ids(root: Path) -> list[str]:
    """Ids that a review refused."""
    path = root / REJECTED
    return [row.id for row in read_jsonl(path, RejectedId)] if path.is_file() else []
