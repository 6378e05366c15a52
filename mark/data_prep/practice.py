"""Questions written by people for training, and where their passages stand in this corpus.

A row whose document is in the corpus is asked of the corpus's own passage. The others bring their
passage along, so that a model for other documents learns from them too how people ask; their distractors
are found among the other passages that were brought, by the same retrieval.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mark.answering.quotes import fold
from mark.data_prep.candidates import Candidate
from mark.data_prep.passage_copies import near_copies
from mark.data_prep.unanswerable import Foreign
from mark.errors import DataError
from mark.files import read_jsonl, sha256_text
from mark.records import Chunk, PracticeQuestion, Split
from mark.seeding import derived_seed

RULE = "practice"  # rule_id of the examples


@dataclass
class Practice:
    """What of the practice questions can be used with a corpus."""

    candidates: list[Candidate] = field(default_factory=list)  # with an answer in the corpus, seeded order
    brought: list[Candidate] = field(default_factory=list)  # with an answer in a passage of `passages`
    foreign: list[Foreign] = field(default_factory=list)  # without one
    passages: dict[str, Chunk] = field(default_factory=dict)  # chunk id -> those that are not in the corpus
    unused: Counter[str] = field(default_factory=Counter)  # reason -> rows


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
    chunks: Sequence[Chunk],
    split_of: Mapping[str, Split],
    barred: frozenset[str],
    seed: int,
) -> Practice:
    """Find each row's passage in the corpus, or take the one that it brings along.

    Rows on sections outside the train split are left out. Questions without an answer are kept only
    where the corpus holds the documents that they were written against: elsewhere they might have one.

    Args:
        rows: The practice questions.
        chunks: The whole corpus.
        split_of: Chunk id -> split.
        barred: Chunks that training must not see.
        seed: The run's seed.
    """
    practice = Practice()
    documents = {chunk.document for chunk in chunks}
    known = all(row.document in documents for row in rows if row.document)
    held = [chunk for chunk in chunks if split_of[chunk.chunk_id] != "train"]
    brought = [_passage(row) for row in rows if row.passage and row.document not in documents]
    copies = near_copies(brought, held)
    by_section: dict[tuple[str, str], list[Chunk]] = {}
    for chunk in chunks:
        by_section.setdefault((chunk.document, chunk.section), []).append(chunk)
    for row in sorted(rows, key=lambda row: row.id):
        if row.answer is None:
            _add_foreign(practice, row, known)
        elif row.document in documents:
            found = _find(row, by_section.get((row.document or "", row.section or ""), []))
            allowed = found is not None and split_of[found.chunk_id] == "train"
            if found is None:
                practice.unused["not_found"] += 1
            elif not allowed or found.chunk_id in barred:
                practice.unused["held_out"] += 1
            else:
                practice.candidates.append(_candidate(row, found))
        elif (passage := _passage(row)).chunk_id in copies:
            practice.unused["held_out"] += 1
        else:
            practice.passages[passage.chunk_id] = passage
            practice.brought.append(_candidate(row, passage))
    random.Random(derived_seed(seed, "practice")).shuffle(practice.candidates)
    random.Random(derived_seed(seed, "practice brought")).shuffle(practice.brought)
    random.Random(derived_seed(seed, "practice foreign")).shuffle(practice.foreign)
    return practice


def _add_foreign(practice: Practice, row: PracticeQuestion, known: bool) -> None:
    if known:
        practice.foreign.append(Foreign(row.question, RULE, None))
    else:
        practice.unused["other_corpus"] += 1


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
