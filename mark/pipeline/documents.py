"""What questions are answered from: the deployed retriever and the pages, as ingest wrote them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mark.config import Ingest, Retrieval
from mark.errors import MarkError
from mark.evaluation.inputs import with_contexts
from mark.evaluation.questions import Question
from mark.files import CHUNKS, EMBEDDER, PAGES, iter_jsonl
from mark.ingest.index import read_embeddings, read_index
from mark.ingest.stores import bring_up_to_date
from mark.pipeline.pages import PageTexts
from mark.records import Page
from mark.retrieval import Retriever
from mark.retrieval.dense import StoredSearch
from mark.retrieval.serving import open_search

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Documents:
    """One state of the documents.

    Attributes:
        root: The project's root.
        key: Of data/index.json.
        retriever: Over all chunks.
        pages: All pages.
    """

    root: Path
    key: str
    retriever: Retriever
    pages: PageTexts

    @classmethod
    def open(
        cls, root: Path, retrieval: Retrieval, ingest: Ingest, search: Literal["chroma", "exact"]
    ) -> Documents:
        """Load what ingest wrote, with the Chroma collection brought up to date.

        Args:
            root: The project's root.
            retrieval: Section `retrieval`.
            ingest: Section `ingest`, for the collection's place.
            search: `exact` searches all vectors instead; so does `chroma` where the collection cannot be
                opened or rebuilt.

        Raises:
            DataError: Nothing was ingested, or the files do not belong together.
            ModelError: The embedder is missing.
        """
        data = root / CHUNKS.parent
        index = read_index(data)
        read_embeddings(data, index)  # no collection is built from files that do not belong together
        collection = None if search == "exact" else _collection(data, ingest, root)
        retriever = Retriever.open(data, root / EMBEDDER, retrieval, collection)
        return cls(root, index.key, retriever, PageTexts(iter_jsonl(root / PAGES, Page)))

    def changed(self) -> bool:
        """Whether ingest has written other documents since; False while it is writing."""
        try:
            return read_index(self.root / CHUNKS.parent).key != self.key
        except MarkError:
            return False

    def contexts_for(self, texts: Sequence[str], top_k: int) -> list[Question]:
        """Questions with the passages to answer them from, found as the eval stage finds them."""
        asked = [_question(number, text) for number, text in enumerate(texts)]
        return with_contexts(asked, self.retriever, top_k)


def _question(number: int, text: str) -> Question:
    return Question(
        id=str(number),
        question=text,
        answers=(),
        kind="answerable",
        style="full",
        rule_id="served",
        document=None,
        section=None,
        gold=(),
        contexts=None,
    )


def _collection(data: Path, ingest: Ingest, root: Path) -> StoredSearch | None:
    """The derived collection, rebuilt where it belongs to other chunks; None = search exactly."""
    try:
        bring_up_to_date(data, ingest, root)
        return open_search(data, ingest, root)
    except (MarkError, OSError) as fault:
        log.warning("searching without %s: %s", "Chroma" if ingest.store == "chroma" else "PostgreSQL", fault)
        return None
