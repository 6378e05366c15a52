"""The account of data_prep: page -> passage -> asked -> kept, or dropped and why. Its sums match."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, model_validator

from mark.data_prep.candidates import Candidate
from mark.data_prep.llm.account import Account
from mark.records import Chunk, Example, Page, Split

KEPT = "kept"
WITHHELD = "kept_without_passage"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Count(_Part):
    """Questions asked, kept, and dropped by reason."""

    asked: int
    kept: int  # answerable
    kept_without_passage: int  # kept as unanswerable: the passage was withheld
    dropped: dict[str, int]

    @model_validator(mode="after")
    def _sums(self) -> Count:
        total = self.kept + self.kept_without_passage + sum(self.dropped.values())
        if total != self.asked:
            raise ValueError(f"{self.asked} asked but {total} accounted for")
        return self


class SplitCount(_Part):
    """One split."""

    sections: int
    chunks: int
    barred_chunks: int  # near-copies of held-out text: neither asked about nor shown
    examples: int
    answerable: int
    unanswerable: dict[str, int]  # by kind: withheld, bank, aspect, other_document
    short: int
    full: int
    questions: Count


class ChunkCount(_Part):
    """One passage."""

    split: Split
    asked: int
    kept: int
    dropped: int


class Ledger(_Part):
    """data/ledger.json."""

    schema_version: int = 1
    split_by: str
    pages: int
    pages_without_chunks: int
    chunks: int
    chunks_asked: int
    questions: Count
    splits: dict[Split, SplitCount]
    rules: dict[str, Count]
    brought: Count  # practice questions on passages that are not in the corpus; all in train
    practice_unused: dict[str, int]  # practice questions that were not asked: no place here, or held out
    llm: Account | None = None  # replies of a language model; its answerable drafts are the rule `llm`
    trace: dict[str, dict[str, dict[str, ChunkCount]]]  # document -> page -> chunk id

    @model_validator(mode="after")
    def _sums(self) -> Ledger:
        for name, parts in (
            ("splits", [s.questions for s in self.splits.values()]),
            ("rules", list(self.rules.values())),
        ):
            for what in ("asked", "kept", "kept_without_passage"):
                if sum(getattr(part, what) for part in parts) != getattr(self.questions, what):
                    raise ValueError(f"{what}: {name} do not add up to {getattr(self.questions, what)}")
        traced = [
            count for pages in self.trace.values() for chunks in pages.values() for count in chunks.values()
        ]
        if len(traced) != self.chunks or sum(count.asked for count in traced) != self.questions.asked:
            raise ValueError("the trace does not add up to chunks and questions")
        asked = self.rules["llm"].asked if "llm" in self.rules else 0
        if asked != (self.llm.answerable if self.llm is not None else 0):
            raise ValueError(f"llm: {asked} questions asked, which its replies do not add up to")
        for name, split in self.splits.items():
            kept = split.questions.kept + (self.brought.kept if name == "train" else 0)
            if split.answerable != kept:
                raise ValueError(f"{split.answerable} answerable {name} examples but {kept} questions kept")
            if split.answerable + sum(split.unanswerable.values()) != split.examples:
                raise ValueError("examples of a split do not add up")
        return self


@dataclass
class Book:
    """Entries made while questions are chosen."""

    entries: list[tuple[Split, Candidate, str]] = field(default_factory=list)
    brought: list[str] = field(default_factory=list)  # outcomes of practice questions that bring a passage
    unused_practice: Counter[str] = field(default_factory=Counter)
    llm: Account | None = None

    def enter(self, split: Split, candidate: Candidate, outcome: str) -> None:
        """Note what became of a question: `kept`, `kept_without_passage`, or a reason."""
        self.entries.append((split, candidate, outcome))


@dataclass(frozen=True)
class Corpus:
    """What the ledger needs to know of the corpus."""

    pages: Sequence[Page]
    chunks: Sequence[Chunk]
    split_of: dict[str, Split]  # chunk id -> split
    barred: frozenset[str]
    split_by: str


def close(book: Book, corpus: Corpus, rows: dict[Split, list[Example]]) -> Ledger:
    """Add everything up."""
    by_rule: defaultdict[str, list[str]] = defaultdict(list)
    by_chunk: defaultdict[str, list[str]] = defaultdict(list)
    by_split: defaultdict[str, list[str]] = defaultdict(list)
    for split, candidate, outcome in book.entries:
        by_rule[candidate.rule].append(outcome)
        by_chunk[candidate.chunk.chunk_id].append(outcome)
        by_split[split].append(outcome)
    covered = {(chunk.doc_id, page) for chunk in corpus.chunks for page in chunk.pages}
    names: tuple[Split, ...] = ("train", "val", "test")
    return Ledger(
        split_by=corpus.split_by,
        pages=len(corpus.pages),
        pages_without_chunks=sum((page.doc_id, page.page) not in covered for page in corpus.pages),
        chunks=len(corpus.chunks),
        chunks_asked=len(by_chunk),
        questions=_count([outcome for _, _, outcome in book.entries]),
        splits={name: _split(name, corpus, rows[name], by_split[name]) for name in names},
        rules={name: _count(outcomes) for name, outcomes in sorted(by_rule.items())},
        brought=_count(book.brought),
        practice_unused=dict(sorted(book.unused_practice.items())),
        llm=book.llm,
        trace=_trace(corpus, by_chunk),
    )


def _count(outcomes: Sequence[str]) -> Count:
    counts = Counter(outcomes)
    kept, withheld = counts.pop(KEPT, 0), counts.pop(WITHHELD, 0)
    return Count(
        asked=len(outcomes), kept=kept, kept_without_passage=withheld, dropped=dict(sorted(counts.items()))
    )


def _split(name: Split, corpus: Corpus, rows: Sequence[Example], outcomes: Sequence[str]) -> SplitCount:
    chunks = [chunk for chunk in corpus.chunks if corpus.split_of[chunk.chunk_id] == name]
    kinds = Counter("withheld" if row.document else row.rule_id for row in rows if row.kind == "unanswerable")
    answerable = [row for row in rows if row.kind == "answerable"]
    return SplitCount(
        sections=len({(chunk.document, chunk.section) for chunk in chunks}),
        chunks=len(chunks),
        barred_chunks=sum(chunk.chunk_id in corpus.barred for chunk in chunks),
        examples=len(rows),
        answerable=len(answerable),
        unanswerable=dict(sorted(kinds.items())),
        short=sum(row.style == "short" for row in answerable),
        full=sum(row.style == "full" for row in answerable),
        questions=_count(outcomes),
    )


def _trace(corpus: Corpus, by_chunk: dict[str, list[str]]) -> dict[str, dict[str, dict[str, ChunkCount]]]:
    trace: dict[str, dict[str, dict[str, ChunkCount]]] = {}
    for page in corpus.pages:
        trace.setdefault(page.document, {}).setdefault(str(page.page), {})
    for chunk in corpus.chunks:
        outcomes = by_chunk.get(chunk.chunk_id, [])
        kept = sum(outcome in (KEPT, WITHHELD) for outcome in outcomes)
        first = str(chunk.pages[0]) if chunk.pages else "0"
        trace.setdefault(chunk.document, {}).setdefault(first, {})[chunk.chunk_id] = ChunkCount(
            split=corpus.split_of[chunk.chunk_id],
            asked=len(outcomes),
            kept=kept,
            dropped=len(outcomes) - kept,
        )
    return trace
