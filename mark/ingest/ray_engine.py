"""Ingest on a Ray cluster: workers load the embedder once, then read, clean, cut and embed file by file.

The process that started them looks into the cache, orders what comes back as the files stand, and alone
writes; so the outputs are those of the local engine, to the byte where the machines compute alike.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mark.cluster import Job, Pool, connected
from mark.corpus.passwords import read_passwords
from mark.files import sha256_file
from mark.ingest.cache import code_sha256, installed
from mark.ingest.layout import RawDocument
from mark.ingest.maker import DocumentMaker, MadeDocument
from mark.ingest.ray_worker import Outcome, Task, Worker
from mark.ingest.report import DuplicateFile, QuarantinedFile

_Pool = Pool[Task, Outcome]


@contextmanager
def workers(maker: DocumentMaker, root: Path) -> Iterator[_Pool]:
    """The pool for the duration, on the cluster of `ingest.ray.address` or on one of this machine alone.

    Raises:
        MarkError: Ray is not installed, or the cluster does not answer.
    """
    cluster = maker.settings.ray
    embedder = str(maker.embedder.resolve())
    with connected(cluster.address, "ingest") as ray:
        arguments = (
            maker.settings.model_dump(), embedder, str(root.resolve()), code_sha256(),
            installed(maker.embedder),
        )  # fmt: skip
        with _Pool(ray, Job("ingest", Worker, arguments), cluster) as pool:
            yield pool


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

    def __init__(self, maker: DocumentMaker, pool: _Pool, by_content: bool = True) -> None:
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
