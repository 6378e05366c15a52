"""Near-copies of passages, near-duplicates of questions, versions of a document."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice

import numpy as np
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray

from mark.records import Chunk

SHINGLE = 3  # words: of twenty words one may be replaced and 15 of 18 runs stay
NEAR_COPY = 0.75  # share of the smaller text's shingles
SHORT_TEXT = 14  # words; so short a text is compared as a whole, not looked for inside longer ones
NEAR_QUESTION = 0.8  # Jaccard index of the words
REWORDED_QUESTION = 0.95  # cosine of two questions that name the same things and numbers
BLOCK = 2048  # held-out passages indexed at once: memory does not grow with the corpus
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


def near_copies(chunks: Iterable[Chunk], held: Iterable[Chunk]) -> dict[str, str]:
    """Chunks that hold (almost) the text of a held-out chunk, or a part of it.

    Args:
        chunks: Which to look at; gone through once for each `BLOCK` held-out chunks.
        held: The texts that must not be seen.

    Returns:
        Chunk id -> id of the held-out chunk that it copies.

    Source: Broder 1997, "On the resemblance and containment of documents"; the containment is
    counted, not estimated.
    """
    looked = list(chunks)
    copies: dict[str, str] = {}
    for block in _blocks(held):
        index = CopyIndex((chunk.chunk_id, chunk.text) for chunk in block)
        for chunk in looked:
            if chunk.chunk_id not in copies and (original := index.original(chunk.text)) is not None:
                copies[chunk.chunk_id] = original
    return copies


def _blocks(chunks: Iterable[Chunk]) -> Iterator[list[Chunk]]:
    rest = iter(chunks)
    while block := list(islice(rest, BLOCK)):
        yield block


class CopyIndex:
    """Texts by the runs of words that they hold; 12 bytes a run."""

    def __init__(self, texts: Iterable[tuple[str, str]]) -> None:
        """Index texts.

        Args:
            texts: Name and text of each.
        """
        self._names: list[str] = []
        runs: list[NDArray[np.uint64]] = []
        for name, text in texts:
            self._names.append(name)
            runs.append(shingles(text))
        self._sizes = np.array([len(part) for part in runs], dtype=np.int64)
        owners = np.repeat(np.arange(len(runs), dtype=np.int32), self._sizes)
        joined = np.concatenate(runs) if runs else np.empty(0, dtype=np.uint64)
        order = np.argsort(joined, kind="stable")
        self._runs, self._owners = joined[order], owners[order]

    def original(self, text: str, least_words: int = SHORT_TEXT) -> str | None:
        """The name of a text of which this one is a near-copy or a part, or which is a part of it.

        Args:
            text: What to look for.
            least_words: Of a text that counts as a part; a shorter one must agree as a whole.
        """
        own = shingles(text)
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
        whole = smaller + SHINGLE - 1 < least_words
        copied = shared >= NEAR_COPY * np.where(whole, larger, smaller)
        return self._names[int(owners[copied][0])] if copied.any() else None


def sketch(runs: NDArray[np.uint64]) -> MinHash:
    """The MinHash signature of a set of hashes."""
    signature = MinHash(PERMUTATIONS, seed=1, hashfunc=int, scheme="affine32")
    if len(runs):
        signature.update_batch(np.unique(runs & np.uint64(0xFFFFFFFF)).tolist())
    return signature


class QuestionIndex:
    """The questions kept so far; tells whether a new one is almost one of them.

    Near in wording by MinHash and the exact Jaccard index, near in meaning by the cosine.
    """

    def __init__(self) -> None:
        self._lsh = MinHashLSH(num_perm=PERMUTATIONS, params=BANDS)
        self._texts: list[str] = []
        self._sets: list[frozenset[str]] = []
        self._vectors: NDArray[np.float32] | None = None  # [capacity, dimension]
        self._rows: list[int] = []  # question of each vector

    def near(self, question: str, vector: NDArray[np.float32] | None = None) -> str | None:
        """The kept question that this one repeats, or None.

        Args:
            question: Its text.
            vector: float32 [dimension], unit length; None = wording only.
        """
        tokens = question_tokens(question)
        for number in sorted(self._lsh.query(_question_sketch(tokens))):
            if jaccard(tokens, self._sets[number]) >= NEAR_QUESTION:
                return self._texts[number]
        if vector is None or self._vectors is None or not self._rows:
            return None
        cosines = self._vectors[: len(self._rows)] @ vector
        for row in np.flatnonzero(cosines >= REWORDED_QUESTION):
            other = self._texts[self._rows[row]]
            if numbers(question) == numbers(other) and same_names(question, other):
                return other
        return None

    def __contains__(self, question: str) -> bool:
        return self.near(question) is not None

    def add(self, question: str, vector: NDArray[np.float32] | None = None) -> None:
        """Remember a question."""
        tokens = question_tokens(question)
        self._lsh.insert(len(self._texts), _question_sketch(tokens))
        if vector is not None:
            self._remember(vector)
        self._texts.append(question)
        self._sets.append(tokens)

    def _remember(self, vector: NDArray[np.float32]) -> None:
        count = len(self._rows)
        if self._vectors is None:
            self._vectors = np.empty((256, len(vector)), dtype=np.float32)
        elif count == len(self._vectors):
            self._vectors = np.concatenate([self._vectors, np.empty_like(self._vectors)])
        self._vectors[count] = vector
        self._rows.append(len(self._texts))


def same_names(first: str, second: str) -> bool:
    """Whether two questions name the same persons, bodies and documents, as far as capitals tell."""
    return names(first) == names(second)


def question_tokens(question: str) -> frozenset[str]:
    """The words of a question, without case."""
    return frozenset(words(question))


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Shared words over all words, in [0, 1]."""
    union = len(first | second)
    return len(first & second) / union if union else 1.0


def _question_sketch(tokens: frozenset[str]) -> MinHash:
    return sketch(np.array(sorted(_word_hash(token) for token in tokens), dtype=np.uint64))


SAME_DOCUMENT = 0.5  # Jaccard index of the five-word runs of two versions
SHARED_PASSAGES = 0.5  # share of the smaller document's sampled passages that stand in the other
SAME_MEANING = 0.9  # cosine of two passages that say the same in other words
PROBES = 32  # passages of a document that are looked for in the others


def document_clusters(
    chunks: Sequence[Chunk], vectors: NDArray[np.float32] | None = None
) -> list[list[str]]:
    """Documents that are versions of one another.

    Two documents belong together where their MinHash signatures agree, or where half of the
    sampled passages of the smaller one stand in the other, in its words or reworded with the same numbers.

    Args:
        chunks: The whole corpus.
        vectors: float32 [chunks, dimension], unit rows in the chunks' order; None = wording only.

    Returns:
        Groups of two or more document names, ascending.
    """
    by_document: defaultdict[str, list[int]] = defaultdict(list)
    for row, chunk in enumerate(chunks):
        by_document[chunk.document].append(row)
    documents = sorted(by_document)
    sketches = [_document_sketch(chunks[row].text for row in by_document[name]) for name in documents]
    groups = Groups(documents)
    for number, first in enumerate(documents):
        for other in range(number):
            if sketches[number].jaccard(sketches[other]) >= SAME_DOCUMENT:
                groups.join(first, documents[other])
    _join_by_passages(chunks, vectors, by_document, groups)
    return groups.larger_than_one()


def _document_sketch(texts: Iterable[str]) -> MinHash:
    """The signature of a document, one passage at a time."""
    whole = MinHash(PERMUTATIONS, seed=1, hashfunc=int, scheme="affine32")
    for text in texts:
        runs = np.unique(shingles(text, 5) & np.uint64(0xFFFFFFFF))
        if len(runs):
            whole.update_batch(runs.tolist())
    return whole


def _join_by_passages(
    chunks: Sequence[Chunk],
    vectors: NDArray[np.float32] | None,
    by_document: dict[str, list[int]],
    groups: Groups,
) -> None:
    probes = {name: _probes([r for r in rows if _tells(chunks[r])]) for name, rows in by_document.items()}
    found: Counter[tuple[str, str]] = Counter()
    for name in sorted(by_document):
        rows = [row for row in by_document[name] if _tells(chunks[row])]
        index = CopyIndex((str(row), chunks[row].text) for row in rows)
        for other, probed in probes.items():
            if other == name:
                continue
            close = _reworded(chunks, vectors, probed, rows)
            for row in probed:
                if row in close or index.original(chunks[row].text) is not None:
                    found[other, name] += 1
    for (name, other), count in sorted(found.items()):
        if len(by_document[name]) <= len(by_document[other]) and count >= SHARED_PASSAGES * len(probes[name]):
            groups.join(name, other)


def _reworded(
    chunks: Sequence[Chunk], vectors: NDArray[np.float32] | None, probed: Sequence[int], rows: Sequence[int]
) -> set[int]:
    """Probes that some passage of another document repeats in other words, with the same numbers."""
    if vectors is None or not rows or not probed:
        return set()
    cosines = vectors[list(probed)] @ vectors[list(rows)].T
    best = cosines.argmax(axis=1)
    return {
        row
        for number, row in enumerate(probed)
        if cosines[number, best[number]] >= SAME_MEANING
        and numbers(chunks[row].text) == numbers(chunks[rows[best[number]]].text)
    }


def _tells(chunk: Chunk) -> bool:
    return len(chunk.text.split()) > SHORT_TEXT or len(words(chunk.text)) > 2 * SHORT_TEXT


def _probes(rows: Sequence[int]) -> list[int]:
    """At most `PROBES` of the rows, evenly spread."""
    count = min(PROBES, len(rows))
    return [rows[i * len(rows) // count] for i in range(count)]


class Groups:
    """Disjoint groups of names that grow together (union-find)."""

    def __init__(self, names: Iterable[str]) -> None:
        self._parent = {name: name for name in names}

    def join(self, first: str, second: str) -> None:
        """Make one group of two."""
        low, high = sorted((self.root(first), self.root(second)))
        self._parent[high] = low

    def root(self, name: str) -> str:
        """The first name of its group."""
        while self._parent[name] != name:
            self._parent[name] = self._parent[self._parent[name]]
            name = self._parent[name]
        return name

    def larger_than_one(self) -> list[list[str]]:
        """The groups of two or more, ascending."""
        members: defaultdict[str, list[str]] = defaultdict(list)
        for name in sorted(self._parent):
            members[self.root(name)].append(name)
        return [group for group in members.values() if len(group) > 1]
