"""PDF files -> printed lines, each file in a process with a time and a memory limit."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mark.config import Ingest
from mark.files import sha256_file
from mark.ingest import worker
from mark.ingest.layout import RawDocument, RawLine, RawPage
from mark.ingest.report import REMEDIES, QuarantinedFile
from mark.records import Quarantine

log = logging.getLogger(__name__)

_NO_TITLE = re.compile(
    r"(?:microsoft word\b.*|untitled.*|\(?anonymous\)?|\(?unspecified\)?|document\s*\d*"
    r"|.*\.(?:docx?|pdf|rtf|indd|tex))",
    re.IGNORECASE | re.DOTALL,
)


@dataclass
class _Reading:
    """What came out of one worker process, complete or not."""

    pages: int | None = None
    title: str = ""
    texts: list[dict[str, Any]] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)
    fault: tuple[Quarantine, str] | None = None
    complete: bool = False

    @classmethod
    def parse(cls, output: bytes) -> _Reading:
        reading = cls()
        for line in output.splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                break  # cut off where the process died
            kind = row["kind"]
            if kind == "document":
                reading.pages, reading.title = row["pages"], row["title"]
            elif kind == "page":
                reading.texts.append(row)
            elif kind == "damaged":
                reading.damaged.append(row["page"])
            elif kind == "fault":
                reading.fault = (row["code"], row["detail"])
            reading.complete = kind in {"end", "fault"}
        return reading

    @property
    def page_at_fault(self) -> int | None:
        """The page that a process was reading when it ended."""
        if self.pages is None or (self.complete and self.fault is None):
            return None
        done = len(self.texts) + len(self.damaged)
        return done + 1 if done < self.pages else None


def read_pdfs(
    files: list[Path], root: Path, settings: Ingest
) -> Iterator[tuple[Path, RawDocument | QuarantinedFile]]:
    """Read PDF files in parallel, results in the order of `files`.

    Args:
        files: PDF files below `root`.
        root: Their folder; a document is named by its path from there, without suffix.
        settings: Limits and the number of processes.

    Yields:
        Each file with what it holds, or why it is left out.
    """
    from tqdm import tqdm

    workers = settings.workers or usable_cores()
    with ThreadPoolExecutor(max_workers=max(1, min(workers, len(files)))) as pool:
        results = pool.map(lambda path: read_pdf(path, root, settings), files)
        try:
            bar = tqdm(results, total=len(files), desc="read", unit="file", disable=None)
            yield from zip(files, bar, strict=True)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def read_pdf(path: Path, root: Path, settings: Ingest) -> RawDocument | QuarantinedFile:
    """Read one file, or say with which code it is left out."""
    name = path.relative_to(root).as_posix()
    size = path.stat().st_size
    if size == 0:
        return _quarantined(name, "empty", "0 bytes")
    if size > settings.max_file_mb << 20:
        return _quarantined(name, "too_large", f"{size / (1 << 20):.1f} MB of {settings.max_file_mb}")
    reading, fault = _run_worker(path, settings)
    if fault is not None:
        return _quarantined(name, fault[0], fault[1], reading.pages, reading.page_at_fault)
    if not reading.pages:
        return _quarantined(name, "empty", "0 pages", 0)
    return _judge(path, name, reading, settings)


def _run_worker(path: Path, settings: Ingest) -> tuple[_Reading, tuple[Quarantine, str] | None]:
    limits = {
        "memory_mb": settings.memory_mb,
        "max_pages": settings.max_pages,
        "min_page_chars": settings.min_page_chars,
    }
    # -P: the worker's own folder stays off the import path, so its siblings cannot shadow a module.
    command = [sys.executable, "-P", str(Path(worker.__file__)), str(path), json.dumps(limits)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=settings.timeout_s, check=False)
    except subprocess.TimeoutExpired as stopped:
        return _Reading.parse(stopped.output or b""), ("timeout", f"more than {settings.timeout_s:g} s")
    reading = _Reading.parse(done.stdout)
    if reading.fault is not None or (reading.complete and done.returncode == 0):
        return reading, reading.fault
    return reading, ("crashed", _end_of(done))


def _end_of(done: subprocess.CompletedProcess[bytes]) -> str:
    if done.returncode < 0:
        return f"its process ended with {signal.Signals(-done.returncode).name}"
    last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
    return " ".join([f"its process ended with code {done.returncode}", *last])


def _judge(path: Path, name: str, reading: _Reading, settings: Ingest) -> RawDocument | QuarantinedFile:
    """Sort pages into those that hold text and those that do not, and say why."""
    dropped = {page: "damaged" for page in reading.damaged}
    kept: list[RawPage] = []
    enough = False
    for row in reading.texts:
        inked = sum(not char.isspace() for char in row["text"])
        if inked < settings.min_page_chars and (row["images"] or 0.0) > settings.ocr_image_share:
            dropped[row["page"]] = "needs_ocr"
        elif inked == 0:
            dropped[row["page"]] = "blank"
        else:
            enough = enough or inked >= settings.min_page_chars
            lines = [RawLine(*line) for line in row["lines"]]
            kept.append(RawPage(row["page"], row["label"] or str(row["page"]), row["text"], lines))
    if not enough:
        return _without_text(name, dropped, reading)
    title = _title(reading.title) or path.stem
    document = path.relative_to(path.parents[name.count("/")]).with_suffix("").as_posix()
    assert reading.pages is not None
    return RawDocument(sha256_file(path), document, title, reading.pages, kept, dict(sorted(dropped.items())))


def _without_text(name: str, dropped: dict[int, str], reading: _Reading) -> QuarantinedFile:
    scans = [page for page, why in sorted(dropped.items()) if why == "needs_ocr"]
    if scans:
        return _quarantined(name, "needs_ocr", f"{len(scans)} pages of images", reading.pages, scans[0])
    if len(reading.damaged) == reading.pages:
        return _quarantined(name, "corrupt", "no page can be read", reading.pages, 1)
    return _quarantined(name, "no_text", f"no text on {reading.pages} pages", reading.pages)


def _title(metadata: str) -> str:
    """The title of the metadata, unless a program made it up."""
    title = " ".join("".join(char for char in metadata if char.isprintable()).split())
    return "" if _NO_TITLE.fullmatch(title) else title


def _quarantined(
    name: str, code: Quarantine, detail: str, pages: int | None = None, page: int | None = None
) -> QuarantinedFile:
    log.warning("%s is left out: %s (%s); %s", name, code, detail, REMEDIES[code])
    return QuarantinedFile(file=name, code=code, page=page, pages=pages, detail=detail, remedy=REMEDIES[code])
