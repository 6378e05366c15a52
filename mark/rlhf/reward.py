"""How good an answer is: the one reward that preferences, GRPO, RLOO, validation and the report share.

An answerable question earns for agreement with the gold answer and for a quote; an unanswerable one for being
refused. Words beyond what is allowed cost. A false refusal, an answer to an unanswerable question and an
answer that does not end earn nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mark.answering.quotes import find_quote
from mark.answering.refusal import is_refusal
from mark.config import Reward
from mark.evaluation.metrics import answerable_golds, token_f1
from mark.prompting import Passage


@dataclass(frozen=True)
class Parts:
    """What an answer did, each in [0, 1]; `length` is bad, the others are good.

    Attributes:
        token_f1: With the best accepted answer.
        quote: 1 where it stands verbatim in a shown passage.
        refusal: 1 where a question without an answer was refused.
        length: Words beyond the allowed ones over the allowed ones, at most 1. Allowed are
            `Reward.free_words`, or as many as the longest accepted answer has, whichever is more.
    """

    token_f1: float = 0.0
    quote: float = 0.0
    refusal: float = 0.0
    length: float = 0.0

    def total(self, weights: Reward) -> float:
        """The reward: `w_f1 * f1 + w_quote * quote + w_refusal * refusal - w_length * length`."""
        good = weights.token_f1 * self.token_f1 + weights.quote * self.quote + weights.refusal * self.refusal
        return good - weights.length * self.length


def judge(
    answer: str, golds: Sequence[str], passages: Sequence[Passage], weights: Reward, truncated: bool = False
) -> Parts:
    """Judge what a model wrote.

    Args:
        answer: Its text.
        golds: Accepted answers; none, or only the refusal, for an unanswerable question.
        passages: As they were shown.
        weights: Only `free_words` is read here.
        truncated: It did not end within its limit: it earns nothing and counts as too long.
    """
    if truncated:
        return Parts(length=1.0)
    refused = is_refusal(answer)
    quoted = not refused and find_quote(answer, passages) is not None
    return judged(answer, golds, refused, quoted, weights)


def judged(answer: str, golds: Sequence[str], refused: bool, quoted: bool, weights: Reward) -> Parts:
    """The same where refusal and quote are known already, as in an evaluation's predictions."""
    answers = answerable_golds(golds)
    if refused:
        return Parts(refusal=float(not answers))
    length = _excess(answer, answers, weights.free_words)
    if not answers:
        return Parts(length=length)
    f1 = max(token_f1(answer, gold) for gold in answers)
    return Parts(token_f1=f1, quote=float(quoted), length=length)


def _excess(answer: str, golds: Sequence[str], free_words: int) -> float:
    allowed = max([free_words, *(len(gold.split()) for gold in golds)])
    return min(1.0, max(0, len(answer.split()) - allowed) / allowed)
