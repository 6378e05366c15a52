"""The questions kept so far, and what makes a new one a repetition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray

from mark.data_prep.similarity import (
    BANDS,
    NEAR_COPY,
    PERMUTATIONS,
    jaccard,
    names,
    numbers,
    shingles,
    sketch,
    stems,
    word_hash,
    words,
)

NEAR_QUESTION = 0.8  # Jaccard index of the words
# Cosine and least Jaccard index of the content words that go with it; cosines alone depend on the embedder.
REWORDED_QUESTION = ((0.95, 0.25), (0.8, 0.45))


class QuestionIndex:
    """The questions kept so far; tells whether a new one is almost one of them.

    Near in wording by MinHash, verified by the exact Jaccard index and by shared runs of words; near in
    meaning by the cosine.
    """

    def __init__(self) -> None:
        self._lsh = MinHashLSH(num_perm=PERMUTATIONS, params=BANDS)
        self._texts: list[str] = []
        self._vectors: NDArray[np.float32] | None = None  # [capacity, dimension]
        self._rows: list[int] = []  # question of each vector

    def near(self, question: str, vector: NDArray[np.float32] | None = None) -> str | None:
        """The kept question that this one repeats, or None.

        Args:
            question: Its text.
            vector: float32 [dimension], unit length; None = wording only.
        """
        for number in sorted(self._lsh.query(_question_sketch(question))):
            other: str = self._texts[number]
            if same_wording(question, other):
                return other
        if vector is None or self._vectors is None:
            return None
        cosines = self._vectors[: len(self._rows)] @ vector
        for row in np.flatnonzero(cosines >= REWORDED_QUESTION[-1][0]):
            other = self._texts[self._rows[row]]
            if same_meaning(question, other, float(cosines[row])):
                return other
        return None

    def __contains__(self, question: str) -> bool:
        return self.near(question) is not None

    def add(self, question: str, vector: NDArray[np.float32] | None = None) -> None:
        """Remember a question."""
        self._lsh.insert(len(self._texts), _question_sketch(question))
        if vector is not None:
            self._remember(vector)
        self._texts.append(question)

    def _remember(self, vector: NDArray[np.float32]) -> None:
        count = len(self._rows)
        if self._vectors is None:
            self._vectors = np.empty((256, len(vector)), dtype=np.float32)
        elif count == len(self._vectors):
            self._vectors = np.concatenate([self._vectors, np.empty_like(self._vectors)])
        self._vectors[count] = vector
        self._rows.append(len(self._texts))


def same_wording(first: str, second: str) -> bool:
    """Whether two questions share nearly all words, one is a part of the other, or one word differs.

    A differing word makes another question where both sides put a name or number there.
    """
    tokens, others = question_tokens(first), question_tokens(second)
    if _conflict(first, second):
        return False
    if jaccard(tokens, others) >= NEAR_QUESTION:
        return True
    if min(len(tokens), len(others)) < 4:
        return False
    if _differ_in_one_word(words(first), words(second)):
        return True
    small, large = sorted((shingles(first), shingles(second)), key=len)
    return len(small) >= 3 and len(np.intersect1d(small, large)) >= NEAR_COPY * len(small)


def _differ_in_one_word(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether one word (or the two parts of a hyphened one) was left out, put in or replaced."""
    shorter = min(len(first), len(second))
    before = next((i for i in range(shorter) if first[i] != second[i]), shorter)
    rest = shorter - before
    after = next((i for i in range(rest) if first[-1 - i] != second[-1 - i]), rest)
    changed = max(len(first), len(second)) - before - after
    return changed <= 1 or (changed == 2 and before + after >= 4)


def same_meaning(first: str, second: str, cosine: float) -> bool:
    """Whether two questions ask the same in other words.

    Args:
        first: A question.
        second: A question.
        cosine: Of their vectors.
    """
    if numbers(first) != numbers(second) or _conflict(first, second):
        return False
    shared = jaccard(stems(first), stems(second))
    return any(cosine >= least and shared >= words_too for least, words_too in REWORDED_QUESTION)


def _conflict(first: str, second: str) -> bool:
    """Whether each of two questions names something or some number of which the other knows nothing."""
    return _names_more(first, second) and _names_more(second, first)


def _names_more(first: str, second: str) -> bool:
    return bool(_named(first) - _named(second) - stems(second))


def _named(question: str) -> frozenset[str]:
    return stems(" ".join(names(question) | numbers(question)))  # a number may be a part of a word: NIS2


def question_tokens(question: str) -> frozenset[str]:
    """The words of a question, without case."""
    return frozenset(words(question))


def _question_sketch(question: str) -> MinHash:
    return sketch(np.array([word_hash(word) for word in words(question)], dtype=np.uint64))
