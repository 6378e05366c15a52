"""Ingest on a Ray cluster: workers load the embedder once, then read, clean, cut and embed file by file.

The process that started them looks into the cache, orders what comes back as the files stand, and alone
writes; so the outputs are those of the local engine, to the byte where the machines compute alike.
"""

from __future__ import annotations

import logging
import os
import socket
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mark.config import RayCluster
from mark.corpus.passwords import read_passwords
from mark.errors import DataError, MarkError
from mark.files import sha256_file
from mark.ingest.cache import DocumentEntry, code_sha256
from mark.ingest.layout import RawDocument
from mark.ingest.maker import DocumentMaker, MadeDocument
from mark.ingest.progress import Progress
from mark.ingest.report import DuplicateFile, QuarantinedFile

log = logging.getLogger(__name__)

_QUEUED = 2  # tasks of a worker: one runs, one waits
_AHEAD = 8  # files a worker that may wait for a slower one before them
_RESTARTS = 2  # of a worker whose machine was lost
_CHECK_S = 300.0  # for the workers to load the embedder
_CONNECT_S = 10.0


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

    def __init__(self, settings: dict[str, Any], embedder: str, root: str, code: str) -> None:
        """Load the embedder.

        Args:
            settings: The section `ingest`.
            embedder: Folder of the embedding model.
            root: Folder of the PDFs.
            code: Hash of the code that the results must come from.
        """
        import torch

        from mark.config import Ingest

        self._settings = Ingest.model_validate(settings)
        torch.set_num_threads(self._settings.ray.threads)
        self._root = Path(root)
        self._fault = self._check(Path(embedder), code)
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

    def _check(self, embedder: Path, code: str) -> str | None:
        if code_sha256() != code:
            return f"the code on {_host()} is another one; bring all machines to one commit"
        for folder in (embedder, self._root):
            if not folder.is_dir():
                return f"{folder} is missing on {_host()}; put the project where all machines mount it"
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


class Pool:
    """The workers; each task goes to the one with the least to do."""

    def __init__(self, ray: Any, maker: DocumentMaker, root: Path, cluster: RayCluster) -> None:
        """Start them and wait until they are ready.

        Raises:
            MarkError: One cannot work.
        """
        self._ray = ray
        cores = int(ray.cluster_resources().get("CPU", 1))
        count = cluster.workers or max(1, cores // cluster.threads)
        made = ray.remote(Worker).options(
            num_cpus=cluster.threads, max_restarts=_RESTARTS, max_task_retries=_RESTARTS
        )
        settings, embedder = maker.settings.model_dump(), str(maker.embedder.resolve())
        arguments = (settings, embedder, str(root.resolve()), code_sha256())
        self._workers = [made.remote(*arguments) for _ in range(count)]
        self._tasks: dict[Any, int] = {}  # what is under way -> its worker's number
        self.ahead = count * _AHEAD
        log.info("ingest: %d Ray workers of %d cores, %d thread(s) each", count, cores, cluster.threads)
        faults = self._get([worker.ready.remote() for worker in self._workers], _CHECK_S)
        for fault in faults:
            if fault is not None:
                raise DataError(fault)

    def begin(self, task: Task) -> Any:
        """Hand a task over; waits while all workers have enough to do."""
        while True:
            load = [0] * len(self._workers)
            for number in self._tasks.values():
                load[number] += 1
            least = min(range(len(load)), key=load.__getitem__)
            if load[least] < _QUEUED:
                break
            done, _ = self._ray.wait(list(self._tasks), num_returns=1)
            for reference in done:
                del self._tasks[reference]
        reference = self._workers[least].make.remote(task)
        self._tasks[reference] = least
        return reference

    def result(self, reference: Any) -> MadeDocument | QuarantinedFile:
        """What became of a task.

        Raises:
            DataError: The worker says what the user must mend.
            MarkError: Ray lost the worker more often than it was restarted.
        """
        outcome = self._get(reference, None)
        self._tasks.pop(reference, None)
        if isinstance(outcome, Fault):
            raise DataError(outcome.text)
        assert isinstance(outcome, MadeDocument | QuarantinedFile)
        return outcome

    def _get(self, references: Any, timeout_s: float | None) -> Any:
        from ray.exceptions import GetTimeoutError, RayError

        try:
            return self._ray.get(references, timeout=timeout_s)
        except GetTimeoutError:
            raise MarkError(
                f"the Ray workers are not ready after {timeout_s:g} s; lower ingest.ray.workers or "
                "ingest.ray.threads to what the cluster has free"
            ) from None
        except RayError as fault:
            first = str(fault).strip().splitlines()[0]
            raise MarkError(f"a Ray worker was lost ({first}); see Ray's logs, then try again") from None


def _check_answers(address: str | None) -> None:
    """Ray itself tries for minutes to reach a machine that is not there.

    Raises:
        OSError: Nothing listens at HOST:PORT.
    """
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit() and "/" not in host:
        with socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S):
            pass


@contextmanager
def workers(maker: DocumentMaker, root: Path) -> Iterator[Pool]:
    """The pool for the duration, on the cluster of `ingest.ray.address` or on one of this machine alone.

    Raises:
        MarkError: Ray is not installed, or the cluster does not answer.
    """
    cluster = maker.settings.ray
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault(
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"
    )  # leave the machine's own variables alone
    try:
        import ray
    except ImportError:
        raise MarkError(
            "Ray is not installed: run `pip install ray`, or set ingest.engine to local"
        ) from None
    try:
        _check_answers(cluster.address)
        ray.init(
            address=cluster.address, include_dashboard=False if cluster.address is None else None,
            log_to_driver=False, logging_level=logging.ERROR,
        )  # fmt: skip
    except (OSError, RuntimeError, ValueError) as fault:
        first = (str(fault).strip().splitlines() or [type(fault).__name__])[0]
        raise MarkError(
            f"no Ray cluster answers at ingest.ray.address {cluster.address} ({first}); start one with "
            "`ray start --head`, or set it to null"
        ) from None
    try:
        yield Pool(ray, maker, root, cluster)
    finally:
        ray.shutdown()


def pdf_documents(
    maker: DocumentMaker, files: Sequence[Path], root: Path
) -> Iterator[MadeDocument | QuarantinedFile | DuplicateFile]:
    """Each file's outcome, in the order of the files; see `mark.ingest.ingest_pdfs`."""
    passwords = read_passwords()
    with workers(maker, root) as pool:
        documents = _Documents(maker, pool)
        for path in files:
            name = path.relative_to(root).as_posix()
            documents.add(Task(name, sha256_file(path), str(path.resolve()), passwords.get(name)))
            while len(documents) > pool.ahead:
                yield documents.next()
        while len(documents):
            yield documents.next()


def row_documents(maker: DocumentMaker, raws: Iterable[RawDocument], root: Path) -> Iterator[MadeDocument]:
    """The documents of a collection, in their order."""
    with workers(maker, root) as pool:
        documents = _Documents(maker, pool, by_content=False)
        for raw in raws:
            documents.add(Task(raw.document, maker.content_of_rows(raw), rows=raw))
            while len(documents) > pool.ahead:
                yield documents.next_made()
        while len(documents):
            yield documents.next_made()


class _Documents:
    """What is being made, in order; of files with the same bytes only the first that can be read counts."""

    def __init__(self, maker: DocumentMaker, pool: Pool, by_content: bool = True) -> None:
        self._maker, self._pool, self._by_content = maker, pool, by_content
        self._waiting: deque[tuple[Task, Any]] = deque()  # None: a copy of what has begun
        self._begun: set[str] = set()
        self._first_with: dict[str, str] = {}  # content -> the file that was made of it

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, task: Task) -> None:
        """Begin a document, or wait for another one with the same content."""
        copy = self._by_content and task.content in self._begun
        self._waiting.append((task, None if copy else self._begin(task)))
        self._begun.add(task.content)

    def next(self) -> MadeDocument | QuarantinedFile | DuplicateFile:
        """The outcome of the one that has waited longest."""
        task, begun = self._waiting.popleft()
        if self._by_content and task.content in self._first_with:
            return DuplicateFile(file=task.name, same_as=self._first_with[task.content])
        outcome = self._finish(task, self._begin(task) if begun is None else begun)
        if isinstance(outcome, MadeDocument):
            self._first_with[task.content] = task.name
        return outcome

    def next_made(self) -> MadeDocument:
        """The same where nothing is left out."""
        outcome = self.next()
        assert isinstance(outcome, MadeDocument)
        return outcome

    def _begin(self, task: Task) -> Any:
        """A document that the cache holds, or a reference to what a worker makes."""
        if task.password is not None:  # what it opens is not kept, or it would be served without one
            return self._pool.begin(task)
        entry, vectors = self._maker.look_up(task.content, task.name, task.rows is not None)
        if entry is None:
            return self._pool.begin(task)
        if vectors is None:
            return self._pool.begin(Task(task.name, task.content, entry=entry))
        return MadeDocument(entry, vectors)

    def _finish(self, task: Task, begun: Any) -> MadeDocument | QuarantinedFile:
        if isinstance(begun, MadeDocument):
            self._maker.reused += 1
            return begun
        outcome = self._pool.result(begun)
        if isinstance(outcome, MadeDocument):
            self._maker.take(outcome, task.content, keep=task.password is None)
        return outcome
