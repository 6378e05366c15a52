"""The account of data_prep: page -> passage -> asked -> kept, or dropped and why. Its sums match."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from mark.data_prep.balance import Balance
from mark.data_prep.candidates import Candidate
from mark.data_prep.llm.account import Account
from mark.errors import DataError
from mark.files import read_json
from mark.records import Chunk, Example, Page, Split

KEPT = "kept"
WITHHELD = "kept_without_passage"
WITHHELD_KIND = "withheld"  # of unanswerable examples


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


class ChunkCount(Count):
    """One passage."""

    split: Split


class Ledger(_Part):
    """data/ledger.json."""

    schema_version: int = 2
    split_by: str
    versions: list[list[str]]  # documents that are versions of one another, split as one
    pages: int
    pages_without_chunks: int
    chunks: int
    chunks_asked: int
    questions: Count
    splits: dict[Split, SplitCount]
    rules: dict[str, Count]
    brought: dict[Split, Count]  # practice questions on passages that are not in the corpus
    foreign: dict[str, Count]  # questions that no passage answers, by kind; kept ones are unanswerable
    practice_unused: dict[str, int]  # practice questions that were not asked: no place here, or held out
    balance: dict[Split, Balance]
    llm: Account | None = None  # replies of a language model; its answerable drafts are the rule `llm`
    trace: dict[str, dict[str, dict[str, ChunkCount]]]  # document -> page -> chunk id

    @model_validator(mode="after")
    def _sums(self) -> Ledger:
        traced = [
            count for pages in self.trace.values() for chunks in pages.values() for count in chunks.values()
        ]
        for name, parts in (
            ("splits", [s.questions for s in self.splits.values()]),
            ("rules", list(self.rules.values())),
            ("the trace's chunks", traced),
        ):
            if added(parts) != self.questions:
                raise ValueError(f"{name} do not add up to {self.questions}")
        if len(traced) != self.chunks or sum(count.asked > 0 for count in traced) != self.chunks_asked:
            raise ValueError("the trace does not add up to the chunks")
        for name in self.splits:
            self._check_split(name, [count for count in traced if count.split == name])
        for kind, count in self.foreign.items():
            if count.kept_without_passage != sum(s.unanswerable.get(kind, 0) for s in self.splits.values()):
                raise ValueError(f"{kind}: {count} questions do not add up to the examples")
        asked = self.rules["llm"].asked if "llm" in self.rules else 0
        if asked != (self.llm.answerable if self.llm is not None else 0):
            raise ValueError(f"llm: {asked} questions asked, which its replies do not add up to")
        return self

    def _check_split(self, name: Split, mine: Sequence[Count]) -> None:
        split = self.splits[name]
        if len(mine) != split.chunks or added(mine) != split.questions:
            raise ValueError(f"the trace does not add up to the {name} split")
        brought = self.brought[name]
        if split.answerable != split.questions.kept + brought.kept:
            raise ValueError(f"{split.answerable} answerable {name} examples but {split.questions} kept")
        withheld = split.questions.kept_without_passage + brought.kept_without_passage
        if split.unanswerable.get(WITHHELD_KIND, 0) != withheld:
            raise ValueError(f"{name}: {withheld} passages withheld, {split.unanswerable} examples")
        if split.answerable + sum(split.unanswerable.values()) != split.examples:
            raise ValueError("examples of a split do not add up")
        if self.balance[name].examples.got != split.examples:
            raise ValueError(f"the balance of {name} does not add up to its examples")


def read_ledger(path: Path) -> Ledger:
    """Read ledger.json.

    Raises:
        DataError: It is missing, of another version, or its sums do not match.
    """
    try:
        return Ledger.model_validate(read_json(path))
    except ValidationError as fault:
        first = fault.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "sums"
        raise DataError(f"{path}: {where}: {first['msg']}; run `dvc repro -f data_prep`") from None


def added(parts: Sequence[Count]) -> Count:
    """The sum of counts."""
    dropped: Counter[str] = Counter()
    for part in parts:
        dropped.update(part.dropped)
    return Count(
        asked=sum(part.asked for part in parts),
        kept=sum(part.kept for part in parts),
        kept_without_passage=sum(part.kept_without_passage for part in parts),
        dropped=dict(sorted(dropped.items())),
    )


@dataclass
class Book:
    """Outcomes counted while questions are chosen: `kept`, `kept_without_passage`, or a reason."""

    by_split: defaultdict[Split, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    by_rule: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    by_chunk: defaultdict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    # Of practice questions that bring a passage.
    brought: defaultdict[Split, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    foreign: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    unused_practice: Counter[str] = field(default_factory=Counter)
    llm: Account | None = None

    def enter(self, split: Split, candidate: Candidate, outcome: str) -> None:
        """Note what became of a question on the corpus."""
        self.by_split[split][outcome] += 1
        self.by_rule[candidate.rule][outcome] += 1
        counts = self.by_chunk[candidate.chunk.chunk_id]
        counts[outcome] = counts.get(outcome, 0) + 1


@dataclass(frozen=True)
class Corpus:
    """What the ledger needs to know of the corpus."""

    pages: Sequence[Page]
    chunks: Sequence[Chunk]
    split_of: dict[str, Split]  # chunk id -> split
    barred: frozenset[str]
    split_by: str
    versions: Sequence[Sequence[str]] = ()


def close(
    book: Book, corpus: Corpus, rows: dict[Split, list[Example]], balance: dict[Split, Balance]
) -> Ledger:
    """Add everything up."""
    covered = {(chunk.doc_id, page) for chunk in corpus.chunks for page in chunk.pages}
    names: tuple[Split, ...] = ("train", "val", "test")
    by_split = {name: _count(book.by_split[name]) for name in names}
    return Ledger(
        split_by=corpus.split_by,
        versions=[list(group) for group in corpus.versions],
        pages=len(corpus.pages),
        pages_without_chunks=sum((page.doc_id, page.page) not in covered for page in corpus.pages),
        chunks=len(corpus.chunks),
        chunks_asked=len(book.by_chunk),
        questions=added(list(by_split.values())),
        splits={name: _split(name, corpus, rows[name], by_split[name]) for name in names},
        rules={name: _count(outcomes) for name, outcomes in sorted(book.by_rule.items())},
        brought={name: _count(book.brought[name]) for name in names},
        foreign={name: _count(outcomes) for name, outcomes in sorted(book.foreign.items())},
        practice_unused=dict(sorted(book.unused_practice.items())),
        balance=balance,
        llm=book.llm,
        trace=_trace(corpus, book.by_chunk),
    )


def _count(outcomes: Mapping[str, int]) -> Count:
    rest = {name: count for name, count in sorted(outcomes.items()) if name not in (KEPT, WITHHELD)}
    return Count(
        asked=sum(outcomes.values()),
        kept=outcomes.get(KEPT, 0),
        kept_without_passage=outcomes.get(WITHHELD, 0),
        dropped=rest,
    )


def _split(name: Split, corpus: Corpus, rows: Sequence[Example], questions: Count) -> SplitCount:
    chunks = [chunk for chunk in corpus.chunks if corpus.split_of[chunk.chunk_id] == name]
    kinds = Counter(
        WITHHELD_KIND if row.document else row.rule_id for row in rows if row.kind == "unanswerable"
    )
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
        questions=questions,
    )


def _trace(
    corpus: Corpus, by_chunk: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, dict[str, ChunkCount]]]:
    trace: dict[str, dict[str, dict[str, ChunkCount]]] = {}
    for page in corpus.pages:
        trace.setdefault(page.document, {}).setdefault(str(page.page), {})
    for chunk in corpus.chunks:
        count = _count(by_chunk.get(chunk.chunk_id, {}))
        first = str(chunk.pages[0]) if chunk.pages else "0"
        trace.setdefault(chunk.document, {}).setdefault(first, {})[chunk.chunk_id] = ChunkCount(
            split=corpus.split_of[chunk.chunk_id],
            asked=count.asked,
            kept=count.kept,
            kept_without_passage=count.kept_without_passage,
            dropped=count.dropped,
        )
    return trace
