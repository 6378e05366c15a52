"""The rules' questions about whole documents, sifted; what one document gives does not depend on another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from mark.config import DataPrep
from mark.data_prep.candidates import Candidate, cheap_fault, make_candidates
from mark.data_prep.phrases import Casing
from mark.data_prep.references import Provisions
from mark.data_prep.rules import Source, chosen_rules
from mark.records import Chunk, Split


@dataclass(frozen=True)
class Asking:
    """What the questions about every document are made with.

    Attributes:
        settings: The section `data_prep`.
        casing: Of the whole corpus.
        seed: The run's seed.
    """

    settings: DataPrep
    casing: Casing
    seed: int


@dataclass(frozen=True)
class Documents:
    """Chunks to ask about, in document order: all of whole documents."""

    chunks: Sequence[Chunk]
    split_of: Mapping[str, Split]  # chunk id -> split

    @property
    def name(self) -> str:
        """The first document's."""
        return self.chunks[0].document


@dataclass(frozen=True)
class Found:
    """What one rule made of a statement: questions in turn, each with the reason against it, or None.

    The statement no longer knows where its cross-references lead.
    """

    source: Source
    questions: Sequence[tuple[Candidate, str | None]]


def whole_documents(chunks: Sequence[Chunk], split_of: Mapping[str, Split]) -> Iterator[Documents]:
    """Cut a corpus where no document is cut.

    Args:
        chunks: In document order.
        split_of: Chunk id -> split, of at least these.
    """
    last = {chunk.doc_id: place for place, chunk in enumerate(chunks)}
    start = end = 0
    for place, chunk in enumerate(chunks):
        end = max(end, last[chunk.doc_id])
        if place == end:
            part = chunks[start : end + 1]
            yield Documents(part, {one.chunk_id: split_of[one.chunk_id] for one in part})
            start = end + 1


def ask(documents: Documents, asking: Asking) -> Iterator[Found]:
    """Make the questions about some documents.

    Args:
        documents: Whole ones, since a cross-reference or an abbreviation leads from one chunk to another.
        asking: What they are made with.
    """
    settings = asking.settings
    made = make_candidates(
        documents.chunks, chosen_rules(settings.rules), asking.casing, asking.seed, documents.split_of
    )
    for _, group in groupby(
        made, key=lambda pair: id(pair[1])
    ):  # a group keeps its statement's id from others
        pairs = list(group)
        questions = [(candidate, cheap_fault(candidate, settings)) for candidate, _ in pairs]
        yield Found(replace(pairs[0][1], provisions=_NOWHERE), questions)


def ask_here(corpus: Iterable[Documents], asking: Asking) -> Iterator[Found]:
    """The same for document after document, in this process."""
    for documents in corpus:
        yield from ask(documents, asking)


_NOWHERE = Provisions(())
