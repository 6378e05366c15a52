"""Documents -> pages, chunks, vectors and the derived Chroma collection."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mark.config import Ingest
from mark.errors import DataError
from mark.files import read_jsonl, sha256_file
from mark.ingest.progress import Progress
from mark.ingest.report import DuplicateFile, FileReport, IngestReport, QuarantinedFile, make_report
from mark.records import Page

if TYPE_CHECKING:
    from mark.ingest.maker import DocumentMaker, MadeDocument

__all__ = ["IngestReport", "ingest", "ingest_collection", "ingest_pdfs", "joined_text"]

log = logging.getLogger(__name__)

_WINDOW = 16  # files read before the first of them is embedded; bounds what is held in memory


def ingest(
    settings: Ingest, source: Path, embedder: Path, out: Path, cache: Path | None = None
) -> IngestReport:
    """Ingest from where `ingest.source` says: a folder of PDFs or a snapshot of a collection."""
    if settings.source == "pdf":
        return ingest_pdfs(settings, source, embedder, out, cache)
    return ingest_collection(settings, source, embedder, out, cache)


def ingest_pdfs(
    settings: Ingest, raw: Path, embedder: Path, out: Path, cache: Path | None = None
) -> IngestReport:
    """Read a folder of PDFs into pages.jsonl, chunks.jsonl, embeddings.npy, index.json, ingest_report.json.

    A file that cannot be read is quarantined with a code and a remedy; the rest goes on. One file
    after the other is finished and written, so that memory does not grow with their number.

    Args:
        settings: Limits and the chunk size.
        raw: Folder of PDF files, subfolders included.
        embedder: Folder of the embedding model.
        out: The data folder.
        cache: Folder of what is known of each document, see `mark.ingest.cache`; None = no cache. The
            results are the same with and without it, to the byte.

    Raises:
        DataError: There is no PDF, or none can be read.
    """
    from mark.ingest.maker import DocumentMaker

    files = sorted(path for path in raw.rglob("*") if path.suffix.lower() == ".pdf" and path.is_file())
    if not files:
        raise DataError(f"{raw} holds no PDF; add some with `mark add FILE|DIR` or run `dvc repro corpus`")
    with Progress("ingest") as progress:
        maker = DocumentMaker(settings, embedder, cache, progress)
        if settings.engine == "ray":
            from mark.ingest.ray_engine import pdf_documents

            outcomes = pdf_documents(maker, files, raw)
        else:
            outcomes = _pdf_documents(maker, files, raw)
        return _write(maker, "pdf", len(files), outcomes, out)


def ingest_collection(
    settings: Ingest, snapshot: Path, embedder: Path, out: Path, cache: Path | None = None
) -> IngestReport:
    """Turn a snapshot of the user's collection into the files that `ingest_pdfs` writes.

    Rows are put back together as documents and pages, chunked and embedded anew.

    Args:
        settings: The chunk size.
        snapshot: data/collection.jsonl, see `mark.ingest.snapshot`.
        embedder: Folder of the embedding model.
        out: The data folder.
        cache: As in `ingest_pdfs`.

    Raises:
        DataError: The snapshot is missing or holds no text.
    """
    from mark.ingest.maker import DocumentMaker
    from mark.ingest.snapshot import CollectionRow, collection_documents

    if not snapshot.is_file():
        raise DataError(f"{snapshot} is missing; make it with `mark snapshot --collection NAME`")
    raws = collection_documents(read_jsonl(snapshot, CollectionRow))
    with Progress("ingest") as progress:
        maker = DocumentMaker(settings, embedder, cache, progress)
        if settings.engine == "ray":
            from mark.ingest.ray_engine import row_documents

            made = row_documents(maker, raws, snapshot.parent)
        else:
            made = (maker.of_rows(document) for document in raws)
        return _write(maker, "collection", len(raws), made, out)


def joined_text(pages: Iterable[Page]) -> str:
    """A document's joined cleaned text, in which chunk spans count.

    Args:
        pages: All its pages, ascending.
    """
    return "".join(page.text for page in pages)


def _pdf_documents(
    maker: DocumentMaker, files: Sequence[Path], raw: Path
) -> Iterator[MadeDocument | QuarantinedFile | DuplicateFile]:
    """Each file's outcome, in the order of the files.

    Of several files with the same bytes only the first that can be read counts.
    """
    from mark.corpus.passwords import read_passwords
    from mark.ingest.pdf import read_pdfs

    secret = read_passwords().keys()  # what a password opens is not kept, or it would be served without one
    first_with: dict[str, str] = {}
    for start in range(0, len(files), _WINDOW):
        window = {path: sha256_file(path) for path in files[start : start + _WINDOW]}
        firsts: dict[str, Path] = {}
        for path, content in window.items():
            if content not in first_with:
                firsts.setdefault(content, path)
        known = {
            path: None if _name(path, raw) in secret else maker.known(content, _name(path, raw))
            for content, path in firsts.items()
        }
        unknown = [path for path, made in known.items() if made is None]
        maker.progress.set("file", f"{len(unknown)} files being read" if unknown else "")
        readings = dict(read_pdfs(unknown, raw, maker.settings)) if unknown else {}
        for path, content in window.items():
            name = _name(path, raw)
            if content in first_with:
                yield DuplicateFile(file=name, same_as=first_with[content])
                continue
            made = known.pop(path, None)
            if made is None:
                # Not among the readings: a copy of a file that could not be read.
                reading = readings.pop(path, None) or dict(read_pdfs([path], raw, maker.settings))[path]
                if isinstance(reading, QuarantinedFile):
                    yield reading
                    continue
                made = maker.of_reading(reading, content, name, keep=name not in secret)
            first_with[content] = name
            yield made


def _name(path: Path, raw: Path) -> str:
    return path.relative_to(raw).as_posix()


def _write(
    maker: DocumentMaker,
    source: Literal["pdf", "collection"],
    count: int,
    outcomes: Iterable[MadeDocument | QuarantinedFile | DuplicateFile],
    out: Path,
) -> IngestReport:
    """Write what is made, as it is made.

    Args:
        maker: Makes the documents.
        source: Where they come from.
        count: How many files there are.
        outcomes: What became of each.
        out: The data folder.
    """
    from mark.ingest.outputs import Outputs

    files: list[FileReport] = []
    quarantined: list[QuarantinedFile] = []
    duplicates: list[DuplicateFile] = []
    with Outputs(out) as outputs:
        for done, outcome in enumerate(outcomes, start=1):
            if isinstance(outcome, QuarantinedFile):
                quarantined.append(outcome)
            elif isinstance(outcome, DuplicateFile):
                duplicates.append(outcome)
            else:
                outputs.add(outcome.entry.pages, outcome.entry.chunks, outcome.vectors)
                files.append(outcome.entry.report)
            maker.progress.set("files", f"{done} of {count} files done, {outputs.chunks} chunks")
        if not outputs.chunks:
            reasons = ", ".join(f"{file.file} {file.code}" for file in quarantined[:3]) or "no text in them"
            raise DataError(f"none of the documents can be used ({reasons}); {_first_remedy(quarantined)}")
        report = make_report(source, files, quarantined, duplicates)
        outputs.commit(report, maker.model_sha256)
    maker.finish()
    log.info(
        "%d chunks of %d documents (%d from the cache, %d chunks embedded)",
        report.totals.chunks, len(files), maker.reused, maker.embedded,
    )  # fmt: skip
    return report


def _first_remedy(quarantined: list[QuarantinedFile]) -> str:
    return quarantined[0].remedy if quarantined else "add documents with text (`mark add FILE|DIR`)"
