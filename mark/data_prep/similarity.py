"""Near-copies of passages and near-duplicates of questions."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from mark.records import Chunk

SHINGLE = 8  # words
NEAR_COPY = 0.8  # share of the smaller text's shingles
NEAR_QUESTION = 0.8  # Jaccard index of the words

_Shingle = tuple[str, ...]


def shingles(text: str) -> frozenset[_Shingle]:
    """Runs of eight words, without case and punctuation; the whole text where it is shorter."""
    words = re.findall(r"\w+", text.lower())
    if len(words) <= SHINGLE:
        return frozenset([tuple(words)]) if words else frozenset()
    return frozenset(tuple(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1))


def near_copies(chunks: Iterable[Chunk], held: Iterable[Chunk]) -> dict[str, str]:
    """Chunks whose text is (almost) that of a held-out chunk.

    Args:
        chunks: Which to look at.
        held: The texts that must not be seen.

    Returns:
        Chunk id -> id of the held-out chunk that it copies.
    """
    where: defaultdict[_Shingle, list[str]] = defaultdict(list)
    sizes: dict[str, int] = {}
    for chunk in held:
        own = shingles(chunk.text)
        sizes[chunk.chunk_id] = len(own)
        for shingle in own:
            where[shingle].append(chunk.chunk_id)
    copies: dict[str, str] = {}
    for chunk in chunks:
        own = shingles(chunk.text)
        shared: defaultdict[str, int] = defaultdict(int)
        for shingle in own:
            for other in where.get(shingle, ()):
                shared[other] += 1
        for other in sorted(shared):
            if shared[other] >= NEAR_COPY * min(len(own), sizes[other]):
                copies[chunk.chunk_id] = other
                break
    return copies


class QuestionIndex:
    """The questions kept so far; tells whether a new one is almost one of them."""

    def __init__(self) -> None:
        self._sets: list[frozenset[str]] = []
        self._by_token: defaultdict[str, list[int]] = defaultdict(list)

    def __contains__(self, question: str) -> bool:
        tokens = question_tokens(question)
        near = {i for token in _prefix(tokens) for i in self._by_token.get(token, ())}
        return any(jaccard(tokens, self._sets[i]) >= NEAR_QUESTION for i in near)

    def add(self, question: str) -> None:
        """Remember a question."""
        tokens = question_tokens(question)
        for token in _prefix(tokens):
            self._by_token[token].append(len(self._sets))
        self._sets.append(tokens)


def question_tokens(question: str) -> frozenset[str]:
    """The words of a question, without case."""
    return frozenset(re.findall(r"\w+", question.lower()))


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Shared words over all words, in [0, 1]."""
    union = len(first | second)
    return len(first & second) / union if union else 1.0


def _prefix(tokens: frozenset[str]) -> Sequence[str]:
    """Tokens of which two sets with a Jaccard index >= NEAR_QUESTION must share one.

    Source: Chaudhuri, Ganti, Kaushik 2006, "A primitive operator for similarity joins", prefix filter.
    """
    ordered = sorted(tokens, key=lambda token: (-len(token), token))
    required = -(-len(ordered) * NEAR_QUESTION // 1)
    return ordered[: len(ordered) - int(required) + 1]
