"""`mark remove`: a document leaves data/pdfs, and the cache forgets what it read of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mark.corpus.user_files import remove_pdfs
from mark.errors import MarkError
from mark.files import INGEST_CACHE, PDFS, sha256_file
from mark.ingest.cache import forget


def remove_documents(names: Sequence[str], root: Path) -> str:
    """Take PDFs out of data/pdfs and their text and vectors out of the cache of ingest.

    A file that is not checked out has no content to find its entries by: these go by age, or with
    `make clean`.

    Args:
        names: File names, with or without .pdf.
        root: The project's root.

    Returns:
        The text to print: what was done, and which adapters saw the documents and stay as they are.

    Raises:
        DataError: See `remove_pdfs`.
    """
    named = {root / PDFS / file for name in names for file in (Path(name).name, f"{Path(name).name}.pdf")}
    contents = [sha256_file(path) for path in sorted(named) if path.is_file()]
    remove_pdfs(names, root)
    for content in contents:
        forget(root / INGEST_CACHE, content)
    done = f"removed {', '.join(names)}; `dvc repro` takes them out of the index and the questions"
    return "\n".join([done, *_stale(names, root)])


def _stale(names: Sequence[str], root: Path) -> list[str]:
    """What the documents taught and where it stays; they are gone whether or not that can be said."""
    from mark.commands.takedown import kept_lines

    try:
        lines = kept_lines(names, root)
    except MarkError as fault:
        return [f"what keeps what they taught is not known: {fault}"]
    return ["what they taught stays in:", *(f"  {line}" for line in lines)] if lines else []
