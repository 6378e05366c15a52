"""A collection that the user already has: read once, never changed."""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from mark.errors import DataError
from mark.files import iter_jsonl, sha256_text
from mark.ingest.index import DATABASE, run_store
from mark.ingest.layout import RawDocument, RawLine, RawPage
from mark.records import Row

log = logging.getLogger(__name__)

_DOCUMENT_KEYS = ("document", "source", "file", "filename", "file_name", "file_path", "path", "url", "title")
_TITLE_KEYS = ("title", "document_title", "doc_title")
_PAGE_KEYS = ("page", "page_number", "page_no", "page_num")
_ORDER_KEYS = ("start", "start_index", "chunk_index", "chunk", "index", "position")
_SUFFIX = re.compile(r"\.(?:pdf|txt|docx?|md|html?)$", re.IGNORECASE)
_MIN_OVERLAP = 20  # characters that two neighbouring rows share before they count as overlapping


class CollectionRow(Row):
    """One row of the user's collection."""

    id: str
    text: str
    metadata: dict[str, str | int | float | bool]


def snapshot_collection(chroma: str, name: str, target: Path) -> int:
    """Read a collection into a JSONL file.

    A folder is read from a copy, because Chroma changes what it opens.

    Args:
        chroma: A Chroma folder, or the URL of a Chroma server.
        name: The collection.
        target: The JSONL file, rows sorted by id.

    Returns:
        How many rows were read.

    Raises:
        DataError: There is no such folder, server or collection.
    """
    if chroma.startswith(("http://", "https://")):
        log.info("reading collection %s from %s", name, urlsplit(chroma).hostname)
        run_store(["read", chroma, name, str(target)])
    else:
        folder = Path(chroma)
        if not (folder / DATABASE).is_file():
            raise DataError(f"{folder} is no Chroma folder ({DATABASE} is missing); pass --chroma PATH|URL")
        with tempfile.TemporaryDirectory(prefix="mark-snapshot-") as temporary:
            copy = Path(temporary) / "chroma"
            shutil.copytree(folder, copy)
            try:
                run_store(["read", str(copy), name, str(target)])
            except DataError as fault:
                raise DataError(str(fault).replace(str(copy), chroma)) from None
    return sum(1 for _ in iter_jsonl(target, CollectionRow))


def collection_documents(rows: Sequence[CollectionRow]) -> list[RawDocument]:
    """Put the rows of a collection back together as documents of pages.

    Rows of one document and page come in the order of their position where they tell one, else
    of their ids; what two neighbouring rows share is kept once.

    Args:
        rows: At least one with text.

    Returns:
        The documents, sorted by name.
    """
    groups: defaultdict[str, list[CollectionRow]] = defaultdict(list)
    for row in rows:
        if row.text.strip():
            groups[_first_text(row, _DOCUMENT_KEYS) or "collection"].append(row)
    pages = [_page(row) for group in groups.values() for row in group]
    base = 1 - min([1, *(page for page in pages if page is not None)])  # some tools count from 0
    named: defaultdict[str, int] = defaultdict(int)
    documents = []
    for source in sorted(groups):
        last_part = source.replace("\\", "/").rsplit("/", 1)[-1]
        name = _SUFFIX.sub("", last_part) or source
        named[name] += 1
        unique = name if named[name] == 1 else f"{name}-{named[name]}"
        documents.append(_document(unique, groups[source], base))
    return documents


def _document(name: str, rows: list[CollectionRow], base: int) -> RawDocument:
    by_page: defaultdict[int, list[CollectionRow]] = defaultdict(list)
    for row in rows:
        by_page[max((_page(row) or 1 - base) + base, 1)].append(row)
    pages: list[RawPage] = []
    last = ""
    for page in sorted(by_page):
        parts: list[str] = []
        for row in sorted(by_page[page], key=_order):
            text = row.text[_overlap(last, row.text) :]
            last = row.text
            if text.strip():
                parts.append(text.strip("\n"))
        if parts:
            pages.append(_raw_page(page, "\n\n".join(parts)))
    title = next((found for row in rows if (found := _first_text(row, _TITLE_KEYS))), name)
    identity = "\x1f".join([name, *(page.text for page in pages)])
    last_page = pages[-1].page
    empty = {page: "blank" for page in range(1, last_page + 1) if page not in by_page}
    return RawDocument(sha256_text(identity), name, title, last_page, pages, empty)


def _raw_page(page: int, text: str) -> RawPage:
    lines = [RawLine(match.start(), match.end()) for match in re.finditer(r"[^\n]*\S[^\n]*", text)]
    return RawPage(page, str(page), text, lines)


def _first_text(row: CollectionRow, keys: Sequence[str]) -> str:
    values = [row.metadata.get(key) for key in keys]
    return next((value for value in values if isinstance(value, str) and value.strip()), "")


def _page(row: CollectionRow) -> int | None:
    for key in _PAGE_KEYS:
        value = row.metadata.get(key)
        if isinstance(value, bool):
            continue
        if isinstance(value, int | float):
            return int(value)
        if isinstance(value, str) and value.strip().isdigit():
            return int(value)
    return None


def _order(row: CollectionRow) -> tuple[float, list[tuple[int, str]]]:
    values = [row.metadata.get(key) for key in _ORDER_KEYS]
    at = next((value for value in values if isinstance(value, int | float)), -1.0)
    natural = [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", row.id)]
    return float(at), natural


def _overlap(before: str, after: str) -> int:
    """How many characters at the end of one text open the next."""
    for size in range(min(len(before), len(after)), _MIN_OVERLAP - 1, -1):
        if before.endswith(after[:size]):
            return size
    return 0
