"""What people said about answers: untrusted until a review has accepted it.

`feedback/inbox.jsonl` gets what is sent, git-ignored; `data/feedback_accepted.jsonl` holds what a review took
over, sorted by id, and is the only feedback that a stage reads. Time, source and comment stay in the inbox.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from mark.answering.quotes import fold
from mark.append_log import append, locked, read_lines
from mark.config import Feedback
from mark.data_prep.question_index import QuestionIndex
from mark.errors import DataError
from mark.files import read_jsonl, write_jsonl
from mark.records import Row

INBOX = Path("feedback/inbox.jsonl")
REJECTED = Path("feedback/rejected.jsonl")  # ids that a review refused for good
ACCEPTED = Path("data/feedback_accepted.jsonl")
MAX_QUESTION, MAX_ANSWER, MAX_COMMENT = 2000, 8000, 2000  # characters
INBOX_BYTES = 32 << 20  # what the inbox may grow to

Encode = Callable[[Sequence[str]], NDArray[np.float32]]
Reason = Literal["duplicate", "superseded", "rejected", "test question", "flood", "full"]
Placed = Literal["added", "changed", "already there"]
ChunkId = Annotated[str, Field(min_length=1, max_length=128)]


class AcceptedFeedback(Row):
    """One judgement of one answer."""

    id: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,80}$")  # of the response
    question: str = Field(min_length=1, max_length=MAX_QUESTION)
    contexts: list[ChunkId] = Field(max_length=20)  # in prompt order
    answer: str = Field(min_length=1, max_length=MAX_ANSWER)
    thumb: Literal["up", "down"] | None
    edited: str | None = Field(max_length=MAX_ANSWER)  # what the answer should have been
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
        return "\x1f".join(_visible(text).casefold() for text in said)


class InboxFeedback(AcceptedFeedback):
    """The same with who sent it and when."""

    source: str = Field(pattern=r"^[A-Za-z0-9_.:@+-]{1,80}$")  # an opaque name of the sender, given by us
    received: str = Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[0-9T:.Z+-]{0,25}$")  # ISO; the day counts
    comment: str | None = Field(default=None, max_length=MAX_COMMENT)  # for the reviewer

    def accepted(self) -> AcceptedFeedback:
        """What a stage may know of it."""
        return AcceptedFeedback.model_validate(self.model_dump(exclude={"source", "received", "comment"}))

    @property
    def seen(self) -> str:
        """The hash of what accepting it would take over, whoever sent it and when.

        128 bits: a sender can look for two edits with one hash, which would take 2^64 tries.
        """
        return hashlib.sha256(self.accepted().model_dump_json().encode()).hexdigest()[:32]


class RejectedId(Row):
    """Feedback that a review refused."""

    id: str


class NotReviewedError(DataError):
    """A review names feedback that it may not decide."""

    def __init__(self, feedback_id: str, message: str) -> None:
        super().__init__(f"feedback {printable(feedback_id)} {message}")
        self.feedback_id = feedback_id


@dataclass(frozen=True)
class Chosen:
    """Feedback that is to be accepted.

    Attributes:
        id: Of the response.
        seen: `InboxFeedback.seen` of what the reviewer was shown; None: whatever waits under the id.
    """

    id: str
    seen: str | None = None


@dataclass(frozen=True)
class Screened:
    """One row of the inbox and why it may not be accepted; None: it waits for a review."""

    row: InboxFeedback
    reason: Reason | None
    replaces: bool = False  # it changes what the same source said before and a review accepted


@dataclass(frozen=True)
class Inbox:
    """What lies in the inbox."""

    rows: list[InboxFeedback]
    unreadable: int  # lines that are no feedback


def append_feedback(row: InboxFeedback, root: Path) -> tuple[InboxFeedback, Placed]:
    """Put feedback into the inbox, once, and on the disk; nothing reads it before a review.

    A source that repeats its last judgement of a response adds nothing; a changed one follows the first and
    supersedes it in `screen`.

    Returns:
        The row in the inbox and what became of it.

    Raises:
        DataError: The inbox is full or cannot be written; it is as it was.
    """
    path = root / INBOX
    with locked(path):
        last = _last_judgement(path, row)
        if last is not None and last.model_copy(update={"received": row.received}) == row:
            return last, "already there"
        if path.is_file() and path.stat().st_size > INBOX_BYTES:
            raise DataError(f"{path} is full ({INBOX_BYTES >> 20} MiB): review it, then move it away")
        append(path, row.model_dump_json())
    return row, "added" if last is None else "changed"


def _last_judgement(path: Path, row: InboxFeedback) -> InboxFeedback | None:
    """What the row's source last said of the row's response."""
    last, named = None, row.id.encode()
    for line in read_lines(path):
        found = _parsed(line) if line is not None and named in line else None
        if found is not None and (found.id, found.source) == (row.id, row.source):
            last = found
    return last


def _parsed(line: bytes) -> InboxFeedback | None:
    try:
        return InboxFeedback.model_validate_json(line)
    except ValidationError:
        return None


def read_inbox(root: Path) -> Inbox:
    """The inbox, oldest first; lines that are no feedback are counted, never fatal."""
    found = [None if line is None else _parsed(line) for line in read_lines(root / INBOX)]
    rows = [row for row in found if row is not None]
    return Inbox(rows, len(found) - len(rows))


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
        seen = [_visible(question) for question in questions]
        vectors = encode(seen) if encode is not None and seen else [None] * len(seen)
        for question, vector in zip(seen, vectors, strict=True):
            self._index.add(question, vector)

    def near(self, questions: Sequence[str]) -> list[bool]:
        """Whether each is one of them."""
        encode, seen = self._encode, [_visible(question) for question in questions]
        vectors = encode(seen) if encode is not None and seen else [None] * len(seen)
        return [
            self._index.near(question, vector) is not None
            for question, vector in zip(seen, vectors, strict=True)
        ]


def screen(
    rows: Sequence[InboxFeedback],
    accepted: Sequence[AcceptedFeedback],
    rejected: Iterable[str],
    test: TestQuestions,
    limits: Feedback,
) -> list[Screened]:
    """Say of each row of the inbox whether a review may accept it.

    Out stay: what was accepted or rejected before, the same judgement again, what its source has changed
    since, a second source's judgement of the same response, questions of the test, and whatever one source
    sent beyond its share of the day. What changes an accepted judgement of the same source waits again.

    Args:
        rows: The inbox, oldest first.
        accepted: What was accepted before.
        rejected: Ids that were refused before.
        test: The test questions.
        limits: Section `rlhf.feedback`.
    """
    refused = set(rejected)
    before = {row.id: row.content for row in accepted}
    mine = {(row.id, row.source) for row in rows if before.get(row.id) == row.content}
    last = {(row.id, row.source): number for number, row in enumerate(rows)}
    waiting, said = set[str](), set(before.values())
    sent: Counter[tuple[str, str]] = Counter()
    out = []
    for number, (row, tested) in enumerate(zip(rows, test.near([r.question for r in rows]), strict=True)):
        key, day = (row.id, row.source), (row.source.casefold(), row.received[:10])
        sent[day] += 1  # whatever it says: a flood of duplicates is a flood
        reason: Reason | None = None
        if row.id in refused:
            reason = "rejected"
        elif last[key] != number:
            reason = "superseded"
        elif row.content in said or row.id in waiting or (row.id in before and key not in mine):
            reason = "duplicate"
        elif tested:
            reason = "test question"
        elif sent[day] > limits.max_per_source:
            reason = "flood"
        elif row.id not in before and len(before.keys() | waiting) >= limits.max_accepted:
            reason = "full"
        if reason is None:
            waiting.add(row.id)
            said.add(row.content)
        out.append(Screened(row, reason, replaces=reason is None and row.id in before))
    return out


def accept(screened: Sequence[Screened], choice: Sequence[Chosen] | None, root: Path) -> list[str]:
    """Take waiting feedback over into data/feedback_accepted.jsonl; `mark.rlhf.review` holds the lock.

    What was accepted of the same response before is replaced.

    Args:
        screened: Of `screen`.
        choice: Which; None: all that wait.
        root: The project's root.

    Returns:
        The ids that were taken over.

    Raises:
        NotReviewedError: An id is not in the inbox, may not be accepted (says why), or is not what was seen.
    """
    waiting = {item.row.id: item.row for item in screened if item.reason is None}
    for wanted in choice or ():
        if (row := waiting.get(wanted.id)) is None:
            reasons = sorted({item.reason or "" for item in screened if item.row.id == wanted.id})
            said = f"stays out: {', '.join(reasons)}" if reasons else "is not in the inbox"
            raise NotReviewedError(wanted.id, f"{said}; `mark feedback list` shows what waits")
        if wanted.seen not in (None, row.seen):
            raise NotReviewedError(wanted.id, "has changed since you saw it; look at it again")
    chosen = [waiting[i] for i in (waiting if choice is None else dict.fromkeys(one.id for one in choice))]
    rows = read_accepted(root / ACCEPTED) if (root / ACCEPTED).is_file() else []
    merged = {row.id: row for row in [*rows, *(row.accepted() for row in chosen)]}
    write_jsonl(root / ACCEPTED, [merged[name] for name in sorted(merged)])
    return [row.id for row in chosen]


def reject(ids: Sequence[str], root: Path) -> None:
    """Remember that feedback was refused, and take it out of what was accepted; see `accept` for the lock."""
    known = read_jsonl(root / REJECTED, RejectedId) if (root / REJECTED).is_file() else []
    names = sorted({*(row.id for row in known), *ids})
    write_jsonl(root / REJECTED, [RejectedId(id=name) for name in names])
    rows = read_accepted(root / ACCEPTED) if (root / ACCEPTED).is_file() else []
    if any(row.id in ids for row in rows):
        write_jsonl(root / ACCEPTED, [row for row in rows if row.id not in ids])


def rejected_ids(root: Path) -> list[str]:
    """Ids that a review refused."""
    path = root / REJECTED
    return [row.id for row in read_jsonl(path, RejectedId)] if path.is_file() else []


def printable(text: str) -> str:
    """A text as it may reach a terminal: quoted where a character of it would not show as itself."""
    return text if text.isprintable() and text else repr(text)


def _visible(text: str) -> str:
    """Folded, without characters that do not show: a zero-width space makes no other question."""
    normal = unicodedata.normalize("NFKC", text)
    return fold("".join(c for c in normal if c.isspace() or unicodedata.category(c) not in ("Cf", "Cc")))
