"""Documents that are versions of one another."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from datasketch import MinHash
from numpy.typing import NDArray

from mark.data_prep.passage_copies import BLOCK, VECTORS, CopyIndex, VectorsOf, blocks
from mark.data_prep.similarity import PERMUTATIONS, SHORT_TEXT, numbers, shingles, words
from mark.records import Chunk

SAME_DOCUMENT = 0.5  # Jaccard index of the five-word runs of two versions
SHARED_PASSAGES = 0.5  # share of the smaller document's sampled passages that stand in the other
SAME_MEANING = 0.9  # cosine of two passages that say the same in other words
PROBES = 32  # passages of a document that are looked for in the others

Telling = Mapping[str, Sequence[int]]  # rows by document
Met = set[tuple[int, str]]  # a probe, and another document in which it stands


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
    groups = Groups(documents)
    sketches = np.array(
        [_document_sketch(chunks[row].text for row in by_document[name]).hashvalues for name in documents]
    )  # [documents, PERMUTATIONS]
    for number, first in enumerate(documents):
        equal = np.count_nonzero(sketches[:number] == sketches[number], axis=1)
        for other in np.flatnonzero(equal / PERMUTATIONS >= SAME_DOCUMENT):
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
    by_document: Mapping[str, Sequence[int]],
    groups: Groups,
) -> None:
    telling = {
        name: [row for row in by_document[name] if _tells(chunks[row])] for name in sorted(by_document)
    }
    probes = {name: _probes(rows) for name, rows in telling.items()}
    probed = [row for rows in probes.values() for row in rows]
    met = _copied(chunks, probed, [row for rows in telling.values() for row in rows])
    if vectors_of is not None:
        for block in blocks(probed, VECTORS):
            met |= _reworded(chunks, vectors_of, block, telling)
    found = Counter((chunks[row].document, other) for row, other in met if chunks[row].document != other)
    for (name, other), count in sorted(found.items()):
        if len(by_document[name]) <= len(by_document[other]) and count >= SHARED_PASSAGES * len(probes[name]):
            groups.join(name, other)


def _copied(chunks: Sequence[Chunk], probed: Sequence[int], rows: Iterable[int]) -> Met:
    """Probes that some passage repeats, word for word or by content words and numbers."""
    met: Met = set()
    for block in blocks(rows, BLOCK):
        index = CopyIndex((chunks[row].document, chunks[row].text) for row in block)
        for row in probed:
            met.update((row, name) for name in index.originals(chunks[row].text))
    return met


def _reworded(
    chunks: Sequence[Chunk],
    vectors_of: VectorsOf,
    probed: Sequence[int],
    telling: Mapping[str, Sequence[int]],
) -> Met:
    """Probes whose nearest passage of a document lies very close and names the same numbers."""
    vectors = vectors_of([chunks[row] for row in probed])
    met: Met = set()
    for name, rows in telling.items():
        for row, other in _nearest(chunks, vectors_of, vectors, rows):
            if numbers(chunks[probed[row]].text) == numbers(chunks[other].text):
                met.add((probed[row], name))
    return met


def _nearest(
    chunks: Sequence[Chunk], vectors_of: VectorsOf, vectors: NDArray[np.float32], rows: Sequence[int]
) -> Iterator[tuple[int, int]]:
    """Vectors that say the same as some passage of a document, and which is the nearest; block by block."""
    cosine = np.full(len(vectors), -np.inf, dtype=np.float32)
    nearest = np.zeros(len(vectors), dtype=np.int64)
    for block in blocks(rows, VECTORS):
        cosines = vectors @ vectors_of([chunks[row] for row in block]).T  # [probes, passages]
        best = cosines.argmax(axis=1)
        highest = cosines[np.arange(len(vectors)), best]
        closer = highest > cosine
        cosine[closer], nearest[closer] = highest[closer], np.array(block)[best[closer]]
    for number in np.flatnonzero(cosine >= SAME_MEANING):
        yield int(number), int(nearest[number])


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
