"""The workers of a Ray cluster: each loads the embedder once, then makes document after document."""

from __future__ import annotations

import logging
import socket
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mark.config import RayCluster
from mark.errors import DataError, MarkError
from mark.ingest.cache import DocumentEntry, code_sha256, installed
from mark.ingest.layout import RawDocument
from mark.ingest.maker import DocumentMaker, MadeDocument
from mark.ingest.progress import Progress
from mark.ingest.report import QuarantinedFile

log = logging.getLogger(__name__)

_QUEUED = 2  # tasks of a worker: one runs, one waits
_AHEAD = 8  # files a worker that may wait for a slower one before them
_RESTARTS = 2  # of a worker, and of a document whose worker was lost
_CHECK_S = 300.0  # for the workers to load the embedder
_LOOK_S = 5.0  # between two looks at whether a new worker is ready


@dataclass(frozen=True)
class Task:
    """A document to make: a file, the rows of a collection, or an entry whose vectors are missing."""

    name: str
    content: str  # hash of its bytes
    path: str | None = None
    password: str | None = field(default=None, repr=False)
    rows: RawDocument | None = None
    entry: DocumentEntry | None = None


@dataclass(frozen=True)
class Fault:
    """What went wrong in a worker: a line for the user."""

    text: str


Outcome = MadeDocument | QuarantinedFile | Fault


class Worker:
    """Lives in a process of the cluster."""

    def __init__(
        self, settings: dict[str, Any], embedder: str, root: str, code: str, here: dict[str, str]
    ) -> None:
        """Load the embedder.

        Args:
            settings: The section `ingest`.
            embedder: Folder of the embedding model.
            root: Folder of the PDFs.
            code: Hash of the code that the results must come from.
            here: What `mark.ingest.cache.installed` found where the run was started.
        """
        import torch

        from mark.config import Ingest

        self._settings = Ingest.model_validate(settings)
        torch.set_num_threads(self._settings.ray.threads)
        self._root = Path(root)
        self._fault = self._check(Path(embedder), code, here)
        if self._fault is None:
            self._maker = DocumentMaker(self._settings, Path(embedder), None, Progress("ingest"))
            self._fault = self._warm_up()

    def ready(self) -> str | None:
        """What keeps this worker from working; None = nothing."""
        return self._fault

    def make(self, task: Task) -> Outcome:
        """Make one document."""
        try:
            return self._make(task)
        except MarkError as fault:
            return Fault(str(fault))

    def _make(self, task: Task) -> Outcome:
        from mark.ingest.pdf import PdfReader

        if task.entry is not None:
            return self._maker.of_entry(task.entry, task.content)
        if task.rows is not None:
            return self._maker.of_rows(task.rows)
        assert task.path is not None
        path = Path(task.path)
        if not path.is_file():
            return Fault(f"{path} is missing on {_host()}; put the project where all machines mount it")
        passwords = {} if task.password is None else {task.name: task.password}
        reading = PdfReader(self._root, self._settings, passwords).read(path)
        if isinstance(reading, QuarantinedFile):
            return reading
        return self._maker.of_reading(reading, task.content, task.name)

    def _check(self, embedder: Path, code: str, here: dict[str, str]) -> str | None:
        if code_sha256() != code:
            return f"the code on {_host()} is another one; bring all machines to one commit"
        for folder in (embedder, self._root):
            if not folder.is_dir():
                return f"{folder} is missing on {_host()}; put the project where all machines mount it"
        there = installed(embedder)
        other = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
        if other:
            return (
                f"{_host()} has another {', another '.join(other)} than the machine that runs ingest; "
                "install the same on all of them"
            )
        return None

    def _warm_up(self) -> str | None:
        from mark.ingest.pdf import PdfReader

        try:
            PdfReader(self._root, self._settings).check()
            self._maker.load()
        except MarkError as fault:
            return f"{_host()}: {fault}"
        return None


def _host() -> str:
    return socket.gethostname()


@dataclass(eq=False)
class Begun:
    """A task in a worker's hands."""

    task: Task
    worker: int = -1  # its number
    reference: Any = None  # to what comes of it
    lost: int = 0  # workers that were lost with it


class Pool:
    """The workers; each task goes to the one with the least to do.

    What a lost worker or machine had in hand goes to the others, and another worker is started where the
    cluster has room. Ray's own retries are off: they would wait for the lost machine.
    """

    def __init__(self, ray: Any, maker: DocumentMaker, root: Path, cluster: RayCluster) -> None:
        """Start them and wait until they are ready.

        Raises:
            MarkError: One cannot work.
        """
        self._ray = ray
        cores = int(ray.cluster_resources().get("CPU", 1))
        count = cluster.workers or max(1, cores // cluster.threads)
        self._made = ray.remote(Worker).options(num_cpus=cluster.threads, max_restarts=0, max_task_retries=0)
        settings, embedder = maker.settings.model_dump(), str(maker.embedder.resolve())
        self._arguments = (
            settings, embedder, str(root.resolve()), code_sha256(), installed(maker.embedder),
        )  # fmt: skip
        self._workers: dict[int, Any] = {}  # those that are ready
        self._coming: dict[Any, tuple[int, Any]] = {}  # whether it is ready -> number, worker
        self._begun: dict[Any, Begun] = {}  # what is under way
        self._started = 0
        self._most = count * (1 + _RESTARTS)
        self.ahead = count * _AHEAD
        log.info("ingest: %d Ray workers of %d cores, %d thread(s) each", count, cores, cluster.threads)
        for _ in range(count):
            self._start()
        self._take_in(at_first=True)

    def begin(self, task: Task) -> Begun:
        """Hand a task over; waits while all workers have enough to do."""
        begun = Begun(task)
        self._hand_over(begun)
        return begun

    def result(self, begun: Begun) -> MadeDocument | QuarantinedFile:
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
        assert isinstance(outcome, MadeDocument | QuarantinedFile)
        return outcome

    def _hand_over(self, begun: Begun) -> None:
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
        worker = self._made.remote(*self._arguments)
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
        while True:
            if waiting := list(self._coming):
                wanted = len(waiting) if at_first else 1
                timeout_s = 0.0 if self._workers else _CHECK_S
                done, _ = self._ray.wait(waiting, num_returns=wanted, timeout=timeout_s)
                if len(done) < wanted and not self._workers:
                    raise MarkError(
                        f"the Ray workers are not ready after {timeout_s:g} s; lower ingest.ray.workers or "
                        "ingest.ray.threads to what the cluster has free"
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


def _said(fault: Exception) -> str:
    """The line that names the reason: of a traceback in a worker the last one, else the first."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()] or [type(fault).__name__]
    return lines[-1] if any(line.startswith('File "') for line in lines) else lines[0]
