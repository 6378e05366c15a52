"""The corpus stage: the sample's legal texts, or the user's own PDFs."""

from __future__ import annotations

from pathlib import Path

from mark.config import Corpus
from mark.files import whole_folder

__all__ = ["make_corpus"]


def make_corpus(corpus: Corpus, pdfs: Path, out: Path) -> list[Path]:
    """Write the corpus's PDFs; the whole folder or nothing.

    Args:
        corpus: The section.
        pdfs: The user's own PDFs (`source: folder`); never changed.
        out: The folder to make; a former one is replaced.

    Returns:
        The PDFs in `out`.

    Raises:
        ConfigError: An unknown document name.
        DataError: The sources cannot be fetched, or there is no PDF.
    """
    from mark.corpus.folder import link_folder
    from mark.corpus.sample import render_sample
    from mark.wheels import disk_errors

    with disk_errors(out), whole_folder(out) as work:
        if corpus.source == "sample":
            made = render_sample(corpus, work)
        else:
            made = link_folder(corpus.documents, pdfs, work)
    return [out / path.name for path in made]
