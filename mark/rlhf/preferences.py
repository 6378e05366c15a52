"""From sampled answers and from people's feedback to pairs and rated answers, every one accounted for."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from mark.answering.quotes import fold
from mark.config import Reward, Sampling
from mark.evaluation.questions import evenly
from mark.records import Chunk, Row
from mark.rlhf.feedback import AcceptedFeedback, TestQuestions
from mark.rlhf.reward import judge
from mark.rlhf.sampling import Sampled, Task

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

    asked: int
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
    """`accepted == test_question + unknown_passage + too_long + no_change + edits + thumbs + unused`."""

    model_config = ConfigDict(extra="forbid")

    accepted: int = 0
    test_question: int = 0  # nearly a test question: never taken
    unknown_passage: int = 0  # cites a chunk that is no longer there
    too_long: int = 0  # question or answer leaves no room for the other
    no_change: int = 0  # the edited answer is the original
    edits: int = 0
    thumbs: int = 0
    unused: int = 0  # the method has no use for it


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
        out = human.test_question + human.unknown_passage + human.too_long + human.no_change
        assert human.accepted == out + human.edits + human.thumbs + human.unused
        assert self.sampled_pairs + self.human_pairs == self.beyond_limit + self.pairs


@dataclass
class Preferences:
    """What training reads, and where it came from."""

    pairs: list[Pair]
    rated: list[Rated]
    ledger: PreferenceLedger


@dataclass(frozen=True)
class Human:
    """Accepted feedback and what it is checked against once more."""

    rows: Sequence[AcceptedFeedback]
    test: TestQuestions
    chunks: Mapping[str, Chunk]
    fits: Callable[[str, Sequence[str]], bool]  # a question and answers are not too long


def best_and_worst(
    task: Task, answers: Sequence[Sampled], weights: Reward, min_gap: float
) -> tuple[Pair | None, AnswerCounts]:
    """The pair of a question's sampled answers, None where none is clearly better than another.

    Args:
        task: The question.
        answers: As sampled.
        weights: Of the reward.
        min_gap: In reward; an equal reward is a tie whatever this is.
    """
    counts = AnswerCounts(sampled=len(answers))
    ended: dict[str, float] = {}
    for answer in answers:
        text = fold(answer.text)
        if answer.truncated or not text:
            counts.truncated += 1
        elif text in ended:
            counts.duplicate += 1
        else:
            ended[text] = judge(answer.text, task.golds, task.passages, weights).total(weights)
    ranked = sorted(ended, key=lambda text: (-ended[text], text))
    gap = ended[ranked[0]] - ended[ranked[-1]] if ranked else 0.0
    if gap <= 0 or gap < min_gap:
        counts.left_over = len(ranked)
        return None, counts
    counts.in_pairs, counts.left_over = 2, len(ranked) - 2
    pair = Pair(
        id=task.id,
        origin="sampled",
        question=task.question,
        contexts=[passage.chunk_id for passage in task.passages],
        chosen=ranked[0],
        rejected=ranked[-1],
        gap=round(gap, 6),
    )
    return pair, counts


def build_preferences(
    method: Method,
    sampled: Sequence[tuple[Task, Sequence[Sampled]]],
    human: Human,
    settings: tuple[Sampling, Reward, int],
    seed: int,
) -> Preferences:
    """Pairs and rated answers of a run; nothing is sampled for grpo and rloo, which sample while training.

    Args:
        method: Decides what of the feedback is used: edits become pairs, thumbs become ratings.
        sampled: Each question with its answers (none for grpo and rloo).
        human: Accepted feedback.
        settings: `rlhf.sampling`, `rlhf.reward` and `rlhf.max_pairs`.
        seed: Of the order of ratings.
    """
    sampling, weights, limit = settings
    asked, answers = QuestionCounts(asked=len(sampled)), AnswerCounts()
    pairs: list[Pair] = []
    for task, drawn in sampled:
        if not drawn:
            continue
        pair, counts = best_and_worst(task, drawn, weights, sampling.min_gap)
        for name in AnswerCounts.model_fields:
            setattr(answers, name, getattr(answers, name) + getattr(counts, name))
        different = counts.in_pairs + counts.left_over
        if pair is not None:
            pairs.append(pair)
            asked.paired += 1
        elif different < 2:
            asked.no_two_answers += 1
        else:
            asked.tied += 1
    edits, thumbs, counted = _from_people(method, human)
    kept = [*edits, *evenly(pairs, max(0, limit - len(edits)))][:limit]
    rated = _rated(kept, thumbs, seed) if method == "kto" else []
    online = method in ("grpo", "rloo")
    ledger = PreferenceLedger(
        method=method,
        questions=asked,
        answers=answers,
        human=counted,
        sampled_pairs=len(pairs),
        human_pairs=len(edits),
        beyond_limit=len(pairs) + len(edits) - len(kept),
        pairs=len(kept),
        human_ratings=len(thumbs),
        rows=len(sampled) if online else len(rated) if method == "kto" else len(kept),
    )
    ledger.check()
    return Preferences(kept, rated, ledger)


def _from_people(method: Method, human: Human) -> tuple[list[Pair], list[Rated], HumanCounts]:
    counts = HumanCounts(accepted=len(human.rows))
    pairs: list[Pair] = []
    rated: list[Rated] = []
    for row, tested in zip(human.rows, human.test.near([r.question for r in human.rows]), strict=True):
        if tested:
            counts.test_question += 1
        elif any(chunk_id not in human.chunks for chunk_id in row.contexts):
            counts.unknown_passage += 1
        elif not human.fits(row.question, [row.answer, row.edited or row.answer]):
            counts.too_long += 1
        elif row.edited is not None and fold(row.edited) == fold(row.answer):
            counts.no_change += 1
        elif row.edited is not None and method in ("dpo", "kto"):
            counts.edits += 1
            pairs.append(
                Pair(
                    id=row.id, origin="human", question=row.question, contexts=row.contexts,
                    chosen=fold(row.edited), rejected=fold(row.answer), gap=None,
                )
            )  # fmt: skip
        elif row.edited is None and method == "kto":
            counts.thumbs += 1
            rated.append(
                Rated(
                    id=row.id, origin="human", question=row.question, contexts=row.contexts,
                    answer=fold(row.answer), good=row.thumb == "up",
                )
            )  # fmt: skip
        else:
            counts.unused += 1
    return pairs, rated, counts


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
