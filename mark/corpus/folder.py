"""The user's own corpus: links to, or copies of, the PDFs in data/pdfs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from mark.corpus.sample import check_names
from mark.errors import DataError


def link_folder(documents: Sequence[str], pdfs: Path, out: Path) -> list[Path]:
    """Put the user's PDFs into the corpus.

    Args:
        documents: File names without .pdf; empty means all.
        pdfs: The user's folder, only read.
        out: An existing folder.

    Returns:
        The PDFs, sorted by name, or in the order of `documents`.

    Raises:
        DataError: The folder holds no PDF.
        ConfigError: An unknown document name.
    """
    found = {path.stem: path for path in list_pdfs(pdfs)}
    if not found:
        raise DataError(f"{pdfs} holds no PDF; add some with `mark add FILE`")
    if documents:
        check_names(documents, list(found), "corpus.documents")
    return [_place(found[stem], out) for stem in documents or sorted(found)]


def list_pdfs(folder: Path) -> list[Path]:
    """The PDFs directly in a folder, sorted by name."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == ".pdf" and path.is_file())


def _place(source: Path, out: Path) -> Path:
    """A hard link costs no space; where the file system has none, a copy.

    DVC may keep data/pdfs as links into its cache: the link's target is what gets linked.
    """
    target = out / f"{source.stem}.pdf"
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
    return target
