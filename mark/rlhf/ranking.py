"""From sampled answers to pairs: the best over the worst where the gap is clear."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from pydantic import BaseModel

from mark.answering.quotes import fold
from mark.config import Reward
from mark.rlhf.preferences import AnswerCounts, FromSamples, Pair, QuestionCounts
from mark.rlhf.reward import judge
from mark.rlhf.sampling import Sampled, Task

Counts = TypeVar("Counts", bound=BaseModel)


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


def rank(drawn: Iterable[tuple[Task, Sequence[Sampled]]], weights: Reward, min_gap: float) -> FromSamples:
    """The pairs of questions with their sampled answers, and what became of the others.

    Args:
        drawn: Each question with its answers.
        weights: Of the reward.
        min_gap: In reward; see `best_and_worst`.
    """
    found = FromSamples(questions=QuestionCounts())
    for task, answers in drawn:
        pair, counts = best_and_worst(task, answers, weights, min_gap)
        found.answers = _sum(found.answers, counts)
        found.questions.asked += 1
        if pair is not None:
            found.pairs.append(pair)
            found.questions.paired += 1
        elif counts.left_over < 2:
            found.questions.no_two_answers += 1
        else:
            found.questions.tied += 1
    return found


def joined(parts: Iterable[FromSamples]) -> FromSamples:
    """Several parts as one, in order."""
    whole = FromSamples(questions=QuestionCounts())
    for part in parts:
        whole.pairs += part.pairs
        whole.questions = _sum(whole.questions, part.questions)
        whole.answers = _sum(whole.answers, part.answers)
    return whole


def _sum(one: Counts, other: Counts) -> Counts:
    names = type(one).model_fields
    return type(one)(**{name: getattr(one, name) + getattr(other, name) for name in names})
