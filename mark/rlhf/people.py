"""From accepted feedback to pairs and ratings; what may not be trained on is dropped and counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mark.answering.quotes import fold
from mark.records import Chunk
from mark.rlhf.feedback import AcceptedFeedback, TestQuestions
from mark.rlhf.held_out import TestTextFound
from mark.rlhf.preferences import FromPeople, HumanCounts, Method, Pair, Rated


@dataclass(frozen=True)
class Human:
    """Accepted feedback and what it is checked against once more."""

    rows: Sequence[AcceptedFeedback]
    test: TestQuestions
    chunks: Mapping[str, Chunk]
    fits: Callable[[str, Sequence[str]], bool]  # a question and answers are not too long
    held_out: TestTextFound = field(default_factory=TestTextFound)  # test text among them
    plain: Callable[[str], str] = str  # breaks the text of special tokens: people's text is untrusted


def from_people(method: Method, human: Human) -> FromPeople:
    """Edits become pairs (dpo, kto), thumbs ratings (kto); grpo and rloo use neither.

    Passages that the test is about are left out of what a question is asked with.

    Args:
        method: Decides what is used.
        human: The feedback.
    """
    counts = HumanCounts(accepted=len(human.rows))
    pairs: list[Pair] = []
    rated: list[Rated] = []
    rows = [_plain(row, human.plain) for row in human.rows]
    for row, tested in zip(rows, human.test.near([row.question for row in rows]), strict=True):
        contexts = [chunk_id for chunk_id in row.contexts if chunk_id not in human.held_out.passages]
        if tested:
            counts.test_question += 1
        elif any(chunk_id not in human.chunks for chunk_id in row.contexts):
            counts.unknown_passage += 1
        elif row.id in human.held_out.rows:
            counts.held_out += 1
        elif not human.fits(row.question, [row.answer, row.edited or row.answer]):
            counts.too_long += 1
        elif row.edited is not None and row.edited == row.answer:
            counts.no_change += 1
        elif row.edited is not None and method in ("dpo", "kto"):
            counts.edits += 1
            counts.fewer_passages += len(contexts) < len(row.contexts)
            pairs.append(
                Pair(
                    id=row.id, origin="human", question=row.question, contexts=contexts,
                    chosen=row.edited, rejected=row.answer, gap=None,
                )
            )  # fmt: skip
        elif row.edited is None and method == "kto":
            counts.thumbs += 1
            counts.fewer_passages += len(contexts) < len(row.contexts)
            rated.append(
                Rated(
                    id=row.id, origin="human", question=row.question, contexts=contexts,
                    answer=row.answer, good=row.thumb == "up",
                )
            )  # fmt: skip
        else:
            counts.unused += 1
    return FromPeople(pairs, rated, counts)


def _plain(row: AcceptedFeedback, plain: Callable[[str], str]) -> AcceptedFeedback:
    """Answers are folded first: NFKC makes special tokens of full-width letters."""
    edited = None if row.edited is None else plain(fold(row.edited))
    changes = {"question": plain(row.question), "answer": plain(fold(row.answer)), "edited": edited}
    return row.model_copy(update=changes)
