"""Test and calibration questions: where they come from, which are taken, and that none was trained on."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mark.answering.quotes import fold, trim
from mark.errors import LeakError
from mark.files import read_jsonl
from mark.records import Chunk, Example, HandwrittenQuestion, Kind, PracticeQuestion, Style

log = logging.getLogger(__name__)

HANDWRITTEN = "handwritten"
_WORD_SHARE = 0.6  # of a quote's words that a chunk must hold to count as its source
Item = TypeVar("Item")


@dataclass(frozen=True)
class Question:
    """One question to answer, hand-written or rule-made.

    Attributes:
        answers: Accepted answers; empty or the refusal for an unanswerable question.
        gold: Chunk ids that hold the answer, in reading order; empty for an unanswerable question.
        contexts: Chunk ids to answer from, best first; None until they are retrieved.
        cosines: Chunk id -> cosine with the question, of every chunk that may be shown; None until known.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    kind: Kind
    style: Style
    rule_id: str
    document: str | None
    section: str | None
    gold: tuple[str, ...]
    contexts: tuple[str, ...] | None
    cosines: Mapping[str, float] | None = None

    @property
    def handwritten(self) -> bool:
        """Written by a person, not by a rule."""
        return self.rule_id == HANDWRITTEN


def from_example(row: Example) -> Question:
    """A rule-made question with the contexts that data_prep stored."""
    gold = (row.source_chunk,) if row.source_chunk is not None and row.kind == "answerable" else ()
    return Question(
        id=row.example_id,
        question=row.question,
        answers=tuple(row.answers),
        kind=row.kind,
        style=row.style,
        rule_id=row.rule_id,
        document=row.document,
        section=row.section,
        gold=gold,
        contexts=tuple(row.contexts),
    )


def from_handwritten(row: HandwrittenQuestion, chunks: Sequence[Chunk]) -> Question:
    """A hand-written question; its gold chunks are found by its quote.

    Args:
        row: The question.
        chunks: All chunks of the corpus, in reading order.
    """
    return _by_people(row, chunks, tuple(row.answers), HANDWRITTEN)


def from_practice(row: PracticeQuestion, chunks: Sequence[Chunk]) -> Question:
    """A practice question about a document of the corpus; its gold chunks are found by its quote.

    Args:
        row: The question.
        chunks: All chunks of the corpus, in reading order.
    """
    return _by_people(row, chunks, () if row.answer is None else (row.answer,), "practice")


def _by_people(
    row: HandwrittenQuestion | PracticeQuestion,
    chunks: Sequence[Chunk],
    answers: tuple[str, ...],
    rule_id: str,
) -> Question:
    return Question(
        id=row.id,
        question=row.question,
        answers=answers,
        kind=row.kind,
        style=row.style,
        rule_id=rule_id,
        document=row.document,
        section=row.section,
        gold=gold_chunks(row, chunks),
        contexts=None,
    )


def gold_chunks(row: HandwrittenQuestion | PracticeQuestion, chunks: Sequence[Chunk]) -> tuple[str, ...]:
    """The chunks of the cited section that hold the quote, or at least 60 % of its words."""
    if row.quote is None or row.kind == "unanswerable":
        return ()
    quote = trim(row.quote)
    wanted = Counter(quote.casefold().split())
    found = []
    for chunk in chunks:
        if (chunk.document, chunk.section) != (row.document, row.section):
            continue
        text = fold(chunk.text)
        shared = (wanted & Counter(text.casefold().split())).total()
        if quote in text or shared >= _WORD_SHARE * wanted.total():
            found.append(chunk.chunk_id)
    return tuple(found)


def load_handwritten(path: Path, chunks: Sequence[Chunk]) -> tuple[list[Question], int]:
    """The hand-written questions, or none when they are about other documents than the corpus.

    Returns:
        The questions, and how many were left out.
    """
    if not path.is_file():
        log.info("%s is missing: no hand-written questions are asked", path.name)
        return [], 0
    rows = read_jsonl(path, HandwrittenQuestion)
    missing = sorted({row.document for row in rows if row.document} - {chunk.document for chunk in chunks})
    if missing:
        names = ", ".join(missing[:3])
        log.info("%s: %d questions left out, the corpus lacks %s", path.name, len(rows), names)
        return [], len(rows)
    return [from_handwritten(row, chunks) for row in rows], 0


def evenly(items: Sequence[Item], limit: int) -> list[Item]:
    """At most `limit` items, evenly spaced, in order."""
    if len(items) <= limit:
        return list(items)
    return [items[(2 * i + 1) * len(items) // (2 * limit)] for i in range(limit)]


def stratified(items: Sequence[Item], limit: int, stratum: Callable[[Item], Hashable]) -> list[Item]:
    """At most `limit` items, evenly spaced within each stratum, shares kept, in order.

    Seats go by largest remainder; ties go to the stratum that appears first.
    """
    if len(items) <= limit:
        return list(items)
    places: dict[Hashable, list[int]] = {}
    for i, item in enumerate(items):
        places.setdefault(stratum(item), []).append(i)
    exact = {name: limit * len(rows) / len(items) for name, rows in places.items()}
    seats = {name: int(share) for name, share in exact.items()}
    spare = limit - sum(seats.values())
    for name in sorted(places, key=lambda name: seats[name] - exact[name])[:spare]:
        seats[name] += 1
    chosen = [i for name, rows in places.items() for i in evenly(rows, seats[name])]
    return [items[i] for i in sorted(chosen)]


def check_leaks(tested: Iterable[Question], trained: Iterable[Example]) -> None:
    """Stop where a test question was trained or validated on.

    Args:
        tested: All test questions, whether asked or not.
        trained: All train and validation rows.

    Raises:
        LeakError: A test question's text, or the section that a hand-written one cites, is among them.
    """
    texts: dict[str, str] = {}
    sections: dict[tuple[str, str], str] = {}
    for row in trained:
        texts.setdefault(fold(row.question).casefold(), row.example_id)
        if row.document and row.section:
            sections.setdefault((row.document, row.section), row.example_id)
    for question in tested:
        again = texts.get(fold(question.question).casefold())
        if again is not None:
            raise LeakError(
                f"test question {question.id} is also {again} of train or val; run `dvc repro -f data_prep`"
            )
        place = (question.document or "", question.section or "")
        if question.handwritten and place in sections:
            raise LeakError(
                f"{place[0]}, {place[1]} is cited by test question {question.id} and used by "
                f"{sections[place]} of train or val; run `mark held-out`, then `dvc repro data_prep`"
            )
