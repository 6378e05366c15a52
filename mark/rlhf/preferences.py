"""Pairs and rated answers, and the ledger that accounts for every question, answer and judgement."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict

from mark.evaluation.questions import evenly
from mark.records import Row

Method = Literal["dpo", "kto", "grpo", "rloo"]
Origin = Literal["sampled", "human"]


class Pair(Row):
    """Two answers to one question, the first better than the second."""

    id: str  # of the example, or of the feedback
    origin: Origin
    question: str
    contexts: list[str]  # chunk ids in prompt order
    chosen: str
    rejected: str
    gap: float | None  # in reward; None where a person decided


class Rated(Row):
    """One answer, good or bad."""

    id: str
    origin: Origin
    question: str
    contexts: list[str]
    answer: str
    good: bool


class QuestionCounts(BaseModel):
    """`asked == paired + tied + no_two_answers` where answers were sampled before training."""

    model_config = ConfigDict(extra="forbid")

    asked: int = 0
    left: int = 0  # never asked, because enough pairs were found, or nothing could be trained
    paired: int = 0
    tied: int = 0  # the gap is not clear
    no_two_answers: int = 0  # fewer than two different answers that end


class AnswerCounts(BaseModel):
    """`sampled == truncated + duplicate + in_pairs + left_over`."""

    model_config = ConfigDict(extra="forbid")

    sampled: int = 0
    truncated: int = 0  # cut off, or empty
    duplicate: int = 0  # equal to another answer to the same question
    in_pairs: int = 0
    left_over: int = 0  # of tied questions, or between best and worst


class HumanCounts(BaseModel):
    """`accepted` is the sum of all the others but `fewer_passages`."""

    model_config = ConfigDict(extra="forbid")

    accepted: int = 0
    test_question: int = 0  # nearly a test or hand-written development question: never taken
    unknown_passage: int = 0  # cites a chunk that is no longer there
    held_out: int = 0  # an answer rests on a passage of a test section, or repeats one or a test answer
    too_long: int = 0  # question or answer leaves no room for the other
    no_change: int = 0  # the edited answer is the original
    edits: int = 0
    thumbs: int = 0
    unused: int = 0  # the method has no use for it
    fewer_passages: int = 0  # edits and thumbs asked without passages of test sections that were shown


class PreferenceLedger(BaseModel):
    """What became of everything; `sampled_pairs + human_pairs == beyond_limit + pairs`."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    method: Method
    questions: QuestionCounts
    answers: AnswerCounts
    human: HumanCounts
    sampled_pairs: int
    human_pairs: int
    beyond_limit: int  # left out by rlhf.max_pairs
    pairs: int
    human_ratings: int  # of kto, beside two of each pair
    rows: int  # that training reads: pairs, rated answers or questions

    def check(self) -> None:
        """Our own invariant: every sum matches."""
        asked, answers, human = self.questions, self.answers, self.human
        if answers.sampled:
            assert asked.asked == asked.paired + asked.tied + asked.no_two_answers
            assert asked.paired == self.sampled_pairs and answers.in_pairs == 2 * self.sampled_pairs
        assert answers.sampled == answers.truncated + answers.duplicate + answers.in_pairs + answers.left_over
        parts = human.model_dump(exclude={"accepted", "fewer_passages"})
        assert human.accepted == sum(parts.values())
        assert self.sampled_pairs + self.human_pairs == self.beyond_limit + self.pairs


@dataclass
class Preferences:
    """What training reads, and where it came from."""

    pairs: list[Pair]
    rated: list[Rated]
    ledger: PreferenceLedger


@dataclass
class FromPeople:
    """What accepted feedback gave."""

    pairs: list[Pair] = field(default_factory=list)
    rated: list[Rated] = field(default_factory=list)
    counts: HumanCounts = field(default_factory=HumanCounts)


class FromSamples(BaseModel):
    """What the sampled answers of some questions gave."""

    model_config = ConfigDict(extra="forbid")

    pairs: list[Pair] = []
    questions: QuestionCounts
    answers: AnswerCounts = AnswerCounts()


def build_preferences(
    method: Method, sampled: FromSamples, people: FromPeople, limit: int, seed: int
) -> Preferences:
    """Pairs and rated answers of a run; nothing is sampled for grpo and rloo, which sample while training.

    Args:
        method: Decides what training reads.
        sampled: Of the model's own answers.
        people: Of the feedback; its pairs come first where there are more than `limit`.
        limit: `rlhf.max_pairs`.
        seed: Of the order of ratings.
    """
    kept = [*people.pairs, *evenly(sampled.pairs, max(0, limit - len(people.pairs)))][:limit]
    rated = _rated(kept, people.rated, seed) if method == "kto" else []
    online = method in ("grpo", "rloo")
    ledger = PreferenceLedger(
        method=method,
        questions=sampled.questions,
        answers=sampled.answers,
        human=people.counts,
        sampled_pairs=len(sampled.pairs),
        human_pairs=len(people.pairs),
        beyond_limit=len(sampled.pairs) + len(people.pairs) - len(kept),
        pairs=len(kept),
        human_ratings=len(people.rated),
        rows=sampled.questions.asked if online else len(rated) if method == "kto" else len(kept),
    )
    ledger.check()
    return Preferences(kept, rated, ledger)


def _rated(pairs: Sequence[Pair], thumbs: Sequence[Rated], seed: int) -> list[Rated]:
    """Both answers of each pair and people's thumbs, shuffled: KTO reads them in order."""
    rows = list(thumbs)
    for pair in pairs:
        for answer, good in ((pair.chosen, True), (pair.rejected, False)):
            rows.append(
                Rated(
                    id=pair.id, origin=pair.origin, question=pair.question, contexts=pair.contexts,
                    answer=answer, good=good,
                )
            )  # fmt: skip
    random.Random(seed).shuffle(rows)
    return rows
