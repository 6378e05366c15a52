"""data/ingest_report.json: every file and every page accounted for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, ValidationError, model_validator

from mark.errors import DataError
from mark.files import read_json
from mark.records import Quarantine, Row

REMEDIES: dict[Quarantine, str] = {
    "encrypted": "give its password with `mark password FILE`, then `mark ingest --force`",
    "corrupt": "open it in a PDF viewer, save it anew and add it again",
    "empty": "it has no pages; add the right file or take it out with `mark remove`",
    "no_text": "it holds no text; take it out with `mark remove`",
    "needs_ocr": "it is a scan: `mark doctor` says what text recognition lacks, then `mark ingest --force`",
    "too_large": "split it, or raise ingest.max_file_mb or ingest.max_pages",
    "timeout": "raise ingest.timeout_s, or split it",
    "crashed": "raise ingest.memory_mb; if it fails again, save it anew or take it out with `mark remove`",
}

_PAGE_REMEDIES = {
    "needs_ocr": REMEDIES["needs_ocr"],
    "damaged": "save the file anew in a PDF viewer and add it again",
    "nothing_recognised": "images without print, or another language: see ingest.ocr_languages",
}

DropReason = Literal["blank", "needs_ocr", "nothing_recognised", "damaged", "only_running_heads"]


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
    reader: str = ""  # the backend that read it
    recognised: list[int] = Field(default_factory=list)  # pages whose text comes from text recognition
    notes: list[str] = Field(default_factory=list)  # what went wrong on the way

    @model_validator(mode="after")
    def _adds_up(self) -> FileReport:
        """Every page is read or dropped, none twice."""
        gone = [page for pages in self.dropped.values() for page in pages]
        if len(gone) != len(set(gone)) or any(not 1 <= page <= self.pages for page in gone):
            raise ValueError(f"{self.file}: dropped pages {sorted(gone)} of {self.pages}")
        if self.pages_read + len(gone) != self.pages:
            raise ValueError(
                f"{self.file}: {self.pages_read} pages read and {len(gone)} dropped make no {self.pages}"
            )
        if set(self.recognised) & set(gone) or len(set(self.recognised)) > self.pages_read:
            raise ValueError(f"{self.file}: recognised pages {self.recognised} are not among those read")
        return self


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
    pages_duplicate: int = Field(default=0, ge=0)
    chunks: int = Field(ge=0)


class IngestReport(Row):
    """What ingest read, dropped and left out."""

    source: Literal["pdf", "collection"]
    files: list[FileReport]
    quarantined: list[QuarantinedFile]
    duplicates: list[DuplicateFile]
    totals: Totals

    @model_validator(mode="after")
    def _adds_up(self) -> IngestReport:
        """The totals are the sums of the files, and no file is named twice."""
        names = [entry.file for group in (self.files, self.quarantined, self.duplicates) for entry in group]
        twice = sorted({name for name in names if names.count(name) > 1}) if self.source == "pdf" else []
        if twice:
            raise ValueError(f"{twice[0]} stands twice in the report")
        if self.totals != _sum_up(self.files, self.quarantined, self.duplicates):
            raise ValueError("the totals are not the sums of the files")
        return self


def make_report(
    source: Literal["pdf", "collection"],
    files: list[FileReport],
    quarantined: list[QuarantinedFile],
    duplicates: list[DuplicateFile],
) -> IngestReport:
    """Sum up; the report itself checks that every page is read, dropped, quarantined or a duplicate."""
    totals = _sum_up(files, quarantined, duplicates)
    return IngestReport(
        source=source, files=files, quarantined=quarantined, duplicates=duplicates, totals=totals
    )


def _sum_up(
    files: list[FileReport], quarantined: list[QuarantinedFile], duplicates: list[DuplicateFile]
) -> Totals:
    length = {file.file: file.pages for file in files}
    read = sum(file.pages_read for file in files)
    dropped = sum(len(pages) for file in files for pages in file.dropped.values())
    apart = sum(file.pages or 0 for file in quarantined)
    doubled = sum(length.get(double.same_as, 0) for double in duplicates)
    return Totals(
        files=len(files) + len(quarantined) + len(duplicates),
        files_read=len(files),
        files_quarantined=len(quarantined),
        files_duplicate=len(duplicates),
        pages=read + dropped + apart + doubled,
        pages_read=read,
        pages_dropped=dropped,
        pages_quarantined=apart,
        pages_duplicate=doubled,
        chunks=sum(file.chunks for file in files),
    )


def read_report(path: Path) -> IngestReport:
    """The report, validated.

    Raises:
        DataError: The file is missing or is no ingest report.
    """
    try:
        return IngestReport.model_validate(read_json(path))
    except ValidationError as fault:
        reason = fault.errors()[0]["msg"].removeprefix("Value error, ")
        raise DataError(f"{path} is no ingest report ({reason}); run `dvc repro ingest`") from None


def report_table(path: Path) -> str:
    """The report as plain text: a row a file, then what was left out and what to do about it."""
    report = read_report(path)
    parts = [_page_table(report), _left_out(report), _notes(report), _summary(report.totals)]
    return "\n\n".join(part for part in parts if part)


def _page_table(report: IngestReport) -> str:
    """File, pages, read, a column for each reason to drop pages, chunks, reader."""
    reasons = [why for why in get_args(DropReason) if any(why in file.dropped for file in report.files)]
    other = ["quarantined"] if any(file.pages for file in report.quarantined) else []
    head = ["file", "pages", "read", *reasons, *other, "chunks", "reader"]
    rows = [
        [
            file.file,
            str(file.pages),
            str(file.pages_read),
            *(str(len(file.dropped.get(why, []))) for why in reasons),
            *("0" for _ in other),
            str(file.chunks),
            f"{file.reader} + text recognition" if file.recognised else file.reader,
        ]
        for file in report.files
    ]
    for bad in report.quarantined:
        pages = "?" if bad.pages is None else str(bad.pages)
        rows.append([bad.file, pages, "0", *("0" for _ in reasons), *(pages for _ in other), "0", "left out"])
    sums = report.totals
    dropped = [str(sum(len(file.dropped.get(why, [])) for file in report.files)) for why in reasons]
    apart = [str(sums.pages_quarantined) for _ in other]
    unique = sums.pages - sums.pages_duplicate
    rows.append(["all", str(unique), str(sums.pages_read), *dropped, *apart, str(sums.chunks), ""])
    return _aligned([head, *rows], left={0, len(head) - 1})


def _aligned(rows: list[list[str]], left: set[int]) -> str:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            f"{cell:<{width}}" if at in left else f"{cell:>{width}}"
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _left_out(report: IngestReport) -> str:
    """Each quarantined file and each dropped page, with its remedy where there is one."""
    lines = []
    for bad in report.quarantined:
        where = f", page {bad.page}" if bad.page is not None else ""
        lines.append(f"{bad.file}{where}: {bad.code} ({bad.detail}); {bad.remedy}")
    for file in report.files:
        for why, pages in sorted(file.dropped.items()):
            remedy = f"; {_PAGE_REMEDIES[why]}" if why in _PAGE_REMEDIES else ""
            lines.append(f"{file.file}, page {page_ranges(pages)}: {why}{remedy}")
    lines += [f"{same.file}: the same bytes as {same.same_as}, read once" for same in report.duplicates]
    return "\n".join(["left out:", *(f"  {line}" for line in lines)]) if lines else ""


def _notes(report: IngestReport) -> str:
    lines = [f"  {file.file}: {note}" for file in report.files for note in file.notes]
    lines += [
        f"  {file.file}, page {page_ranges(file.recognised)}: text recognition"
        for file in report.files
        if file.recognised
    ]
    return "\n".join(["notes:", *lines]) if lines else ""


def _summary(sums: Totals) -> str:
    parts = [
        f"{sums.files_read} of {sums.files} files read, {sums.files_quarantined} left out",
        f"{sums.pages_read} of {sums.pages} pages read, {sums.pages_dropped} dropped, "
        f"{sums.pages_quarantined} in files left out, {sums.pages_duplicate} in duplicates",
        f"{sums.chunks} chunks",
    ]
    return "; ".join(parts)


def page_ranges(pages: Sequence[int]) -> str:
    """`1-3, 7` for [1, 2, 3, 7]."""
    runs: list[list[int]] = []
    for page in sorted(pages):
        if runs and page == runs[-1][1] + 1:
            runs[-1][1] = page
        else:
            runs.append([page, page])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
