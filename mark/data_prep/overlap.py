"""How much of a question only repeats the sentence that answers it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from mark.data_prep.phrases import content_words

FEW_WORDS = 5  # content words below which the share says nothing: `What is a supplier` must repeat the term


@dataclass(frozen=True)
class Overlap:
    """Words that a question shares with a sentence."""

    share: float  # of the question's distinct content words, in [0, 1]; 0 where it has few
    run: int  # words of the longest stretch that stands in both


def overlap(question: str, sentence: str, named: str = "") -> Overlap:
    """Compare a question with the sentence that holds its answer.

    Args:
        question: As it is asked.
        sentence: With its lead, if it is a list item.
        named: A part of the question that cannot be said otherwise (a defined term).
    """
    spoken = question.replace(named, " ") if named else question
    asked, told = set(content_words(spoken)), set(content_words(sentence))
    share = len(asked & told) / len(asked) if len(asked) >= FEW_WORDS else 0.0
    return Overlap(share, longest_run(_words(spoken), _words(sentence)))


def longest_run(first: list[str], second: list[str]) -> int:
    """Length of the longest common stretch of two word lists.

    Source: longest common substring by dynamic programming, one row at a time.
    """
    best = 0
    above = [0] * (len(second) + 1)
    for word in first:
        row = [0] + [
            before + 1 if word == other else 0
            for (before, _), other in zip(pairwise(above), second, strict=True)
        ]
        best = max(best, *row)
        above = row
    return best


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
