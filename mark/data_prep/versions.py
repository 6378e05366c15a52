"""Documents that are versions of one another."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from datasketch import MinHash

from mark.data_prep.similarity import (
    PERMUTATIONS,
    SHORT_TEXT,
    CopyIndex,
    VectorsOf,
    numbers,
    shingles,
    words,
)
from mark.records import Chunk

SAME_DOCUMENT = 0.5  # Jaccard index of the five-word runs of two versions
SHARED_PASSAGES = 0.5  # share of the smaller document's sampled passages that stand in the other
SAME_MEANING = 0.9  # cosine of two passages that say the same in other words
PROBES = 32  # passages of a document that are looked for in the others


def document_clusters(chunks: Sequence[Chunk], vectors_of: VectorsOf | None = None) -> list[list[str]]:
    """Documents that are versions of one another.

    Two documents belong together where their MinHash signatures agree, or where half of the
    sampled passages of the smaller one stand in the other, in its words or reworded with the same numbers.

    Args:
        chunks: The whole corpus.
        vectors_of: float32 [chunks, dimension], unit rows for given chunks; None = wording only.

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
    _join_by_passages(chunks, vectors_of, by_document, groups)
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
    vectors_of: VectorsOf | None,
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
            close = _reworded(chunks, vectors_of, probed, rows)
            for row in probed:
                if row in close or index.original(chunks[row].text) is not None:
                    found[other, name] += 1
    for (name, other), count in sorted(found.items()):
        if len(by_document[name]) <= len(by_document[other]) and count >= SHARED_PASSAGES * len(probes[name]):
            groups.join(name, other)


def _reworded(
    chunks: Sequence[Chunk], vectors_of: VectorsOf | None, probed: Sequence[int], rows: Sequence[int]
) -> set[int]:
    """Probes that some passage of another document repeats in other words, with the same numbers."""
    if vectors_of is None or not rows or not probed:
        return set()
    cosines = vectors_of([chunks[row] for row in probed]) @ vectors_of([chunks[row] for row in rows]).T
    best = cosines.argmax(axis=1)
    return {
        row
        for number, row in enumerate(probed)
        if cosines[number, best[number]] >= SAME_MEANING
        and numbers(chunks[row].text) == numbers(chunks[rows[best[number]]].text)
    }


def _tells(chunk: Chunk) -> bool:
    return len(words(chunk.text)) > SHORT_TEXT


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
