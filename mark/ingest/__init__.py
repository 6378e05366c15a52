"""Documents -> pages, chunks, vectors and the derived Chroma collection."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mark.config import Ingest
from mark.errors import DataError
from mark.files import CHUNKS, INGEST_REPORT, PAGES, read_jsonl, write_json, write_jsonl
from mark.ingest.report import (
    DropReason,
    DuplicateFile,
    FileReport,
    IngestReport,
    QuarantinedFile,
    make_report,
)
from mark.records import Chunk, Page

if TYPE_CHECKING:
    from mark.ingest.layout import RawDocument

__all__ = ["IngestReport", "ingest", "ingest_collection", "ingest_pdfs", "joined_text"]

log = logging.getLogger(__name__)


@dataclass
class _Batch:
    """What is gathered from the documents, in their order."""

    count_tokens: Callable[[list[str]], list[int]]
    chunk_tokens: int
    pages: list[Page] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    files: list[FileReport] = field(default_factory=list)

    def add(self, file: str, raw: RawDocument) -> None:
        """Clean and chunk one document."""
        from mark.ingest.chunk import Source, chunk
        from mark.ingest.clean import clean

        document = clean(raw.pages)
        source = Source(raw.doc_id, raw.document, raw.title)
        chunks = chunk(source, document, self.chunk_tokens, self.count_tokens)
        dropped: dict[DropReason, list[int]] = {}
        for page, why in [*raw.dropped.items(), *((page, "only_running_heads") for page in document.emptied)]:
            dropped.setdefault(why, []).append(page)  # type: ignore[arg-type]  # pydantic checks it below
        self.chunks += chunks
        self.pages += [
            Page(
                doc_id=raw.doc_id, document=raw.document, title=raw.title, page=page.page, label=page.label,
                text=page.text, offset=page.offset, raw_map=page.raw_map,
            )
            for page in document.pages
        ]  # fmt: skip
        self.files.append(
            FileReport(
                file=file, doc_id=raw.doc_id, document=raw.document, title=raw.title, pages=raw.page_count,
                pages_read=len(document.pages), dropped=dropped, chunks=len(chunks),
            )
        )  # fmt: skip


def ingest(settings: Ingest, source: Path, embedder: Path, out: Path) -> IngestReport:
    """Ingest from where `ingest.source` says: a folder of PDFs or a snapshot of a collection."""
    if settings.source == "pdf":
        return ingest_pdfs(settings, source, embedder, out)
    return ingest_collection(settings, source, embedder, out)


def ingest_pdfs(settings: Ingest, raw: Path, embedder: Path, out: Path) -> IngestReport:
    """Read a folder of PDFs into pages.jsonl, chunks.jsonl, embeddings.npy, index.json, ingest_report.json.

    A file that cannot be read is quarantined with a code and a remedy; the rest goes on.

    Args:
        settings: Limits and the chunk size.
        raw: Folder of PDF files, subfolders included.
        embedder: Folder of the embedding model.
        out: The data folder.

    Raises:
        DataError: There is no PDF, or none can be read.
    """
    from mark.ingest.pdf import read_pdfs

    files = sorted(path for path in raw.rglob("*") if path.suffix.lower() == ".pdf" and path.is_file())
    if not files:
        raise DataError(f"{raw} holds no PDF; add some with `mark add FILE|DIR` or run `dvc repro corpus`")
    quarantined: list[QuarantinedFile] = []
    duplicates: list[DuplicateFile] = []
    first_with: dict[str, str] = {}

    def documents() -> Iterable[tuple[str, RawDocument]]:
        for path, result in read_pdfs(files, raw, settings):
            name = path.relative_to(raw).as_posix()
            if isinstance(result, QuarantinedFile):
                quarantined.append(result)
            elif result.doc_id in first_with:
                duplicates.append(DuplicateFile(file=name, same_as=first_with[result.doc_id]))
            else:
                first_with[result.doc_id] = name
                yield name, result

    return _ingest(settings, "pdf", documents(), (embedder, out), (quarantined, duplicates))


def ingest_collection(settings: Ingest, snapshot: Path, embedder: Path, out: Path) -> IngestReport:
    """Turn a snapshot of the user's collection into the files that `ingest_pdfs` writes.

    Rows are put back together as documents and pages, chunked and embedded anew.

    Args:
        settings: The chunk size.
        snapshot: data/collection.jsonl, see `mark.ingest.snapshot`.
        embedder: Folder of the embedding model.
        out: The data folder.

    Raises:
        DataError: The snapshot is missing or holds no text.
    """
    from mark.ingest.snapshot import CollectionRow, collection_documents

    if not snapshot.is_file():
        raise DataError(f"{snapshot} is missing; make it with `mark snapshot --collection NAME`")
    documents = collection_documents(read_jsonl(snapshot, CollectionRow))
    named = [(document.document, document) for document in documents]
    return _ingest(settings, "collection", named, (embedder, out), ([], []))


def joined_text(pages: Iterable[Page]) -> str:
    """A document's joined cleaned text, in which chunk spans count.

    Args:
        pages: All its pages, ascending.
    """
    return "".join(page.text for page in pages)


def _ingest(
    settings: Ingest,
    source: Literal["pdf", "collection"],
    documents: Iterable[tuple[str, RawDocument]],
    folders: tuple[Path, Path],
    left_out: tuple[list[QuarantinedFile], list[DuplicateFile]],
) -> IngestReport:
    """Clean, chunk, embed and write.

    Args:
        settings: The chunk size.
        source: Where the documents come from.
        documents: File names and documents.
        folders: The embedder and the data folder.
        left_out: Filled while `documents` is read.
    """
    from mark.ingest.index import embedder_sha256, write_index
    from mark.models.loading import Embedder

    embedder, out = folders
    model = Embedder(embedder, settings.embed_batch)
    if settings.chunk_tokens > model.max_tokens:
        raise DataError(
            f"ingest.chunk_tokens is {settings.chunk_tokens}, the embedder in {embedder} reads "
            f"{model.max_tokens}; lower ingest.chunk_tokens"
        )
    batch = _Batch(model.count_tokens, settings.chunk_tokens)
    for file, document in documents:
        batch.add(file, document)
    quarantined, duplicates = left_out
    if not batch.chunks:
        reasons = ", ".join(f"{file.file} {file.code}" for file in quarantined[:3]) or "no text in them"
        raise DataError(f"none of the documents can be used ({reasons}); {_first_remedy(quarantined)}")
    log.info("embedding %d chunks of %d documents", len(batch.chunks), len(batch.files))
    vectors = model.encode([chunk.embedded_text for chunk in batch.chunks])
    report = make_report(source, batch.files, quarantined, duplicates)
    out.mkdir(parents=True, exist_ok=True)
    write_jsonl(out / PAGES.name, batch.pages)
    write_jsonl(out / CHUNKS.name, batch.chunks)
    write_index(out, batch.chunks, vectors, len(batch.pages), embedder_sha256(embedder))
    write_json(out / INGEST_REPORT.name, report.model_dump())
    return report


def _first_remedy(quarantined: list[QuarantinedFile]) -> str:
    return quarantined[0].remedy if quarantined else "add documents with text (`mark add FILE|DIR`)"
