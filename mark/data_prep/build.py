"""The whole of data_prep on chunks in memory: split, ask, filter, retrieve, check, account."""

from __future__ import annotations

import logging
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice

from mark.config import DataPrep
from mark.data_prep.asking import Asking, whole_documents
from mark.data_prep.balance import Balance, balance
from mark.data_prep.candidates import Candidate, cheap_fault
from mark.data_prep.engine import Engine, Here
from mark.data_prep.leak import HeldOutText, check_leaks
from mark.data_prep.ledger import Book, Corpus, Ledger, close
from mark.data_prep.llm.writer import Drafts, QuestionWriter
from mark.data_prep.naming import document_names
from mark.data_prep.near_misses import Terms
from mark.data_prep.passage_copies import near_copies
from mark.data_prep.phrases import Casing
from mark.data_prep.practice import SPLITS, Practice, resolve
from mark.data_prep.question_index import QuestionIndex
from mark.data_prep.rewriting import Rewrite, reworded
from mark.data_prep.rules import Source, chosen_rules
from mark.data_prep.select import PageOf, Selection, Shelf
from mark.data_prep.split import HIDDEN, HeldOut, Splits, assign_splits
from mark.data_prep.spool import Spool
from mark.data_prep.unanswerable import (
    Foreign,
    bank_questions,
    close_questions,
    other_document_questions,
)
from mark.data_prep.versions import document_clusters
from mark.errors import DataError
from mark.records import Chunk, Example, Page, PracticeQuestion, Split
from mark.retrieval import Retriever
from mark.seeding import derived_seed

log = logging.getLogger(__name__)

SOURCES = 2000  # statements of a split kept for questions without an answer
ORDER: tuple[Split, ...] = ("test", "val", "train")  # who is filled first keeps a question asked twice


@dataclass(frozen=True)
class Dataset:
    """The examples of each split and their account."""

    rows: dict[Split, list[Example]]
    ledger: Ledger
    splits: Splits
    passages: list[Chunk]  # contexts that are no chunks of the corpus


@dataclass(frozen=True)
class Material:
    """What examples are made from.

    Attributes:
        pages: All pages; empty where only chunks are known.
        retriever: The deployed one, over all chunks.
        held_out: Sections that hand-written questions cite.
        practice: Questions that people wrote for training and validation.
        writer: Has a language model write questions for training; None = not asked for.
        rewrite: A model that puts questions into other words.
        engine: Where the rules' questions are made.
    """

    pages: Sequence[Page]
    retriever: Retriever
    held_out: HeldOut
    practice: Sequence[PracticeQuestion] = ()
    writer: QuestionWriter | None = None
    rewrite: Rewrite | None = None
    engine: Engine = field(default_factory=Here)


def build_dataset(material: Material, settings: DataPrep, top_k: int, seed: int) -> Dataset:
    """Make the examples of all splits.

    Args:
        material: Pages, passages and questions by people.
        settings: The section `data_prep`.
        top_k: Passages in a prompt.
        seed: The run's seed.

    Raises:
        ConfigError: An unknown rule family or held-out document.
        DataError: No question could be made.
        LeakError: Training and held-out data overlap.
    """
    chosen_rules(settings.rules)  # before anything is done
    pages, retriever = material.pages, material.retriever
    corpus, splits = lay_out(material, settings, seed)
    chunks, split_of = corpus.chunks, corpus.split_of
    casing = Casing(chunk.text for chunk in chunks)
    book = Book()
    rows: dict[Split, list[Example]] = {}
    balances: dict[Split, Balance] = {}
    written = Drafts() if material.writer is None else material.writer.write(training_passages(corpus))
    practice = resolve(material.practice, corpus, settings.val_share, seed, retriever.vectors_of)
    book.unused_practice = practice.unused
    foreign = _Foreign(chunks, casing, practice, seed, written.foreign)
    asked = QuestionIndex()
    with Spool(retriever.chunks, seed) as spool:
        notes = _Notes(book, spool)
        sources = _ask(corpus, Asking(settings, casing, seed), material.engine, notes)
        _add_written(written, settings, notes)
        for name in ORDER:
            shown = min(top_k, settings.train_passages) if name == "train" else top_k
            documents = sorted({chunk.document for chunk in chunks if split_of[chunk.chunk_id] == name})
            allowed = _visible(name, corpus)
            shelf = Shelf(retriever, allowed, top_k, shown, _page_finder(pages), len(documents))
            held_out = _held_out(name, corpus, rows, practice)
            selection = Selection(name, settings, shelf, book, asked, held_out, seed)
            _add_practice(selection, practice, settings, shelf)
            selection.fill(_in_other_words(spool.balanced(name), material, selection.target, settings))
            selection.add_foreign(foreign.questions(name, sources[name].items()))
            balances[name] = balance(selection.rows, selection.wanted(documents, bool(practice.of(name))))
            rows[name] = _shuffled(selection.rows, seed)
            log.info("%s: %d examples", name, len(rows[name]))
    if not rows["train"]:
        raise DataError(
            f"no training question could be made from {len(chunks)} chunks; the rules read English legal and "
            "technical prose: add such PDFs, or raise data_prep.round_trip_k and data_prep.max_answer_words"
        )
    used = {chunk_id for name in SPLITS for row in rows[name] for chunk_id in row.contexts}
    brought = practice.train.passages | practice.val.passages
    passages = {i: chunk for i, chunk in brought.items() if i in used}
    known = replace(splits, of_section=practice.sections | splits.of_section)
    check_leaks(rows, known, {**retriever.chunks, **passages}, retriever)
    return Dataset(rows, close(book, corpus, rows, balances), splits, list(passages.values()))


def _in_other_words(
    ordered: Iterator[Candidate], material: Material, limit: int, settings: DataPrep
) -> Iterator[Candidate]:
    """The candidates, the first `limit` of them reworded where a model is there for it."""
    if material.rewrite is None:
        return ordered
    return chain(reworded(list(islice(ordered, limit)), material.rewrite, limit, settings), ordered)


def lay_out(material: Material, settings: DataPrep, seed: int) -> tuple[Corpus, Splits]:
    """Decide which passages are trained on, validated on and tested on, before any question.

    Args:
        material: Pages, passages and what is held out.
        settings: The section `data_prep`.
        seed: The run's seed.
    """
    retriever = material.retriever
    chunks = sorted(retriever.chunks.values(), key=lambda c: (c.document, c.start, c.chunk_id))
    clusters = document_clusters(chunks, retriever.vectors_of)
    for group in clusters:
        log.info("versions of one document, split as one: %s", ", ".join(group))
    splits = assign_splits(chunks, settings, material.held_out, seed, clusters)
    split_of = {chunk.chunk_id: splits.of(chunk) for chunk in chunks}
    barred = _barred(chunks, split_of, retriever)
    return Corpus(material.pages, chunks, split_of, barred, splits.by, clusters), splits


def training_passages(corpus: Corpus) -> list[Chunk]:
    """What a language model may be shown: no passage of another split, and no near-copy of one."""
    return [
        chunk
        for chunk in corpus.chunks
        if corpus.split_of[chunk.chunk_id] == "train" and chunk.chunk_id not in corpus.barred
    ]


def _add_written(written: Drafts, settings: DataPrep, notes: _Notes) -> None:
    """A language model's drafts pass the filters of those that rules made."""
    notes.book.llm = written.account
    for candidate, found in written.candidates:
        notes.take("train", candidate, found or cheap_fault(candidate, settings))


def _add_practice(selection: Selection, practice: Practice, settings: DataPrep, shelf: Shelf) -> None:
    """Questions by people: those on the corpus, then those that bring their passage.

    In training the user's own documents come first, hence `brought_share`; in validation they shall show
    when the model has to refuse people, and rules' questions do not (CONTRIBUTING.md).
    """
    split, book = selection.split, selection.book
    share = practice.of(split)
    outcomes = selection.add_practice(share.candidates, settings.practice_share, shelf)
    for candidate, outcome in zip(share.candidates, outcomes, strict=True):
        book.enter(split, candidate, outcome)
    if not share.brought:
        return
    visible = {**practice.train.passages, **share.passages}
    own = replace(shelf, retriever=shelf.retriever.over(list(visible.values())), allowed=frozenset(visible))
    limit = (
        min(settings.practice_share, settings.brought_share) if split == "train" else settings.practice_share
    )
    book.brought[split].update(selection.add_practice(share.brought, limit, own))


@dataclass(frozen=True)
class _Notes:
    """Where questions go: faulty ones into the book, sound ones to disk."""

    book: Book
    spool: Spool

    def take(self, split: Split, candidate: Candidate, fault: str | None) -> None:
        """Put a question where it belongs."""
        if fault is not None:
            self.book.enter(split, candidate, fault)
        else:
            self.spool.add(split, candidate)


def _ask(corpus: Corpus, asking: Asking, engine: Engine, notes: _Notes) -> dict[Split, Sample]:
    """Make all questions, document by document; returns a sample of the statements of each split."""
    chunks = [chunk for chunk in corpus.chunks if chunk.chunk_id not in corpus.barred]
    sources = {name: Sample(SOURCES, derived_seed(asking.seed, "sources", name)) for name in ORDER}
    for found in engine.questions(whole_documents(chunks, corpus.split_of), asking):
        first, _ = found.questions[0]
        sources[corpus.split_of[first.chunk.chunk_id]].offer(found.source)
        for candidate, fault in found.questions:
            notes.take(corpus.split_of[candidate.chunk.chunk_id], candidate, fault)
    sound = sum(notes.spool.count(name) for name in ORDER)
    asked = sound + sum(sum(counts.values()) for counts in notes.book.by_split.values())
    log.info("%d questions made, %d of them sound", asked, sound)
    return sources


class Sample:
    """An even sample of what is offered, of bounded size.

    Source: Vitter 1985, "Random sampling with a reservoir", algorithm R.
    """

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._random = random.Random(seed)
        self._offered = 0
        self._kept: list[tuple[int, Source]] = []

    def offer(self, source: Source) -> None:
        """Keep a statement, perhaps in place of an earlier one."""
        entry = (self._offered, source)
        self._offered += 1
        if len(self._kept) < self._size:
            self._kept.append(entry)
        elif (place := self._random.randrange(self._offered)) < self._size:
            self._kept[place] = entry

    def items(self) -> list[Source]:
        """The sample in the order in which it was offered."""
        return [source for _, source in sorted(self._kept, key=lambda entry: entry[0])]


def _barred(chunks: Sequence[Chunk], split_of: dict[str, Split], retriever: Retriever) -> frozenset[str]:
    """Training and validation chunks that repeat text of a split which they must not know."""
    parts: dict[Split, list[Chunk]] = {name: [] for name in ORDER}
    for chunk in chunks:
        parts[split_of[chunk.chunk_id]].append(chunk)
    held = [*parts["test"], *parts["val"]]
    train = near_copies(parts["train"], held, retriever.vectors_of)
    return frozenset([*train, *near_copies(parts["val"], parts["test"], retriever.vectors_of)])


def _held_out(
    name: Split, corpus: Corpus, rows: dict[Split, list[Example]], practice: Practice
) -> HeldOutText:
    """What the questions of a split must not repeat."""
    hidden = HIDDEN[name]
    own = (chunk for chunk in corpus.chunks if corpus.split_of[chunk.chunk_id] in hidden)
    passages = chain(own, *(practice.of(split).passages.values() for split in hidden))
    return HeldOutText(passages, [row for split in hidden for row in rows.get(split, [])])


def _visible(name: Split, corpus: Corpus) -> frozenset[str]:
    """Chunks that may be shown as contexts: train sees train, val all but test, test everything."""
    if name == "test":
        return frozenset(corpus.split_of)
    seen = ("train",) if name == "train" else ("train", "val")
    return frozenset(i for i, split in corpus.split_of.items() if split in seen and i not in corpus.barred)


def _page_finder(pages: Sequence[Page]) -> PageOf:
    by_document: dict[str, list[Page]] = {}
    for page in sorted(pages, key=lambda page: (page.doc_id, page.offset, page.page)):
        by_document.setdefault(page.doc_id, []).append(page)

    def page_of(chunk: Chunk, start: int) -> int:
        """The physical page on which a position of the chunk stands."""
        at = chunk.start + start
        passed = [page.page for page in by_document.get(chunk.doc_id, []) if page.offset <= at and page.text]
        return passed[-1] if passed else chunk.pages[0]

    return page_of


class _Text:
    """A document's text, looked through passage by passage instead of copied."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self._chunks = chunks

    def __contains__(self, term: object) -> bool:
        return any(str(term) in chunk.text.lower() for chunk in self._chunks)


class _Foreign:
    """Hands out questions without answers; one bank serves all splits, so that none repeats."""

    def __init__(
        self,
        chunks: Sequence[Chunk],
        casing: Casing,
        practice: Practice,
        seed: int,
        written: Sequence[Foreign] = (),
    ) -> None:
        by_document: defaultdict[str, list[Chunk]] = defaultdict(list)
        words: set[str] = set()
        for chunk in chunks:
            by_document[chunk.document].append(chunk)
            words.update(re.findall(r"\w+", chunk.text.lower()))
        self._texts = {name: _Text(part) for name, part in by_document.items()}
        self._names = {chunk.document: document_names(chunk.title, casing.acronyms) for chunk in chunks}
        self._bank = iter(bank_questions(" ".join(sorted(words)), seed))
        self._terms = Terms(chunks)
        self._practice = practice
        self._written = written
        self._seed = seed

    def questions(self, split: Split, sources: Sequence[Source]) -> dict[str, Iterator[Foreign]]:
        """By kind, each in a seeded order."""
        seed = derived_seed(self._seed, split)
        people = self._practice.of(split).foreign
        return ({"practice": iter(people)} if people else {}) | {
            # A language model's questions ask for missing aspects too, so they come first among those.
            "aspect": chain(
                self._written if split == "train" else (), close_questions(sources, self._terms, seed)
            ),
            "other_document": other_document_questions(sources, self._names, self._texts, seed),
            "bank": self._bank,
        }


def _shuffled(rows: list[Example], seed: int) -> list[Example]:
    ordered = sorted(rows, key=lambda row: row.example_id)
    random.Random(derived_seed(seed, "rows")).shuffle(ordered)
    return ordered
