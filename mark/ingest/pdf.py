"""PDF files -> printed lines, each file in a process with a time and a memory limit."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mark.config import Ingest
from mark.corpus.passwords import read_passwords
from mark.errors import ConfigError
from mark.files import sha256_file
from mark.ingest.backends import check_backend
from mark.ingest.layout import RawDocument, RawLine, RawPage
from mark.ingest.reading import Job, Reading, run
from mark.ingest.report import REMEDIES, QuarantinedFile
from mark.ingest.scans import count_inked, missing_for_ocr, needs_ocr, recognise
from mark.records import Quarantine

log = logging.getLogger(__name__)

_SECOND_TRY: frozenset[Quarantine] = frozenset({"crashed", "corrupt"})
_NO_TITLE = re.compile(
    r"(?:microsoft word\b.*|untitled.*|\(?anonymous\)?|\(?unspecified\)?|document\s*\d*"
    r"|.*\.(?:docx?|pdf|rtf|indd|tex))",
    re.IGNORECASE | re.DOTALL,
)


@dataclass
class _Sorted:
    """A file's pages: those that hold text, those that do not and why."""

    texts: dict[int, dict[str, Any]] = field(default_factory=dict)  # physical page -> its row
    dropped: dict[int, str] = field(default_factory=dict)
    recognised: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, row: dict[str, Any]) -> None:
        """Keep a page that has any text."""
        if count_inked(row["text"]):
            self.texts[row["page"]] = row
        else:
            self.dropped[row["page"]] = "blank"


def read_pdfs(
    files: list[Path], root: Path, settings: Ingest
) -> Iterator[tuple[Path, RawDocument | QuarantinedFile]]:
    """Read PDF files in parallel, results in the order of `files`.

    Args:
        files: PDF files below `root`.
        root: Their folder; a document is named by its path from there, without suffix.
        settings: Limits, the number of processes, the reader and text recognition.

    Yields:
        Each file with what it holds, or why it is left out.

    Raises:
        ConfigError: The reader is not installed; or `ingest.ocr=always` and text recognition is not.
    """
    from tqdm import tqdm

    reader = PdfReader(root, settings, read_passwords())
    reader.check()
    with ThreadPoolExecutor(max_workers=max(1, min(count_workers(settings), len(files)))) as pool:
        results = pool.map(reader.read, files)
        try:
            bar = tqdm(results, total=len(files), desc="read", unit="file", disable=None)
            yield from zip(files, bar, strict=True)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def count_workers(settings: Ingest) -> int:
    """Processes that read at once: as set, else one a core, as far as memory lasts for their limits."""
    if settings.workers:
        return settings.workers
    import psutil

    fitting = psutil.virtual_memory().total // (settings.memory_mb << 20)
    return max(1, min(usable_cores(), fitting))


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def read_pdf(
    path: Path, root: Path, settings: Ingest, password: str | None = None
) -> RawDocument | QuarantinedFile:
    """Read one file, or say with which code it is left out."""
    passwords = {} if password is None else {path.relative_to(root).as_posix(): password}
    return PdfReader(root, settings, passwords).read(path)


@dataclass
class PdfReader:
    """Reads files below one folder with the same settings; safe to share between threads."""

    root: Path
    settings: Ingest
    passwords: dict[str, str] = field(default_factory=dict, repr=False)  # file name -> password

    def check(self) -> None:
        """Stop before the first file where no file could be read as wanted.

        Raises:
            ConfigError: See `read_pdfs`.
        """
        if self.settings.reader != "pdfium":
            check_backend(self.settings.reader)
        if self.settings.ocr == "always" and self._missing:
            lacks = "; ".join(f"{what} ({remedy})" for what, remedy in self._missing)
            raise ConfigError(f"ingest.ocr is always, but there is no {lacks}")

    @cached_property
    def _missing(self) -> list[tuple[str, str]]:
        return missing_for_ocr(self.settings.ocr_languages)

    def read(self, path: Path) -> RawDocument | QuarantinedFile:
        """Read one file, or say with which code it is left out."""
        name = path.relative_to(self.root).as_posix()
        size = path.stat().st_size
        if size == 0:
            return _quarantined(name, "empty", "0 bytes")
        if size > self.settings.max_file_mb << 20:
            return _quarantined(
                name, "too_large", f"{size / (1 << 20):.1f} MB of {self.settings.max_file_mb}"
            )
        password = self.passwords.get(name)
        reading, notes = self._attempt(path, password)
        if reading.fault is not None:
            code, detail = reading.fault
            return _quarantined(name, code, detail, reading.pages, reading.page_at_fault)
        if not reading.pages:
            return _quarantined(name, "empty", "0 pages", 0)
        pages = self._sort(path, reading, password)
        pages.notes[:0] = notes
        longest = max((count_inked(row["text"]) for row in pages.texts.values()), default=0)
        if longest == 0 or longest < self.settings.min_page_chars:
            return _without_text(name, pages, reading)
        return _document(path, name, reading, pages)

    def _attempt(self, path: Path, password: str | None) -> tuple[Reading, list[str]]:
        """Read a file, with pypdf where pdfium cannot; also what the report should say of it.

        A single damaged page has no second try: pypdf leaves such pages out and numbers the rest anew.
        """
        settings = self.settings
        first = run(Job(settings.reader, path, password), settings)
        if settings.reader != "pdfium":
            return first, []
        if first.fault is not None and first.fault[0] in _SECOND_TRY:
            return _rescued_file(first, run(Job("pypdf", path, password), settings))
        return first, []

    def _sort(self, path: Path, reading: Reading, password: str | None) -> _Sorted:
        pages = _Sorted(dropped=dict.fromkeys(reading.damaged, "damaged"))
        scans = []
        for row in reading.texts:
            if needs_ocr(row, self.settings):
                scans.append(row)
            else:
                pages.add(row)
        if scans:
            self._read_scans(path, scans, pages, password)
        return pages

    def _read_scans(
        self, path: Path, scans: list[dict[str, Any]], pages: _Sorted, password: str | None
    ) -> None:
        """Run text recognition where it is wanted and there; what it cannot read is dropped by name."""
        if self.settings.ocr == "never" or self._missing:
            pages.dropped |= {row["page"]: "needs_ocr" for row in scans}
            return
        found, fault = recognise(path, scans, self.settings, password)
        if fault:
            pages.notes.append(fault)
        for row in scans:
            new = found.get(row["page"])
            if new is not None and count_inked(new["text"]) > count_inked(row["text"]):
                pages.texts[row["page"]] = new | {"label": row["label"]}
                pages.recognised.append(row["page"])
            elif new is None or fault:
                pages.dropped[row["page"]] = "needs_ocr"
            elif count_inked(row["text"]):
                pages.texts[row["page"]] = row  # a picture without print: the page's text is all there is
            else:
                pages.dropped[row["page"]] = "nothing_recognised"


def _rescued_file(first: Reading, second: Reading) -> tuple[Reading, list[str]]:
    """The second reading where it holds all pages and anything on them, else the first with both reasons."""
    assert first.fault is not None
    code, detail = first.fault
    if second.fault is not None:
        why = second.fault[1]
    elif first.pages is not None and second.pages != first.pages:
        why = f"{second.pages} pages of {first.pages}"
    elif not any(row["text"].strip() or row["images"] for row in second.texts):
        why = "nothing found"
    else:
        return second, [f"pdfium could not read it: {code} ({detail}); pypdf did"]
    first.fault = (code, f"{detail}; second try with pypdf: {why}")
    return first, []


def _document(path: Path, name: str, reading: Reading, pages: _Sorted) -> RawDocument:
    assert reading.pages is not None
    kept = [
        RawPage(number, row["label"] or str(number), row["text"], [RawLine(*line) for line in row["lines"]])
        for number, row in sorted(pages.texts.items())
    ]
    return RawDocument(
        doc_id=sha256_file(path),
        document=path.relative_to(path.parents[name.count("/")]).with_suffix("").as_posix(),
        title=_title(reading.title) or path.stem,
        page_count=reading.pages,
        pages=kept,
        dropped=dict(sorted(pages.dropped.items())),
        reader=reading.backend,
        recognised=tuple(pages.recognised),
        notes=tuple(pages.notes),
    )


def _without_text(name: str, pages: _Sorted, reading: Reading) -> QuarantinedFile:
    scans = [page for page, why in sorted(pages.dropped.items()) if why == "needs_ocr"]
    if scans:
        detail = "; ".join([f"{_pages(len(scans))} of images", *pages.notes])
        return _quarantined(name, "needs_ocr", detail, reading.pages, scans[0])
    if len(reading.damaged) == reading.pages:
        return _quarantined(name, "corrupt", "no page can be read", reading.pages, 1)
    empty = sum(why == "nothing_recognised" for why in pages.dropped.values())
    recognised = f", {empty} of them images in which no text was recognised" if empty else ""
    return _quarantined(
        name, "no_text", f"no text on {_pages(reading.pages or 0)}{recognised}", reading.pages
    )


def _pages(count: int) -> str:
    return f"{count} page" if count == 1 else f"{count} pages"


def _title(metadata: str) -> str:
    """The title of the metadata, unless a program made it up."""
    title = " ".join("".join(char for char in metadata if char.isprintable()).split())
    return "" if _NO_TITLE.fullmatch(title) else title


def _quarantined(
    name: str, code: Quarantine, detail: str, pages: int | None = None, page: int | None = None
) -> QuarantinedFile:
    log.warning("%s is left out: %s (%s); %s", name, code, detail, REMEDIES[code])
    return QuarantinedFile(file=name, code=code, page=page, pages=pages, detail=detail, remedy=REMEDIES[code])
