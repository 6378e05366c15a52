"""Questions written by people for training and validation, and where their passages stand in this corpus.

A row whose document is in the corpus is asked of the corpus's own passage. The others bring their
passage along, so that a model for other documents learns from them too how people ask, and when to refuse;
their distractors are found among the other passages that were brought, by the same retrieval.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mark.answering.quotes import fold
from mark.data_prep.candidates import Candidate
from mark.data_prep.ledger import Corpus
from mark.data_prep.passage_copies import VectorsOf, near_copies
from mark.data_prep.split import Section
from mark.data_prep.unanswerable import Foreign
from mark.errors import DataError
from mark.files import read_jsonl, sha256_text
from mark.records import Chunk, PracticeQuestion, Split
from mark.seeding import derived_seed

RULE = "practice"  # rule_id of the examples
SPLITS: tuple[Split, ...] = ("train", "val")  # those that use them


@dataclass
class Share:
    """What of the practice questions one split can use."""

    candidates: list[Candidate] = field(default_factory=list)  # with an answer in the corpus, seeded order
    brought: list[Candidate] = field(default_factory=list)  # with an answer in a passage of `passages`
    foreign: list[Foreign] = field(default_factory=list)  # without one
    passages: dict[str, Chunk] = field(default_factory=dict)  # chunk id -> those that are not in the corpus

    def __bool__(self) -> bool:
        return bool(self.candidates or self.brought or self.foreign)


@dataclass
class Practice:
    """What of the practice questions can be used with a corpus; none of them is a test question."""

    train: Share = field(default_factory=Share)
    val: Share = field(default_factory=Share)
    sections: dict[Section, Split] = field(default_factory=dict)  # of the passages that are not in the corpus
    unused: Counter[str] = field(default_factory=Counter)  # reason -> rows

    def of(self, split: Split) -> Share:
        """The share of a split; empty for test."""
        return {"train": self.train, "val": self.val, "test": Share()}[split]


def read_practice(path: Path, share: float) -> list[PracticeQuestion]:
    """The practice questions; none are read when none are asked for.

    Args:
        path: data/practice.jsonl.
        share: `data_prep.practice_share`.

    Raises:
        DataError: The file is missing although a share is asked for, or a row is damaged.
    """
    if share == 0:
        return []
    if not path.is_file():
        raise DataError(f"{path} is missing; bring it back with git, or set data_prep.practice_share to 0")
    return read_jsonl(path, PracticeQuestion)


def resolve(
    rows: Sequence[PracticeQuestion],
    corpus: Corpus,
    val_share: float,
    seed: int,
    vectors_of: VectorsOf | None = None,
) -> Practice:
    """Find each row's passage in the corpus, or take the one that it brings along.

    A row on the corpus belongs to the split of its section; those of the test split are left out. Of the
    others a share goes to validation: whole sections of the passages that are brought, and single questions
    without an answer. Questions without an answer are kept only where the corpus holds the documents that
    they were written against: elsewhere they might have one.

    Args:
        rows: The practice questions.
        corpus: The passages and their splits.
        val_share: `data_prep.val_share`.
        seed: The run's seed.
        vectors_of: float32 [chunks, dimension], unit rows for given chunks; None = copies by words only.
    """
    practice = Practice()
    documents = {chunk.document for chunk in corpus.chunks}
    known = all(row.document in documents for row in rows if row.document)
    by_section: dict[Section, list[Chunk]] = {}
    for chunk in corpus.chunks:
        by_section.setdefault((chunk.document, chunk.section), []).append(chunk)
    brought: list[PracticeQuestion] = []
    for row in sorted(rows, key=lambda row: row.id):
        if row.answer is not None and row.document not in documents:
            brought.append(row)
        elif row.answer is not None:
            _add_own(practice, row, _find(row, by_section.get(_section(row), [])), corpus)
        elif known:
            split = _drawn(seed, val_share, row.question)
            practice.of(split).foreign.append(Foreign(row.question, RULE, None))
        else:
            practice.unused["other_corpus"] += 1
    _add_brought(practice, brought, corpus, partial(_drawn, seed, val_share), vectors_of)
    for split in SPLITS:
        share = practice.of(split)
        random.Random(derived_seed(seed, RULE, split)).shuffle(share.candidates)
        random.Random(derived_seed(seed, RULE, split, "brought")).shuffle(share.brought)
        random.Random(derived_seed(seed, RULE, split, "foreign")).shuffle(share.foreign)
    return practice


def _section(row: PracticeQuestion) -> Section:
    return row.document or "", row.section or ""


def _drawn(seed: int, val_share: float, *names: str) -> Split:
    """Validation for a share of all names, the same one in every run."""
    return (
        "val" if random.Random(derived_seed(seed, "practice val", *names)).random() < val_share else "train"
    )


def _add_own(practice: Practice, row: PracticeQuestion, found: Chunk | None, corpus: Corpus) -> None:
    """A question on a passage of the corpus."""
    if found is None:
        practice.unused["not_found"] += 1
    elif (split := corpus.split_of[found.chunk_id]) == "test" or found.chunk_id in corpus.barred:
        practice.unused["held_out"] += 1
    else:
        practice.of(split).candidates.append(_candidate(row, found))


def _add_brought(
    practice: Practice,
    rows: Sequence[PracticeQuestion],
    corpus: Corpus,
    draw: Callable[..., Split],
    vectors_of: VectorsOf | None,
) -> None:
    """Questions with their own passages, but for copies of what another split holds."""
    passages: dict[Split, dict[str, Chunk]] = {split: {} for split in SPLITS}
    for row in rows:
        split = practice.sections.setdefault(_section(row), draw(*_section(row)))
        passage = _passage(row)
        passages[split][passage.chunk_id] = passage
    hidden: list[Chunk] = []
    for split in reversed(SPLITS):  # validation first: training must not know its passages
        held = [chunk for chunk in corpus.chunks if corpus.split_of[chunk.chunk_id] != split]
        copies = near_copies(list(passages[split].values()), [*held, *hidden], vectors_of)
        practice.of(split).passages.update({i: p for i, p in passages[split].items() if i not in copies})
        hidden += practice.of(split).passages.values()
    for row in rows:
        share, passage = practice.of(practice.sections[_section(row)]), _passage(row)
        if passage.chunk_id in share.passages:
            share.brought.append(_candidate(row, passage))
        else:
            practice.unused["held_out"] += 1


def _find(row: PracticeQuestion, chunks: Sequence[Chunk]) -> Chunk | None:
    """The chunk that holds the quote, else the one that holds the answer."""
    for wanted in (row.quote, row.answer):
        for chunk in chunks:
            if wanted and fold(wanted) in fold(chunk.text):
                return chunk
    return None


def _passage(row: PracticeQuestion) -> Chunk:
    text = row.passage or ""
    heading = " > ".join([row.title or "", *row.heading_path])
    return Chunk(
        chunk_id=sha256_text(f"{RULE}\n{heading}\n{text}")[:16],
        doc_id=RULE,
        document=row.document or "",
        title=row.title or "",
        heading_path=row.heading_path,
        section=row.section or "",
        pages=[],
        start=0,
        end=len(text),
        text=text,
    )


def _candidate(row: PracticeQuestion, chunk: Chunk) -> Candidate:
    answer = fold(row.answer or "")
    return Candidate(row.question, answer, row.style, RULE, fold(row.quote or ""), chunk, 0, row.id)
