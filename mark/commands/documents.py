"""`mark remove`: a document leaves data/pdfs, and the cache forgets what it read of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mark.corpus.user_files import remove_pdfs
from mark.files import INGEST_CACHE, PDFS, sha256_file
from mark.ingest.cache import forget


def remove_documents(names: Sequence[str], root: Path) -> None:
    """Take PDFs out of data/pdfs and their text and vectors out of the cache of ingest.

    A file that is not checked out has no content to find its entries by: these go by age, or with
    `make clean`.

    Args:
        names: File names, with or without .pdf.
        root: The project's root.

    Raises:
        DataError: See `remove_pdfs`.
    """
    named = {root / PDFS / file for name in names for file in (Path(name).name, f"{Path(name).name}.pdf")}
    contents = [sha256_file(path) for path in sorted(named) if path.is_file()]
    remove_pdfs(names, root)
    for content in contents:
        forget(root / INGEST_CACHE, content)
