"""/v1/documents: what questions are answered from, and uploads."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

from fastapi import APIRouter, Response, UploadFile
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from mark.config import Serve
from mark.corpus.folder import list_pdfs
from mark.errors import DataError
from mark.files import INGEST_REPORT, PDFS, read_json
from mark.ingest.report import IngestReport
from mark.serve.errors import ApiError
from mark.serve.ingesting import INCOMING, IngestQueue, State
from mark.serve.uploads import check_allowed, keep_upload, sent_names


class Document(BaseModel):
    """One document."""

    id: str  # its name in quotes: the file's, without .pdf
    object: Literal["document"] = "document"
    status: Literal["ready", "queued", "left_out"]
    title: str
    pages: int | None
    sent_name: str | None  # of an upload: what its sender called it
    detail: str  # why it was left out, and the remedy


class IngestState(BaseModel):
    """What `dvc repro ingest` does at the moment."""

    state: State
    line: str  # the last that it wrote


class DocumentList(BaseModel):
    """All documents."""

    object: Literal["list"] = "list"
    data: list[Document]
    ingest: IngestState
    uploads: bool  # whether they are taken
    max_upload_bytes: int  # of one file


class DocumentShelf:
    """Lists documents and takes uploads, one at a time."""

    def __init__(self, root: Path, settings: Serve, queue: IngestQueue) -> None:
        self._root, self._settings, self._queue = root, settings, queue
        self._report: IngestReport | None = None
        self._busy = asyncio.Lock()

    def router(self) -> APIRouter:
        """The routes."""
        routes = APIRouter(prefix="/v1")

        @routes.get("/documents")
        def documents() -> DocumentList:
            """What questions are answered from, what waits, and what was left out."""
            return self._list()

        @routes.post("/documents", status_code=202)
        async def upload(file: UploadFile, response: Response) -> Document:
            """Add a PDF. It is read at once and searched when ingest has ended; 200: it was here before."""
            await run_in_threadpool(check_allowed, self._root, self._settings)
            name, new = await self._keep(file)
            if not new:
                response.status_code = 200
            listed = await run_in_threadpool(self._list)
            if new:
                self._queue.want()
            return next(document for document in listed.data if document.id == name)

        return routes

    async def _keep(self, file: UploadFile) -> tuple[str, bool]:
        if self._busy.locked():
            wait = {"Retry-After": "5"}
            raise ApiError(
                429, "another upload is being read; send it again in a moment", "busy", headers=wait
            )
        async with self._busy:
            sent = file.filename or ""
            return await run_in_threadpool(keep_upload, file.file, sent, self._root, self._settings)

    def _list(self) -> DocumentList:
        names = sent_names(self._root)
        found = {document.id: document for document in self._reported(names)}
        for path in [*list_pdfs(self._root / PDFS), *list_pdfs(self._root / INCOMING)]:
            sent = names.get(path.stem)
            if sent is not None and path.stem not in found:
                found[path.stem] = Document(
                    id=path.stem, status="queued", title=sent, pages=None, sent_name=sent, detail=""
                )
        state = IngestState(state=self._queue.state, line=self._queue.line)
        return DocumentList(
            data=list(found.values()),
            ingest=state,
            uploads=self._takes_uploads(),
            max_upload_bytes=self._settings.max_upload_mb << 20,
        )

    def _takes_uploads(self) -> bool:
        try:
            check_allowed(self._root, self._settings)
        except ApiError:
            return False
        return True

    def _reported(self, names: dict[str, str]) -> list[Document]:
        """As ingest saw them last; while it runs its report is gone, and the one before is shown."""
        try:
            self._report = IngestReport.model_validate(read_json(self._root / INGEST_REPORT))
        except (DataError, ValueError):
            if self._report is None:
                return []
        ready = [
            _document(file.document, "ready", file.title, file.pages, "", names)
            for file in self._report.files
        ]
        left_out = [
            _document(Path(f.file).stem, "left_out", f.file, f.pages, f"{f.detail}; {f.remedy}", names)
            for f in self._report.quarantined
        ]
        return [*ready, *left_out]


def _document(
    name: str,
    status: Literal["ready", "left_out"],
    title: str,
    pages: int | None,
    detail: str,
    names: dict[str, str],
) -> Document:
    sent = names.get(name)
    return Document(id=name, status=status, title=title, pages=pages, sent_name=sent, detail=detail)
