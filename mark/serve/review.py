"""/v1/feedback/inbox and /v1/feedback/review: what `mark feedback list` and `review` do, behind the token."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from mark.errors import ConfigError, DataError, MarkError
from mark.files import CHUNKS, iter_jsonl
from mark.records import Chunk
from mark.rlhf.feedback import ACCEPTED, Chosen, NotReviewedError, Reason, Screened, read_accepted
from mark.rlhf.review import Reviewed, Waiting
from mark.serve.errors import ApiError, check_wanted, told
from mark.serve.screening import Screening
from mark.serve.security import ReviewersOnly, Tokens

Done = TypeVar("Done")
State = Literal["waiting", "out"]
ResponseId = Annotated[str, Field(max_length=80)]

_MAX_IDS = 500  # of one review
_READERS = 32  # requests for the inbox at once; more are told 429
_WHY: dict[Reason, str] = {
    "duplicate": "the same was said before, or another sender has judged this answer already",
    "superseded": "its sender has said something else of this answer since",
    "rejected": "a review has refused feedback on this answer",
    "test question": "it asks nearly what a test question asks; what is tested is never trained on",
    "flood": "its sender sent more on that day than is taken (rlhf.feedback.max_per_source)",
    "full": "as much as may be is accepted already (rlhf.feedback.max_accepted)",
}


class ShownPassage(BaseModel):
    """A passage that the answer was made from."""

    chunk_id: str
    title: str
    heading: str
    pages: list[int]
    text: str | None  # None: it is in the documents no more


class InboxItem(BaseModel):
    """One judgement. All of its text is untrusted."""

    id: str  # of the response
    seen: str  # hash of what accepting it takes over; goes back with the id
    question: str
    answer: str
    edited: str | None  # what the answer should have been
    thumb: Literal["up", "down"] | None
    comment: str | None
    source: str  # an opaque name of the sender
    received: str
    model: str
    passages: list[ShownPassage]  # in prompt order
    replaces: bool  # it changes what its sender said before and a review accepted
    reason: Reason | None  # why it cannot be accepted; None: it waits
    why: str | None  # the same as a sentence


class StaysOut(BaseModel):
    """How many rows cannot be accepted for one reason."""

    reason: Reason
    count: int


class InboxPage(BaseModel):
    """A part of the inbox, oldest first, and the counts of the whole."""

    object: Literal["list"] = "list"
    data: list[InboxItem]
    state: State
    offset: int
    total: int  # rows in this state
    waiting: int
    stays_out: list[StaysOut]
    unreadable: int  # lines that are no feedback
    accepted: int  # rows of data/feedback_accepted.jsonl


class Acceptance(BaseModel):
    """What the reviewer accepts: not what its sender may have put in its place since."""

    model_config = ConfigDict(extra="forbid")

    id: ResponseId
    seen: Annotated[str, Field(max_length=80)]  # as the inbox gave it


class ReviewRequest(BaseModel):
    """Both lists are done together or not at all."""

    model_config = ConfigDict(extra="forbid")

    accept: list[Acceptance] = Field(default_factory=list, max_length=_MAX_IDS)
    reject: list[ResponseId] = Field(default_factory=list, max_length=_MAX_IDS)


class ReviewDone(BaseModel):
    """What a review wrote."""

    object: Literal["review"] = "review"
    accepted: list[str]
    rejected: list[str]


class ReviewDesk:
    """Shows the inbox and takes reviews, one at a time, in a thread of its own."""

    def __init__(self, root: Path, tokens: Tokens) -> None:
        """Nothing is read yet.

        Args:
            root: The project's root.
            tokens: Who may review; without any the server takes no reviews.
        """
        self._root, self._reviewers = root, ReviewersOnly(tokens)
        self._thread = ThreadPoolExecutor(1, "review")
        self._busy = asyncio.Lock()
        self._screening = Screening(root)
        self._under_way: asyncio.Task[Waiting] | None = None
        self._readers = 0

    def router(self) -> APIRouter:
        """The routes."""
        routes = APIRouter(prefix="/v1/feedback", dependencies=[Depends(self._reviewers)])

        @routes.get("/inbox")
        async def inbox(
            request: Request,
            state: State = "waiting",
            offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
            limit: Annotated[int, Query(ge=1, le=100)] = 20,
        ) -> InboxPage:
            """What waits for a review, or what stays out and why."""
            with self._reader():
                found = await self._inbox()
                await check_wanted(request)
                return await self._in_thread(lambda: self._page(found, state, offset, limit))

        @routes.post("/review")
        async def decide(body: ReviewRequest) -> ReviewDone:
            """Accept and reject; where an id does not allow it, nothing is written."""
            if not (body.accept or body.reject):
                raise ApiError(400, "neither accept nor reject names an id", "empty_review")
            if self._busy.locked():
                raise _busy("another review goes on")
            async with self._busy:
                done = await self._in_thread(lambda: self._review(body))
            return ReviewDone(accepted=done.accepted, rejected=done.rejected)

        return routes

    def close(self) -> None:
        """What waits for the thread is not done any more; a review that is written is written to its end."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    @contextlib.contextmanager
    def _reader(self) -> Iterator[None]:
        if self._readers >= _READERS:
            raise _busy("too many ask for the inbox")
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1

    async def _inbox(self) -> Waiting:
        """The screened inbox; who asks while it is screened waits for the same."""
        if self._under_way is None or self._under_way.done():
            self._under_way = asyncio.create_task(self._in_thread(self._screening.inbox))
        return await asyncio.shield(self._under_way)

    async def _in_thread(self, work: Callable[[], Done]) -> Done:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except NotReviewedError as fault:
            raise ApiError(409, told(fault, self._root), "not_reviewed", fault.feedback_id) from None
        except ConfigError as fault:
            raise ApiError(400, told(fault, self._root), "invalid_review") from None
        except MarkError as fault:
            raise ApiError(409, told(fault, self._root), "not_reviewed") from None

    def _review(self, body: ReviewRequest) -> Reviewed:
        return self._screening.review([Chosen(one.id, one.seen) for one in body.accept], body.reject)

    def _page(self, found: Waiting, state: State, offset: int, limit: int) -> InboxPage:
        waiting = [item for item in found.screened if item.reason is None]
        out = [item for item in found.screened if item.reason is not None]
        chosen = waiting if state == "waiting" else out
        shown = chosen[offset : offset + limit]
        chunks = self._chunks({name for item in shown for name in item.row.contexts})
        counts = Counter(item.reason for item in out if item.reason is not None)
        accepted = self._root / ACCEPTED
        return InboxPage(
            data=[_item(item, chunks) for item in shown],
            state=state,
            offset=offset,
            total=len(chosen),
            waiting=len(waiting),
            stays_out=[StaysOut(reason=reason, count=count) for reason, count in sorted(counts.items())],
            unreadable=found.unreadable,
            accepted=len(read_accepted(accepted)) if accepted.is_file() else 0,
        )

    def _chunks(self, wanted: set[str]) -> dict[str, Chunk]:
        found: dict[str, Chunk] = {}
        if wanted:
            try:
                _collect(iter_jsonl(self._root / CHUNKS, Chunk), wanted, found)
            except DataError:  # ingest writes it anew: the review goes on without passages
                return found
        return found


def _busy(why: str) -> ApiError:
    return ApiError(429, f"{why}; send it again in a moment", "busy", headers={"Retry-After": "5"})


def _collect(chunks: Iterable[Chunk], wanted: set[str], found: dict[str, Chunk]) -> None:
    for chunk in chunks:
        if chunk.chunk_id in wanted:
            found[chunk.chunk_id] = chunk
            if len(found) == len(wanted):
                return


def _item(item: Screened, chunks: dict[str, Chunk]) -> InboxItem:
    row = item.row
    return InboxItem(
        **row.model_dump(exclude={"schema_version", "contexts", "adapter_sha256"}),
        seen=row.seen,
        passages=[_passage(name, chunks.get(name)) for name in row.contexts],
        replaces=item.replaces,
        reason=item.reason,
        why=None if item.reason is None else _WHY[item.reason],
    )


def _passage(name: str, chunk: Chunk | None) -> ShownPassage:
    if chunk is None:
        return ShownPassage(chunk_id=name, title="", heading="", pages=[], text=None)
    heading = " > ".join(chunk.heading_path)
    return ShownPassage(chunk_id=name, title=chunk.title, heading=heading, pages=chunk.pages, text=chunk.text)
