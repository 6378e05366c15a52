"""The workers of a Ray cluster: each loads the embedder once, then makes document after document."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mark.cluster import Fault
from mark.cluster.sameness import host, missing, other_code, other_versions
from mark.errors import MarkError
from mark.ingest.cache import DocumentEntry, code_sha256, installed
from mark.ingest.layout import RawDocument
from mark.ingest.maker import DocumentMaker, MadeDocument
from mark.ingest.progress import Progress
from mark.ingest.report import QuarantinedFile


@dataclass(frozen=True)
class Task:
    """A document to make: a file, the rows of a collection, or an entry whose vectors are missing."""

    name: str
    content: str  # hash of its bytes
    path: str | None = None
    password: str | None = field(default=None, repr=False)
    rows: RawDocument | None = None
    entry: DocumentEntry | None = None


Outcome = MadeDocument | QuarantinedFile


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

    def make(self, task: Task) -> Outcome | Fault:
        """Make one document."""
        try:
            return self._make(task)
        except MarkError as fault:
            return Fault(str(fault))

    def _make(self, task: Task) -> Outcome | Fault:
        from mark.ingest.pdf import PdfReader

        if task.entry is not None:
            return self._maker.of_entry(task.entry, task.content)
        if task.rows is not None:
            return self._maker.of_rows(task.rows)
        assert task.path is not None
        path = Path(task.path)
        if fault := missing(path):
            return Fault(fault)
        passwords = {} if task.password is None else {task.name: task.password}
        reading = PdfReader(self._root, self._settings, passwords).read(path)
        if isinstance(reading, QuarantinedFile):
            return reading
        return self._maker.of_reading(reading, task.content, task.name)

    def _check(self, embedder: Path, code: str, here: dict[str, str]) -> str | None:
        return (
            other_code(code, code_sha256())
            or missing(embedder, self._root)
            or other_versions("ingest", here, installed(embedder))
        )

    def _warm_up(self) -> str | None:
        from mark.ingest.pdf import PdfReader

        try:
            PdfReader(self._root, self._settings).check()
            self._maker.load()
        except MarkError as fault:
            return f"{host()}: {fault}"
        return None
