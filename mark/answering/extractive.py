"""The baseline without a model: the sentence of the best passage that shares most with the question."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from nltk.stem.snowball import SnowballStemmer

from mark.prompting import Passage

_K1, _B = 1.2, 0.75  # BM25's usual term saturation and length normalisation
_WORD = re.compile(r"\w+")
_SENTENCE_END = re.compile(r"(?<=[.;!?])\s+")
_STEMMER = SnowballStemmer("english")


@dataclass(frozen=True)
class Extract:
    """A sentence and how much of the question it leaves uncovered.

    Attributes:
        text: The sentence, "" where there is no passage.
        uncovered: Share in [0, 1] of the question's words, weighted by rarity, that the sentence lacks;
            serves as this baseline's refusal probability.
    """

    text: str
    uncovered: float


def extractive_answer(question: str, passages: Sequence[Passage]) -> str:
    """The best sentence of the top passage; see `extract`."""
    return extract(question, passages).text


def extract(question: str, passages: Sequence[Passage]) -> Extract:
    """Rank the sentences of the top passage by BM25 against the question.

    Args:
        question: The question.
        passages: Best first. Words are weighted by their rarity among the sentences of all of them.

    Returns:
        The first of the best sentences.

    Source: Robertson and Zaragoza 2009, The Probabilistic Relevance Framework, section 3.
    """
    if not passages:
        return Extract("", 1.0)
    asked = set(_terms(question))
    pool = [Counter(_terms(sentence)) for passage in passages for sentence in sentences(passage.text)]
    candidates = sentences(passages[0].text)
    if not candidates or not asked:
        return Extract(" ".join(candidates[:1]), 1.0)
    idf = _rarity(pool)
    unseen = math.log(1 + (len(pool) + 0.5) / 0.5)
    mean_length = max(1.0, sum(sum(terms.values()) for terms in pool) / len(pool))
    counted = pool[: len(candidates)]  # the top passage's sentences come first in the pool

    def score(terms: Counter[str]) -> float:
        norm = _K1 * (1 - _B + _B * sum(terms.values()) / mean_length)
        return sum(idf[t] * terms[t] * (_K1 + 1) / (terms[t] + norm) for t in sorted(asked) if terms[t])

    best = max(range(len(candidates)), key=lambda i: (score(counted[i]), -i))
    total = sum(idf.get(term, unseen) for term in sorted(asked))
    covered = sum(idf[term] for term in sorted(asked) if counted[best][term])
    return Extract(candidates[best], 1.0 - covered / total)


def sentences(text: str) -> list[str]:
    """Sentences and clauses ended by a semicolon, in order."""
    return [piece for piece in _SENTENCE_END.split(text.strip()) if piece]


def _rarity(pool: list[Counter[str]]) -> dict[str, float]:
    """BM25's inverse sentence frequency of every word."""
    frequency = Counter(term for terms in pool for term in terms)
    return {t: math.log(1 + (len(pool) - n + 0.5) / (n + 0.5)) for t, n in frequency.items()}


def _terms(text: str) -> list[str]:
    return [_stem(word) for word in _WORD.findall(text.casefold())]


@lru_cache(maxsize=50_000)
def _stem(word: str) -> str:
    return str(_STEMMER.stem(word))
