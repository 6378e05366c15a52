"""data/ingest_report.json: every file and every page accounted for."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from mark.errors import DataError
from mark.files import read_json
from mark.records import Quarantine, Row

REMEDIES: dict[Quarantine, str] = {
    "encrypted": "remove its password (`qpdf --decrypt IN.pdf OUT.pdf`) and add it again",
    "corrupt": "open it in a PDF viewer, save it anew and add it again",
    "empty": "it has no pages; add the right file or take it out with `mark remove`",
    "no_text": "it holds no text; take it out with `mark remove`",
    "needs_ocr": "it is a scan; run text recognition over it (`ocrmypdf IN.pdf OUT.pdf`) and add it again",
    "too_large": "split it, or raise ingest.max_file_mb or ingest.max_pages",
    "timeout": "raise ingest.timeout_s, or split it",
    "crashed": "raise ingest.memory_mb; if it fails again, save it anew or take it out with `mark remove`",
}

DropReason = Literal["blank", "needs_ocr", "damaged", "only_running_heads"]


class FileReport(Row):
    """A document that was read."""

    file: str
    doc_id: str
    document: str
    title: str
    pages: int = Field(ge=0)
    pages_read: int = Field(ge=0)
    dropped: dict[DropReason, list[int]]  # why -> physical pages
    chunks: int = Field(ge=0)


class QuarantinedFile(Row):
    """A file that was left out."""

    file: str
    code: Quarantine
    page: int | None  # where it failed, if known
    pages: int | None  # of the whole file, if known
    detail: str
    remedy: str


class DuplicateFile(Row):
    """A file with the same bytes as an earlier one."""

    file: str
    same_as: str


class Totals(Row):
    """Sums over the files; pages of quarantined files count where their number is known."""

    files: int = Field(ge=0)
    files_read: int = Field(ge=0)
    files_quarantined: int = Field(ge=0)
    files_duplicate: int = Field(ge=0)
    pages: int = Field(ge=0)
    pages_read: int = Field(ge=0)
    pages_dropped: int = Field(ge=0)
    pages_quarantined: int = Field(ge=0)
    chunks: int = Field(ge=0)


class IngestReport(Row):
    """What ingest read, dropped and left out."""

    source: Literal["pdf", "collection"]
    files: list[FileReport]
    quarantined: list[QuarantinedFile]
    duplicates: list[DuplicateFile]
    totals: Totals


def make_report(
    source: Literal["pdf", "collection"],
    files: list[FileReport],
    quarantined: list[QuarantinedFile],
    duplicates: list[DuplicateFile],
) -> IngestReport:
    """Sum up and check that every page is read, dropped or quarantined."""
    for file in files:
        missing = file.pages - file.pages_read - sum(len(pages) for pages in file.dropped.values())
        assert missing == 0, f"{file.file}: {missing} pages unaccounted for"
    read = sum(file.pages_read for file in files)
    dropped = sum(len(pages) for file in files for pages in file.dropped.values())
    apart = sum(file.pages or 0 for file in quarantined)
    totals = Totals(
        files=len(files) + len(quarantined) + len(duplicates),
        files_read=len(files),
        files_quarantined=len(quarantined),
        files_duplicate=len(duplicates),
        pages=read + dropped + apart,
        pages_read=read,
        pages_dropped=dropped,
        pages_quarantined=apart,
        chunks=sum(file.chunks for file in files),
    )
    return IngestReport(
        source=source, files=files, quarantined=quarantined, duplicates=duplicates, totals=totals
    )


def read_report(path: Path) -> IngestReport:
    """The report, validated.

    Raises:
        DataError: The file is missing or is no ingest report.
    """
    try:
        return IngestReport.model_validate(read_json(path))
    except ValidationError as fault:
        reason = fault.errors()[0]["msg"]
        raise DataError(f"{path} is no ingest report ({reason}); run `dvc repro ingest`") from None


def report_table(path: Path) -> str:
    """The report as lines of plain text: each file, its pages, what was left out and the remedy."""
    report = read_report(path)
    names = [file.file for file in report.files] + [file.file for file in report.quarantined]
    width = max([4, *(len(name) for name in names)])
    lines = [f"{'file':<{width}}  {'pages':>5}  {'read':>5}  {'chunks':>6}  left out"]
    for file in report.files:
        drops = [f"{len(pages)} {why}: {_ranges(pages)}" for why, pages in sorted(file.dropped.items())]
        counts = f"{file.pages:>5}  {file.pages_read:>5}  {file.chunks:>6}"
        lines.append(f"{file.file:<{width}}  {counts}  {'; '.join(drops)}".rstrip())
    for bad in report.quarantined:
        where = f" on page {bad.page}" if bad.page is not None else ""
        pages = "?" if bad.pages is None else str(bad.pages)
        counts = f"{pages:>5}  {0:>5}  {0:>6}"
        lines.append(f"{bad.file:<{width}}  {counts}  {bad.code}{where} ({bad.detail}): {bad.remedy}")
    lines += [f"{same.file}: the same bytes as {same.same_as}, read once" for same in report.duplicates]
    sums = report.totals
    lines.append(
        f"{sums.files_read} of {sums.files} files read, {sums.files_quarantined} left out; "
        f"{sums.pages_read} of {sums.pages} pages read, {sums.pages_dropped} without text; "
        f"{sums.chunks} chunks"
    )
    return "\n".join(lines)


def _ranges(pages: list[int]) -> str:
    """`1-3, 7` for [1, 2, 3, 7]."""
    runs: list[list[int]] = []
    for page in sorted(pages):
        if runs and page == runs[-1][1] + 1:
            runs[-1][1] = page
        else:
            runs.append([page, page])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
