"""Pages that are pictures of text: recognised as such, and read by text recognition."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from mark.config import Ingest
from mark.ingest.backends import BACKENDS
from mark.ingest.reading import Job, run

_PRINTED = 0.05  # of a page's rows; five lines of print or more
_BINARIES = {"tesseract": "tesseract-ocr", "gs": "ghostscript"}
_ORIENTATION = "osd"  # Tesseract's data for turning pages upright


def count_inked(text: str) -> int:
    """Characters that are no white space."""
    return sum(not char.isspace() for char in text)


def needs_ocr(row: dict[str, Any], settings: Ingest) -> bool:
    """Whether a page's text is not in its characters but in its images.

    Four cases: hardly a character under images; hardly a character and print drawn as outlines; letters
    in fonts that do not say which characters they are; and a stamp (few characters) over images that
    hold print. A text page over a background image has more characters or no print in its image.

    Args:
        row: A backend's `page` row.
        settings: `min_page_chars`, `ocr_image_share`, `ocr_max_chars`.
    """
    inked = count_inked(row["text"])
    covered = (row.get("images") or 0.0) >= settings.ocr_image_share
    printed = row.get("print")
    if inked < settings.min_page_chars:
        return covered or (printed is not None and printed >= _PRINTED)
    return inked < settings.ocr_max_chars and covered and (printed is None or printed >= _PRINTED)


def missing_for_ocr(languages: str) -> list[tuple[str, str]]:
    """What text recognition lacks on this machine.

    Args:
        languages: Tesseract's names, joined by +.

    Returns:
        (what is missing, how to install it), empty where all is there.
    """
    missing = [
        (f"program {name}", f"`apt-get install {package}`")
        for name, package in _BINARIES.items()
        if shutil.which(name) is None
    ]
    if not BACKENDS["ocrmypdf"].installed():
        missing.insert(0, ("package ocrmypdf", BACKENDS["ocrmypdf"].remedy))
    if shutil.which("tesseract") is not None:
        there = installed_languages()
        wanted = [*languages.split("+"), _ORIENTATION]
        missing += [
            (f"language {name}", f"`apt-get install tesseract-ocr-{name.replace('_', '-').lower()}`")
            for name in wanted
            if name not in there
        ]
    return missing


def installed_languages() -> list[str]:
    """The language packs that Tesseract finds, sorted."""
    done = subprocess.run(["tesseract", "--list-langs"], capture_output=True, text=True, check=False)
    return sorted(line.strip() for line in done.stdout.splitlines()[1:] if line.strip())


def recognise(
    path: Path, rows: list[dict[str, Any]], settings: Ingest, password: str | None = None
) -> tuple[dict[int, dict[str, Any]], str]:
    """Run text recognition over some pages of a file.

    Args:
        path: The file; it stays as it is.
        rows: The `page` rows of the pages to recognise.
        settings: Languages and limits; a page has `ocr_page_timeout_s`, the file the sum.
        password: Opens the file.

    Returns:
        Physical page -> its new row, and what went wrong on some or all pages ("" where nothing did).
    """
    pages = tuple(row["page"] for row in rows)
    limit = settings.timeout_s + settings.ocr_page_timeout_s * len(pages)
    with tempfile.TemporaryDirectory(prefix="mark-ocr-") as folder:
        out = Path(folder) / "recognised.pdf"
        wanted = {
            "out": str(out),
            "languages": settings.ocr_languages.split("+"),
            "page_timeout_s": settings.ocr_page_timeout_s,
            "stamped": any(count_inked(row["text"]) or row.get("unmapped") for row in rows),
        }
        done = run(Job("ocrmypdf", path, password, pages, wanted), settings, limit)
        if done.fault is not None:
            detail = done.fault[1].replace(f"{folder}{os.sep}", "")
            return {}, f"text recognition failed: {detail}"
        again = run(Job("pdfium", out, None, pages), settings)
        if again.fault is not None:
            return {}, f"text recognition wrote a PDF that cannot be read: {again.fault[1]}"
    late = "; ".join(f"text recognition took {note}" for note in done.notes)
    return {row["page"]: row for row in again.texts}, late
