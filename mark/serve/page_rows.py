"""data/pages.jsonl by document and page, read row by row: no text is kept in memory."""

from __future__ import annotations

import json
import os
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from mark.files import PAGES
from mark.records import Page
from mark.serve.errors import ApiError

_SHOWN = 80  # characters of a client's text in an error


class PageRows:
    """Finds the row of a page; safe to share between threads."""

    def __init__(self, root: Path) -> None:
        """Nothing is read yet.

        Args:
            root: The project's root.
        """
        self._path = root / PAGES
        self._lock = Lock()
        self._signature: tuple[int, int, int] | None = None  # inode, size, time of change
        self._places: dict[str, dict[int, int]] = {}  # document -> page -> where its row begins

    def find(self, document: str, page: int) -> Page:
        """The row of a page.

        Args:
            document: As quotes name it; compared as text.
            page: Physical page, from 1.

        Raises:
            ApiError: 404 where there is none, 503 while ingest writes the file anew.
        """
        try:
            with self._lock, self._path.open("rb") as rows:
                self._look_through(rows)
                return _row(rows, self._place(document, page))
        except FileNotFoundError:
            raise ApiError(
                503, "no pages are there at present: ingest is running, or `dvc repro ingest` has to run",
                "not_ready", headers={"Retry-After": "10"},
            ) from None  # fmt: skip

    def _look_through(self, rows: BinaryIO) -> None:
        """Note where the rows begin, if the file is not the one that was looked through."""
        found = os.fstat(rows.fileno())
        signature = (found.st_ino, found.st_size, found.st_mtime_ns)
        if signature == self._signature:
            return
        self._places, at = {}, 0
        for line in rows:
            if line.strip():
                row = json.loads(line)
                self._places.setdefault(row["document"], {})[row["page"]] = at
            at += len(line)
        self._signature = signature

    def _place(self, document: str, page: int) -> int:
        pages = self._places.get(document)
        if pages is None:
            raise ApiError(
                404, f"no document {document[:_SHOWN]!r}; GET /v1/documents lists them", "unknown_document",
                "document",
            )  # fmt: skip
        if page not in pages:
            raise ApiError(
                404, f"no text was read from a page {page} of {document!r}; those with text lie between "
                f"{min(pages)} and {max(pages)}", "unknown_page", "page",
            )  # fmt: skip
        return pages[page]


def _row(rows: BinaryIO, place: int) -> Page:
    rows.seek(place)
    return Page.model_validate_json(rows.readline())
