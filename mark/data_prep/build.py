"""The whole of data_prep on chunks in memory: split, ask, filter, retrieve, check, account."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mark.config import DataPrep
from mark.data_prep.candidates import Candidate, balanced, cheap_fault, make_candidates
from mark.data_prep.leak import check_leaks
from mark.data_prep.ledger import Book, Corpus, Ledger, close
from mark.data_prep.naming import document_names
from mark.data_prep.near_misses import Terms
from mark.data_prep.phrases import Casing
from mark.data_prep.practice import Practice, resolve
from mark.data_prep.rewriting import Rewrite, reworded
from mark.data_prep.rules import Rule, Source, chosen_rules
from mark.data_prep.select import PageOf, Selection, Shelf
from mark.data_prep.similarity import QuestionIndex, near_copies
from mark.data_prep.split import HeldOut, Splits, assign_splits
from mark.data_prep.unanswerable import (
    Foreign,
    bank_questions,
    close_questions,
    other_document_questions,
)
from mark.errors import DataError
from mark.records import Chunk, Example, Page, PracticeQuestion, Split
from mark.retrieval import Retriever
from mark.seeding import derived_seed

log = logging.getLogger(__name__)

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
        practice: Questions that people wrote for training.
        rewrite: A model that puts questions into other words.
    """

    pages: Sequence[Page]
    retriever: Retriever
    held_out: HeldOut
    practice: Sequence[PracticeQuestion] = ()
    rewrite: Rewrite | None = None


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
    rules = chosen_rules(settings.rules)
    pages, retriever = material.pages, material.retriever
    chunks = sorted(retriever.chunks.values(), key=lambda c: (c.document, c.start, c.chunk_id))
    splits = assign_splits(chunks, settings, material.held_out, seed)
    split_of = {chunk.chunk_id: splits.of(chunk) for chunk in chunks}
    corpus = Corpus(pages, chunks, split_of, _barred(chunks, split_of), splits.by)
    casing = Casing(chunk.text for chunk in chunks)
    book = Book()
    pool = _ask(corpus, rules, casing, settings, book, seed)
    practice = resolve(material.practice, chunks, split_of, corpus.barred, seed)
    book.unused_practice = practice.unused
    foreign = _Foreign(chunks, casing, practice.foreign, seed)
    asked = QuestionIndex()
    rows: dict[Split, list[Example]] = {}
    for name in ORDER:
        shown = min(top_k, settings.train_passages) if name == "train" else top_k
        shelf = Shelf(retriever, _visible(name, corpus), top_k, shown, _page_finder(pages))
        selection = Selection(name, settings, shelf, book, asked)
        if name == "train":
            _add_practice(selection, practice, settings, shelf, book)
        ordered = balanced(pool.candidates[name], seed)
        if material.rewrite is not None:
            ordered = reworded(ordered, material.rewrite, selection.target, settings)
        selection.fill(ordered)
        selection.add_foreign(foreign.questions(name, pool.sources[name]))
        rows[name] = _shuffled(selection.rows, seed)
        log.info("%s: %d examples", name, len(rows[name]))
    if not rows["train"]:
        raise DataError(
            f"no training question could be made from {len(chunks)} chunks; the rules read English legal and "
            "technical prose: add such PDFs, or raise data_prep.round_trip_k and data_prep.max_answer_words"
        )
    used = {chunk_id for row in rows["train"] for chunk_id in row.contexts}
    passages = {i: chunk for i, chunk in practice.passages.items() if i in used}
    check_leaks(rows, splits, {**retriever.chunks, **passages})
    return Dataset(rows, close(book, corpus, rows), splits, list(passages.values()))


def _add_practice(
    selection: Selection, practice: Practice, settings: DataPrep, shelf: Shelf, book: Book
) -> None:
    """Questions by people: those on the corpus, then those that bring their passage."""
    outcomes = selection.add_practice(practice.candidates, settings.practice_share, shelf)
    for candidate, outcome in zip(practice.candidates, outcomes, strict=True):
        book.enter("train", candidate, outcome)
    if not practice.brought:
        return
    own = replace(
        shelf,
        retriever=shelf.retriever.over(list(practice.passages.values())),
        allowed=frozenset(practice.passages),
    )
    share = min(settings.practice_share, settings.brought_share)
    book.brought = selection.add_practice(practice.brought, share, own)


@dataclass
class _Pool:
    """What could be asked in each split."""

    candidates: dict[Split, list[Candidate]]
    sources: dict[Split, list[Source]]


def _ask(
    corpus: Corpus, rules: dict[str, Rule], casing: Casing, settings: DataPrep, book: Book, seed: int
) -> _Pool:
    """Make all questions; those with a plain fault go into the book at once."""
    pool = _Pool({name: [] for name in ORDER}, {name: [] for name in ORDER})
    chunks = [chunk for chunk in corpus.chunks if chunk.chunk_id not in corpus.barred]
    for candidate, source in make_candidates(chunks, rules, casing, seed, corpus.split_of):
        split = corpus.split_of[candidate.chunk.chunk_id]
        known = pool.sources[split]
        if not known or known[-1] is not source:
            known.append(source)
        if fault := cheap_fault(candidate, settings):
            book.enter(split, candidate, fault)
        else:
            pool.candidates[split].append(candidate)
    sound = sum(len(part) for part in pool.candidates.values())
    log.info("%d questions made, %d of them sound", len(book.entries) + sound, sound)
    return pool


def _barred(chunks: Sequence[Chunk], split_of: dict[str, Split]) -> frozenset[str]:
    """Training and validation chunks that repeat text of a split which they must not know."""
    train = [c for c in chunks if split_of[c.chunk_id] == "train"]
    val = [c for c in chunks if split_of[c.chunk_id] == "val"]
    test = [c for c in chunks if split_of[c.chunk_id] == "test"]
    return frozenset([*near_copies(train, [*test, *val]), *near_copies(val, test)])


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


class _Foreign:
    """Hands out questions without answers; one bank serves all splits, so that none repeats."""

    def __init__(
        self, chunks: Sequence[Chunk], casing: Casing, practice: Sequence[Foreign], seed: int
    ) -> None:
        self._texts: dict[str, str] = {}
        for chunk in chunks:
            self._texts[chunk.document] = f"{self._texts.get(chunk.document, '')} {chunk.text.lower()}"
        self._names = {chunk.document: document_names(chunk.title, casing.acronyms) for chunk in chunks}
        self._bank = iter(bank_questions(" ".join(self._texts.values()), seed))
        self._terms = Terms(chunks)
        self._practice = practice
        self._seed = seed

    def questions(self, split: Split, sources: Sequence[Source]) -> dict[str, Iterator[Foreign]]:
        """By kind, each in a seeded order."""
        seed = derived_seed(self._seed, split)
        practice = {"practice": iter(self._practice)} if split == "train" and self._practice else {}
        return practice | {
            "aspect": close_questions(sources, self._terms, seed),
            "other_document": other_document_questions(sources, self._names, self._texts, seed),
            "bank": self._bank,
        }


def _shuffled(rows: list[Example], seed: int) -> list[Example]:
    ordered = sorted(rows, key=lambda row: row.example_id)
    random.Random(derived_seed(seed, "rows")).shuffle(ordered)
    return ordered
