"""Near-copies of passages and near-duplicates of questions."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice

import numpy as np
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray

from mark.records import Chunk
from mark.retrieval.bm25 import tokenise

SHINGLE = 3  # words: of twenty words one may be replaced and 15 of 18 runs stay
NEAR_COPY = 0.75  # share of the smaller text's shingles
SHORT_TEXT = 14  # words; so short a text is compared as a whole, not looked for inside longer ones
NEAR_QUESTION = 0.8  # Jaccard index of the words
# Cosine and least Jaccard index of the content words that go with it; cosines alone depend on the embedder.
REWORDED_QUESTION = ((0.95, 0.25), (0.8, 0.45))
REWORDED_STEMS = 0.5  # Jaccard index of the content words of two passages with the same numbers
REWORDED_PASSAGE = (0.95, 0.3)  # cosine, headings included, and content words, with the same numbers
BLOCK = 2048  # held-out passages indexed at once, about 12 MB: memory does not grow with the corpus
BANDS = (42, 3)  # bands and rows: a Jaccard index of 0.5 is met with 99.6 %, one of 0.8 always
PERMUTATIONS = BANDS[0] * BANDS[1]

# Scripts written without spaces: each character is a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0e7f]|[^\W_]+")
_NUMBER = re.compile(
    r"\d+(?:[.,/]\d+)*|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|eighteen|"
    r"twenty|thirty|forty|fifty|sixty|ninety|hundred|half|third|quarter|twice|double)\b",
    re.I,
)
_NAME = re.compile(r"(?<![.?!] )(?<!^)\b[A-Z][\w-]*")
_MIX = np.uint64(0x9E3779B97F4A7C15)


def words(text: str) -> list[str]:
    """The words of a text without case, accents' encoding and punctuation."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def numbers(text: str) -> frozenset[str]:
    """The numbers that a text names, in digits or words."""
    return frozenset(match.lower() for match in _NUMBER.findall(text))


def names(text: str) -> frozenset[str]:
    """Its capitalised words, the first of a sentence left out."""
    return frozenset(_NAME.findall(text))


@lru_cache(maxsize=1 << 16)
def _word_hash(word: str) -> int:
    return zlib.crc32(word.encode())


def shingles(text: str, size: int = SHINGLE) -> NDArray[np.uint64]:
    """Hashes of its runs of words, ascending, each once; of the whole text where it is shorter.

    Args:
        text: Any.
        size: Words in a run.

    Returns:
        uint64 [runs]; the same on every machine.
    """
    found = words(text)
    if not found:
        return np.empty(0, dtype=np.uint64)
    hashed = np.array([_word_hash(word) for word in found], dtype=np.uint64)
    size = min(size, len(found))
    runs = np.zeros(len(found) - size + 1, dtype=np.uint64)
    for offset in range(size):
        runs = (runs ^ hashed[offset : offset + len(runs)]) * _MIX
        runs ^= runs >> np.uint64(29)
    return np.unique(runs)


VectorsOf = Callable[[Sequence[Chunk]], NDArray[np.float32]]


def near_copies(
    chunks: Iterable[Chunk], held: Iterable[Chunk], vectors_of: VectorsOf | None = None
) -> dict[str, str]:
    """Chunks that hold (almost) the text of a held-out chunk, a part of it, or its content in other words.

    Args:
        chunks: Which to look at; gone through once for each `BLOCK` held-out chunks.
        held: The texts that must not be seen.
        vectors_of: float32 [chunks, dimension], unit rows for given chunks; None = words and numbers only.

    Returns:
        Chunk id -> id of the held-out chunk that it copies.
    """
    looked = list(chunks)
    copies: dict[str, str] = {}
    for block in _blocks(held):
        texts = ((chunk.chunk_id, chunk.text) for chunk in block)
        index = CopyIndex(texts, vectors_of(block) if vectors_of is not None else None)
        for part in _blocks(looked):
            vectors = vectors_of(part) if vectors_of is not None else None
            for row, chunk in enumerate(part):
                if chunk.chunk_id in copies:
                    continue
                original = index.original(chunk.text, None if vectors is None else vectors[row])
                if original is not None:
                    copies[chunk.chunk_id] = original
    return copies


def _blocks(chunks: Iterable[Chunk]) -> Iterator[list[Chunk]]:
    rest = iter(chunks)
    while block := list(islice(rest, BLOCK)):
        yield block


class CopyIndex:
    """Texts by the runs of words that they hold and by the numbers that they name.

    Source: Broder 1997, "On the resemblance and containment of documents"; the containment is
    counted, not estimated, so that no copy is missed by chance.
    """

    def __init__(
        self,
        texts: Iterable[tuple[str, str]],
        vectors: NDArray[np.float32] | None = None,
        reworded: bool = True,
    ) -> None:
        """Index texts.

        Args:
            texts: Name and text of each.
            vectors: float32 [texts, dimension], unit rows; None = words and numbers only.
            reworded: Look for rewordings too; without them a text takes 12 bytes a word.
        """
        self._names: list[str] = []
        self._stems: list[frozenset[str]] = []
        self._by_numbers: defaultdict[frozenset[str], list[int]] = defaultdict(list)
        self._vectors = vectors
        runs: list[NDArray[np.uint64]] = []
        for number, (name, text) in enumerate(texts):
            self._names.append(name)
            runs.append(shingles(text))
            if reworded:
                self._stems.append(stems(text))
                self._by_numbers[numbers(text)].append(number)
        self._sizes = np.array([len(part) for part in runs], dtype=np.int64)
        owners = np.repeat(np.arange(len(runs), dtype=np.int32), self._sizes)
        joined = np.concatenate(runs) if runs else np.empty(0, dtype=np.uint64)
        order = np.argsort(joined, kind="stable")
        self._runs, self._owners = joined[order], owners[order]

    def original(self, text: str, vector: NDArray[np.float32] | None = None) -> str | None:
        """The name of a text of which this one is a near-copy, a part or a rewording, or None.

        A text of at most `SHORT_TEXT` words must agree as a whole: inside longer ones it says little.

        Args:
            text: What to look for.
            vector: float32 [dimension], unit length; None = words and numbers only.
        """
        own = shingles(text)
        copied = self._copied(own)
        if copied is None and len(own) + SHINGLE > SHORT_TEXT:
            copied = self._reworded(text, vector)
        return None if copied is None else self._names[copied]

    def _copied(self, own: NDArray[np.uint64]) -> int | None:
        if not len(own) or not len(self._runs):
            return None
        low = np.searchsorted(self._runs, own, side="left")
        high = np.searchsorted(self._runs, own, side="right")
        found = [self._owners[a:b] for a, b in zip(low, high, strict=True) if b > a]
        if not found:
            return None
        owners, shared = np.unique(np.concatenate(found), return_counts=True)
        sizes = self._sizes[owners]
        smaller, larger = np.minimum(sizes, len(own)), np.maximum(sizes, len(own))
        short = smaller + SHINGLE - 1 < SHORT_TEXT
        copied = shared >= NEAR_COPY * np.where(short, larger, smaller)
        return int(owners[copied][0]) if copied.any() else None

    def _reworded(self, text: str, vector: NDArray[np.float32] | None) -> int | None:
        """A text with the same numbers that shares half of the content words, or lies very close."""
        own = stems(text)
        for number in self._by_numbers.get(numbers(text), ()):
            if self._sizes[number] + SHINGLE <= SHORT_TEXT:
                continue
            shared = jaccard(own, self._stems[number])
            if shared >= REWORDED_STEMS:
                return number
            if vector is None or self._vectors is None or shared < REWORDED_PASSAGE[1]:
                continue
            if float(self._vectors[number] @ vector) >= REWORDED_PASSAGE[0]:
                return number
        return None


def stems(text: str) -> frozenset[str]:
    """Stems of the content words."""
    return frozenset(tokenise(" ".join(words(text))))


def sketch(runs: NDArray[np.uint64]) -> MinHash:
    """The MinHash signature of a set of hashes."""
    signature = MinHash(PERMUTATIONS, seed=1, hashfunc=int, scheme="affine32")
    if len(runs):
        signature.update_batch(np.unique(runs & np.uint64(0xFFFFFFFF)).tolist())
    return signature


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
    return bool(stems(" ".join(names(first) | numbers(first))) - stems(second))


def question_tokens(question: str) -> frozenset[str]:
    """The words of a question, without case."""
    return frozenset(words(question))


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Shared words over all words, in [0, 1]."""
    union = len(first | second)
    return len(first & second) / union if union else 1.0


def _question_sketch(question: str) -> MinHash:
    return sketch(np.array([_word_hash(word) for word in words(question)], dtype=np.uint64))
