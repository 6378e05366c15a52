"""The files that ingest writes, document by document: memory does not grow with the corpus."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from mark.files import CHUNKS, EMBEDDINGS, INDEX, INGEST_REPORT, PAGES, write_json
from mark.ingest.index import Index, index_key
from mark.ingest.report import IngestReport
from mark.records import Chunk, Page

_WORK = ".ingest.part"  # in the data folder; a killed run's is removed by the next


class Outputs:
    """Pages, chunks and vectors in a folder beside their places; `commit` puts them there together.

    Left without `commit`, nothing has changed.
    """

    def __init__(self, out: Path) -> None:
        """Nothing is written before it is entered."""
        self._out = out
        self._work = out / _WORK
        self._made = not out.exists()
        self.chunks = 0
        self._documents: set[str] = set()
        self._pages = 0
        self._dimension = 0

    def __enter__(self) -> Outputs:
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir(parents=True)
        self._page_file = (self._work / PAGES.name).open("w", encoding="utf-8", newline="\n")
        self._chunk_file = (self._work / CHUNKS.name).open("w", encoding="utf-8", newline="\n")
        self._vector_file = (self._work / EMBEDDINGS.name).open("wb")
        _write_header(self._vector_file, 0, 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self._page_file, self._chunk_file, self._vector_file):
            file.close()
        shutil.rmtree(self._work, ignore_errors=True)
        if self._made and not any(self._out.iterdir()):
            self._out.rmdir()

    def add(self, pages: Sequence[Page], chunks: Sequence[Chunk], vectors: NDArray[np.float32]) -> None:
        """Append one document.

        Args:
            pages: Those that hold text, ascending.
            chunks: In reading order.
            vectors: float32 [chunks, dimension].
        """
        assert len(vectors) == len(chunks) and vectors.dtype == np.float32
        _write_rows(self._page_file, pages)
        _write_rows(self._chunk_file, chunks)
        self._pages += len(pages)
        if not chunks:
            return
        assert self._dimension in (0, vectors.shape[1])
        self._dimension = int(vectors.shape[1])
        self._vector_file.write(np.ascontiguousarray(vectors).tobytes())
        self.chunks += len(chunks)
        self._documents |= {chunk.doc_id for chunk in chunks}

    def commit(self, report: IngestReport, model: str) -> Index:
        """Put all files into their places.

        Args:
            report: Goes beside them.
            model: Hash of the embedder's weights.
        """
        self._vector_file.seek(0)
        _write_header(self._vector_file, self.chunks, self._dimension)
        for file in (self._page_file, self._chunk_file, self._vector_file):
            file.flush()
            os.fsync(file.fileno())
            file.close()
        with (self._work / CHUNKS.name).open("rb") as rows:
            key = index_key(model, rows, self._work / EMBEDDINGS.name)
        index = Index(
            key=key,
            chunks=self.chunks,
            pages=self._pages,
            documents=len(self._documents),
            dimension=self._dimension,
            model_sha256=model,
        )
        for path in (PAGES, CHUNKS, EMBEDDINGS):
            os.replace(self._work / path.name, self._out / path.name)
        write_json(self._out / INDEX.name, index.model_dump())
        write_json(self._out / INGEST_REPORT.name, report.model_dump())
        return index


def _write_rows(file: IO[str], rows: Iterable[BaseModel]) -> None:
    file.writelines(row.model_dump_json() + "\n" for row in rows)


def _write_header(file: IO[bytes], rows: int, dimension: int) -> None:
    """numpy leaves room in a header for a number of rows that grows, so it can be written twice."""
    shape = {"descr": "<f4", "fortran_order": False, "shape": (rows, dimension)}
    np.lib.format.write_array_header_1_0(file, shape)
