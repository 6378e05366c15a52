"""Workers on a Ray cluster; what a lost one had in hand goes to the others."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from mark.config import RayCluster
from mark.errors import DataError, MarkError

log = logging.getLogger(__name__)

_QUEUED = 2  # tasks of a worker: one runs, one waits
_AHEAD = 8  # tasks a worker that may wait for a slower one before them
_RESTARTS = 2  # of a worker, and of a task whose worker was lost
_CHECK_S = 300.0  # for the workers to load what they work with
_LOOK_S = 5.0  # between two looks at whether a new worker is ready


class Task(Protocol):
    """What a worker is given."""

    @property
    def name(self) -> str:
        """As messages call it."""
        ...


T = TypeVar("T", bound=Task)
R = TypeVar("R")


@dataclass(frozen=True)
class Fault:
    """What went wrong in a worker: a line for the user."""

    text: str


@dataclass(frozen=True)
class Job:
    """What the workers are.

    Attributes:
        section: Of the settings, which messages name: `ingest`, `data_prep`.
        worker: Their class. `ready()` says in a line what keeps one from working, or None; `make(task)`
            gives the outcome of a task, or a `Fault`.
        arguments: What each of them is made with.
    """

    section: str
    worker: type
    arguments: tuple[Any, ...]


@dataclass(eq=False)
class Begun(Generic[T]):
    """A task in a worker's hands."""

    task: T
    worker: int = -1  # its number
    reference: Any = None  # to what comes of it
    lost: int = 0  # workers that were lost with it


class Pool(Generic[T, R]):
    """The workers; each task goes to the one with the least to do.

    What a lost worker or machine had in hand goes to the others, and another worker is started where the
    cluster has room. Ray's own retries are off: they would wait for the lost machine.
    """

    def __init__(self, ray: Any, job: Job, cluster: RayCluster) -> None:
        """Start them and wait until they are ready; use it as a context manager, which ends them.

        Args:
            ray: See `connected`.
            job: What they are.
            cluster: How many, of how many cores.

        Raises:
            MarkError: One cannot work.
        """
        self._ray = ray
        self._job = job
        cores = int(ray.cluster_resources().get("CPU", 1))
        count = cluster.workers or max(1, cores // cluster.threads)
        self._made = ray.remote(job.worker).options(
            num_cpus=cluster.threads, max_restarts=0, max_task_retries=0
        )
        self._workers: dict[int, Any] = {}  # those that are ready
        self._coming: dict[Any, tuple[int, Any]] = {}  # whether it is ready -> number, worker
        self._begun: dict[Any, Begun[T]] = {}  # what is under way
        self._started = 0
        self._most = count * (1 + _RESTARTS)
        self.ahead = count * _AHEAD
        text = "%s: %d Ray workers of %d cores, %d thread(s) each"
        log.info(text, job.section, count, cores, cluster.threads)
        for _ in range(count):
            self._start()
        self._take_in(at_first=True)

    def __enter__(self) -> Pool[T, R]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in (*self._workers.values(), *(worker for _, worker in self._coming.values())):
            self._ray.kill(worker)

    def begin(self, task: T) -> Begun[T]:
        """Hand a task over; waits while all workers have enough to do."""
        begun = Begun(task)
        self._hand_over(begun)
        return begun

    def result(self, begun: Begun[T]) -> R:
        """What became of a task.

        Raises:
            DataError: The worker says what the user must mend.
            MarkError: It failed, or several workers were lost with it.
        """
        from ray.exceptions import RayActorError, RayError, RayTaskError

        while True:
            try:
                outcome = self._ray.get(begun.reference)
                break
            except RayTaskError as fault:
                raise MarkError(f"{begun.task.name}: a Ray worker failed ({_said(fault)})") from fault
            except RayError as fault:
                begun.lost += 1
                if begun.lost > _RESTARTS:
                    raise MarkError(
                        f"{begun.task.name}: {begun.lost} Ray workers were lost with it ({_said(fault)}); "
                        "see Ray's logs, then try again"
                    ) from None
                log.warning(
                    "%s: a Ray worker was lost (%s); another one takes over", begun.task.name, _said(fault)
                )
                self._begun.pop(begun.reference, None)
                if isinstance(fault, RayActorError):
                    self._lose(begun.worker)
                self._hand_over(begun)
        self._begun.pop(begun.reference, None)
        if isinstance(outcome, Fault):
            raise DataError(outcome.text)
        made: R = outcome
        return made

    def _hand_over(self, begun: Begun[T]) -> None:
        while True:
            self._take_in()
            load = Counter(one.worker for one in self._begun.values())
            least = min(self._workers, key=lambda number: load[number])
            if load[least] < _QUEUED:
                break
            done, _ = self._ray.wait(list(self._begun), num_returns=1, timeout=_LOOK_S)
            for reference in done:
                del self._begun[reference]
        begun.worker, begun.reference = least, self._workers[least].make.remote(begun.task)
        self._begun[begun.reference] = begun

    def _start(self) -> None:
        worker = self._made.remote(*self._job.arguments)
        self._coming[worker.ready.remote()] = (self._started, worker)
        self._started += 1

    def _lose(self, number: int) -> None:
        """Give a worker up, unless that was done for another task of it."""
        worker = self._workers.pop(number, None)
        if worker is None:
            return
        self._ray.kill(worker)  # where it is only out of reach
        if self._started < self._most:
            self._start()

    def _take_in(self, at_first: bool = False) -> None:
        """Let those work that have become ready; waits while nobody does.

        Args:
            at_first: Wait for every one that was started.

        Raises:
            DataError: One says what the user must mend.
            MarkError: None is left, or none is ready in time.
        """
        section = self._job.section
        while True:
            if waiting := list(self._coming):
                wanted = len(waiting) if at_first else 1
                timeout_s = 0.0 if self._workers else _CHECK_S
                done, _ = self._ray.wait(waiting, num_returns=wanted, timeout=timeout_s)
                if len(done) < wanted and not self._workers:
                    raise MarkError(
                        f"the Ray workers are not ready after {timeout_s:g} s; lower "
                        f"{section}.ray.workers or {section}.ray.threads to what the cluster has free"
                    )
                for reference in done:
                    self._greet(reference, at_first)
            if self._workers:
                return
            if not self._coming:
                raise MarkError("all Ray workers were lost; see Ray's logs, then try again")

    def _greet(self, reference: Any, at_first: bool) -> None:
        """A worker that says whether it can work."""
        from ray.exceptions import RayError

        number, worker = self._coming.pop(reference)
        try:
            fault = self._ray.get(reference)
        except RayError as lost:
            if at_first:
                raise MarkError(f"a Ray worker cannot start ({_said(lost)}); see Ray's logs") from None
            if self._started < self._most:
                self._start()
            return
        if fault is not None:
            raise DataError(fault)
        self._workers[number] = worker


def in_order(pool: Pool[T, R], tasks: Iterable[T]) -> Iterator[R]:
    """The outcomes of tasks in their order, some made ahead.

    Raises:
        MarkError: See `Pool.result`.
    """
    waiting: deque[Begun[T]] = deque()
    for task in tasks:
        waiting.append(pool.begin(task))
        while len(waiting) > pool.ahead:
            yield pool.result(waiting.popleft())
    while waiting:
        yield pool.result(waiting.popleft())


def _said(fault: Exception) -> str:
    """The line that names the reason: of a traceback in a worker the last one, else the first."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()] or [type(fault).__name__]
    return lines[-1] if any(line.startswith('File "') for line in lines) else lines[0]
