"""Questions that arrive together are answered together: a bounded queue and one thread that answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from mark.config import Serve
from mark.errors import DataError, MarkError
from mark.models.faults import first_line
from mark.pipeline.answer import Answer
from mark.pipeline.auto import AutoPipeline
from mark.pipeline.draft import Listener
from mark.pipeline.usage import Usage
from mark.serve.errors import ApiError, of_pipeline
from mark.serve.metrics import Metrics
from mark.serve.pool import PipelinePool
from mark.serve.schema import AUTO

log = logging.getLogger(__name__)

DraftListener = Callable[[str | None], None]  # None: no draft comes, the question is answered with others
_Result = tuple[Answer, Usage] | Exception


class _UnwantedError(Exception):
    """Nobody waits any more for what is being written."""


@dataclass(frozen=True)
class Served:
    """An answer with what the server knows of it."""

    answer: Answer
    usage: Usage
    queue_s: float


@dataclass(eq=False)
class Job:
    """A question that waits; whoever cancels `done` takes it out of the queue."""

    question: str
    model: str
    listener: DraftListener | None  # is told the draft where the question is answered alone
    done: asyncio.Future[Served]
    entered: float = field(default_factory=time.perf_counter)


class Batcher:
    """Takes questions in, gives answers out; made and used in one event loop."""

    def __init__(self, pool: PipelinePool, settings: Serve, metrics: Metrics) -> None:
        self._pool, self._settings, self._metrics = pool, settings, metrics
        self._waiting: deque[Job] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "answering")
        self._seconds = 1.0  # of the last batch, a question
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to answer; the model is loaded meanwhile."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Answer what waits, then stop."""
        self._closing = True
        self._arrived.set()
        if self._task is not None:
            await self._task
        self._thread.shutdown()

    def submit(self, question: str, model: str = AUTO, listener: DraftListener | None = None) -> Job:
        """Put a question at the end of the queue.

        Args:
            question: In plain language.
            model: Who is to answer.
            listener: Is told the draft, in the thread that answers, where no others are answered with it.

        Raises:
            ApiError: 429 where the queue is full, 503 where the server is stopping.
        """
        if self._closing:
            raise ApiError(503, "this server is stopping; ask again in a moment", "stopping")
        if len(self._waiting) >= self._settings.queue_size:
            wait = max(1, math.ceil(len(self._waiting) * self._seconds))
            raise ApiError(
                429,
                f"{len(self._waiting)} questions wait already (serve.queue_size); ask again in {wait} s",
                "queue_full",
                headers={"Retry-After": str(wait)},
            )
        job = Job(question, model, listener, asyncio.get_running_loop().create_future())
        job.done.add_done_callback(lambda _: self._forget(job))
        self._waiting.append(job)
        self._count()
        self._arrived.set()
        return job

    async def preload(self) -> str:
        """Load `auto` in the thread that answers.

        Returns:
            Who answers.

        Raises:
            MarkError: It does not load.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: self._pool.get(AUTO).model)

    def _forget(self, job: Job) -> None:
        if job.done.cancelled() or job in self._waiting:
            self._metrics.dropped.inc()
        with contextlib.suppress(ValueError):
            self._waiting.remove(job)
            self._count()

    def _count(self) -> None:
        self._metrics.queue.set(len(self._waiting))

    async def _run(self) -> None:
        while True:
            self._arrived.clear()
            if self._waiting:
                batch = await self._gather()
                if batch:
                    await self._answer(batch)
            elif self._closing:
                return
            else:
                await self._arrived.wait()

    async def _gather(self) -> list[Job]:
        """The oldest question and those for the same model that come within the window."""
        ends = self._waiting[0].entered + self._settings.batch_window_ms / 1000
        while not self._closing and len(self._mates()) < self._settings.max_batch:
            left = ends - time.perf_counter()
            if left <= 0 or not self._waiting:
                break
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), left)
        batch = self._mates()[: self._settings.max_batch]
        for job in batch:
            self._waiting.remove(job)
            if job.listener is not None and len(batch) > 1:
                job.listener(None)
                job.listener = None
        self._count()
        return batch

    def _mates(self) -> list[Job]:
        return [job for job in self._waiting if job.model == self._waiting[0].model]

    async def _answer(self, batch: Sequence[Job]) -> None:
        started = time.perf_counter()
        loop = asyncio.get_running_loop()
        results = await loop.run_in_executor(self._thread, self._results, batch)
        self._seconds = (time.perf_counter() - started) / len(batch)
        self._metrics.batches.observe(len(batch))
        for job, result in zip(batch, results, strict=True):
            if isinstance(result, tuple):
                self._metrics.answered(*result, started - job.entered)
            if job.done.done():
                continue
            if isinstance(result, tuple):
                job.done.set_result(Served(*result, started - job.entered))
            else:
                job.done.set_exception(_api_error(result))

    def _results(self, batch: Sequence[Job]) -> list[_Result]:
        """In the answering thread: one result a question; a fault of one does not concern the others."""
        try:
            pipeline = self._pool.get(batch[0].model)
            return _ask(pipeline, batch)
        except DataError as fault:
            if len(batch) == 1:
                return [fault]
            return [result for job in batch for result in self._results([job])]
        except Exception as fault:  # noqa: BLE001  # whatever it is, the next question is answered
            return [fault] * len(batch)


def _ask(pipeline: AutoPipeline, batch: Sequence[Job]) -> list[_Result]:
    if batch[0].listener is not None:
        answers = [pipeline.process_query(batch[0].question, _while_wanted(batch[0], batch[0].listener))]
    else:
        answers = pipeline.process_queries([job.question for job in batch])
    return [(answer, pipeline.usage(answer)) for answer in answers]


def _while_wanted(job: Job, listener: DraftListener) -> Listener:
    """Passes the draft on, and stops the writing where nobody waits for it any more."""

    def hear(piece: str) -> None:
        if job.done.done():
            raise _UnwantedError
        if piece:
            listener(piece)

    return hear


def _api_error(fault: Exception) -> ApiError:
    if isinstance(fault, MarkError):
        return of_pipeline(fault)
    log.error("answering failed: %s", first_line(fault), exc_info=fault)
    return ApiError(500, "answering failed; the server's log says why", "answering_failed")
