"""One document -> pages, chunks, vectors; from the cache where it is known."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mark.config import Ingest
from mark.errors import DataError
from mark.files import sha256_text
from mark.ingest.cache import DocumentCache, DocumentEntry
from mark.ingest.embed import embed_document, embedded_texts
from mark.ingest.index import embedder_sha256
from mark.ingest.layout import RawDocument
from mark.ingest.progress import Progress
from mark.ingest.report import DropReason, FileReport
from mark.records import Page

if TYPE_CHECKING:
    from mark.models.loading import Embedder


@dataclass(frozen=True)
class MadeDocument:
    """A finished document."""

    entry: DocumentEntry
    vectors: NDArray[np.float32]  # [chunks, dimension]


class DocumentMaker:
    """Cleans, cuts and embeds; loads the embedder only when something is new."""

    def __init__(self, settings: Ingest, embedder: Path, cache: Path | None, progress: Progress) -> None:
        """Open the cache.

        Args:
            settings: The section `ingest`.
            embedder: Folder of the embedding model.
            cache: Its folder; None, or `ingest.cache_mb` 0, is no cache.
            progress: Told what is being done.

        Raises:
            ModelError: The embedder is missing.
        """
        self.model_sha256 = embedder_sha256(embedder)
        self.settings = settings
        self.embedder = embedder
        self.progress = progress
        self.reused = 0  # documents that needed neither reading nor embedding
        self.embedded = 0  # chunks
        with_cache = cache is not None and settings.cache_mb > 0
        self._cache = DocumentCache(cache, settings, embedder) if cache is not None and with_cache else None

    def known(self, content: str, file: str) -> MadeDocument | None:
        """A document that the cache holds under the hash of its file.

        Args:
            content: sha256 of the file.
            file: Its path below the corpus folder.
        """
        if self._cache is None:
            return None
        name = PurePosixPath(file).with_suffix("").as_posix()
        entry = self._cache.document(content, file, name)
        return None if entry is None else self._embedded(entry, content, new=False)

    def of_reading(self, raw: RawDocument, content: str, file: str, keep: bool = True) -> MadeDocument:
        """Make a document of what was read from a file, and keep it unless told otherwise.

        Raises:
            DataError: The file was changed while it was read.
        """
        if raw.doc_id != content:
            raise DataError(f"{file} changed while it was read; run it again")
        entry = self._cut(raw, file)
        if self._cache is not None and keep:
            self._cache.keep_document(content, entry)
        return self._embedded(entry, content, keep=keep)

    def of_rows(self, raw: RawDocument) -> MadeDocument:
        """Make a document of the rows of a collection; its content is the rows themselves."""
        content = self.content_of_rows(raw)
        known = None if self._cache is None else self._cache.document(content, raw.document, raw.document)
        if known is not None:
            return self._embedded(known, content, new=False)
        entry = self._cut(raw, raw.document)
        if self._cache is not None:
            self._cache.keep_document(content, entry)
        return self._embedded(entry, content)

    def of_entry(self, entry: DocumentEntry, content: str) -> MadeDocument:
        """Embed a document that was read before."""
        return self._embedded(entry, content, new=False)

    def load(self) -> None:
        """Load the embedder now rather than for the first document.

        Raises:
            ModelError: It is missing or damaged.
            DataError: It reads fewer tokens than `ingest.chunk_tokens`.
        """
        self._model.count_tokens([""])

    @staticmethod
    def content_of_rows(raw: RawDocument) -> str:
        """What stands for a collection's document as the hash of its bytes does for a file."""
        return sha256_text(repr(asdict(raw)))

    def look_up(
        self, content: str, file: str, rows: bool = False
    ) -> tuple[DocumentEntry | None, NDArray[np.float32] | None]:
        """What the cache holds of a document: its entry, and the vectors if all are there.

        Args:
            content: Its hash.
            file: Its path below the corpus folder, or its name.
            rows: It is of a collection, whose names have no suffix.
        """
        if self._cache is None:
            return None, None
        name = file if rows else PurePosixPath(file).with_suffix("").as_posix()
        entry = self._cache.document(content, file, name)
        if entry is None:
            return None, None
        texts = embedded_texts(entry.chunks)
        return entry, self._cache.vectors(content, texts) if texts else np.empty((0, 0), dtype=np.float32)

    def take(self, made: MadeDocument, content: str, keep: bool) -> None:
        """Count a document that another process made, and keep it unless told otherwise."""
        texts = embedded_texts(made.entry.chunks)
        self.embedded += len(texts)
        if self._cache is not None and keep:
            self._cache.keep_document(content, made.entry)
            if texts:
                self._cache.keep_vectors(content, texts, made.vectors)

    def finish(self) -> None:
        """Bring the cache below its limit."""
        if self._cache is not None:
            self._cache.prune()

    def _cut(self, raw: RawDocument, file: str) -> DocumentEntry:
        """Clean and chunk."""
        from mark.ingest.chunk import Source, chunk
        from mark.ingest.clean import clean

        self.progress.set("file", f"{file}: cleaned and cut")
        document = clean(raw.pages)
        source = Source(raw.doc_id, raw.document, raw.title)
        chunks = chunk(source, document, self.settings.chunk_tokens, self._model.count_tokens)
        dropped: dict[DropReason, list[int]] = {}
        for page, why in [*raw.dropped.items(), *((page, "only_running_heads") for page in document.emptied)]:
            dropped.setdefault(why, []).append(page)  # type: ignore[arg-type]  # pydantic checks it below
        pages = [
            Page(
                doc_id=raw.doc_id, document=raw.document, title=raw.title, page=page.page, label=page.label,
                text=page.text, offset=page.offset, raw_map=page.raw_map,
            )
            for page in document.pages
        ]  # fmt: skip
        report = FileReport(
            file=file, doc_id=raw.doc_id, document=raw.document, title=raw.title, pages=raw.page_count,
            pages_read=len(document.pages), dropped=dropped, chunks=len(chunks),
            reader=raw.reader, recognised=list(raw.recognised), notes=list(raw.notes),
        )  # fmt: skip
        return DocumentEntry(report=report, pages=pages, chunks=chunks)

    def _embedded(
        self, entry: DocumentEntry, content: str, new: bool = True, keep: bool = True
    ) -> MadeDocument:
        texts = embedded_texts(entry.chunks)
        if not texts:
            self.reused += not new
            return MadeDocument(entry, np.empty((0, 0), dtype=np.float32))
        kept = None if self._cache is None else self._cache.vectors(content, texts)
        if kept is not None:
            self.reused += not new
            return MadeDocument(entry, kept)
        vectors = embed_document(
            self._model, texts, self.settings.embed_batch,
            lambda text: self.progress.set("file", f"{entry.report.file}: {text}"),
        )  # fmt: skip
        self.embedded += len(texts)
        if self._cache is not None and keep:
            self._cache.keep_vectors(content, texts, vectors)
        return MadeDocument(entry, vectors)

    @cached_property
    def _model(self) -> Embedder:
        from mark.models.loading import Embedder

        model = Embedder(self.embedder, self.settings.embed_batch)
        if self.settings.chunk_tokens > model.max_tokens:
            raise DataError(
                f"ingest.chunk_tokens is {self.settings.chunk_tokens}, the embedder in {self.embedder} reads "
                f"{model.max_tokens}; lower ingest.chunk_tokens"
            )
        return model
