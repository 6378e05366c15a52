"""Near-copies, parts and rewordings of passages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mark.data_prep.set_index import Rows, SetIndex
from mark.data_prep.similarity import NEAR_COPY, SHINGLE, SHORT_TEXT, content, shingles
from mark.records import Chunk

REWORDED_STEMS = 0.5  # Jaccard index of the content words of two passages with the same numbers
REWORDED_PASSAGE = (0.95, 0.3)  # cosine, headings included, and content words, with the same numbers
BLOCK = 16384  # held-out passages indexed at once, about 50 MB: memory does not grow with the corpus
VECTORS = 2048  # of passages, asked for at once

Item = TypeVar("Item")
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
    for block in blocks(held, BLOCK):
        texts = ((chunk.chunk_id, chunk.text) for chunk in block)
        index = CopyIndex(texts, vectors_of(block) if vectors_of is not None else None)
        for part in blocks((chunk for chunk in looked if chunk.chunk_id not in copies), VECTORS):
            vectors = vectors_of(part) if vectors_of is not None else None
            for row, chunk in enumerate(part):
                original = index.original(chunk.text, None if vectors is None else vectors[row])
                if original is not None:
                    copies[chunk.chunk_id] = original
    return copies


def blocks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of at most `size` items."""
    rest = iter(items)
    while block := list(islice(rest, size)):
        yield block


class CopyIndex:
    """Texts by the runs of words that they hold, and by their content words and numbers.

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
            reworded: Look for rewordings too; without them a text takes 20 bytes a word.
        """
        self._names: list[str] = []
        self._vectors = vectors
        runs: list[NDArray[np.uint64]] = []
        told: list[NDArray[np.uint64]] = []
        for name, text in texts:
            self._names.append(name)
            runs.append(shingles(text))
            if reworded:
                short = len(runs[-1]) + SHINGLE <= SHORT_TEXT
                told.append(np.empty(0, dtype=np.uint64) if short else content(text))
        self._runs = SetIndex(runs, NEAR_COPY, of_smaller=True)
        least = REWORDED_STEMS if vectors is None else min(REWORDED_STEMS, REWORDED_PASSAGE[1])
        self._content = SetIndex(told, least, of_smaller=False)

    def original(self, text: str, vector: NDArray[np.float32] | None = None) -> str | None:
        """The name of a text of which this one is a near-copy, a part or a rewording, or None.

        A text of at most `SHORT_TEXT` words must agree as a whole: inside longer ones it says little.

        Args:
            text: What to look for.
            vector: float32 [dimension], unit length; None = words and numbers only.
        """
        own = shingles(text)
        rows = self._copied(own)
        if not len(rows) and len(own) + SHINGLE > SHORT_TEXT:
            rows = self._reworded(text, vector)
        return self._names[rows[0]] if len(rows) else None

    def originals(self, text: str) -> set[str]:
        """The names of all texts of which this one is a near-copy, a part or a rewording, by words alone."""
        own = shingles(text)
        rows = self._copied(own).tolist()
        if len(own) + SHINGLE > SHORT_TEXT:
            rows += self._reworded(text, None).tolist()
        return {self._names[row] for row in rows}

    def _copied(self, own: NDArray[np.uint64]) -> Rows:
        rows, shared = self._runs.sharing(own)
        sizes = self._runs.sizes[rows]
        smaller, larger = np.minimum(sizes, len(own)), np.maximum(sizes, len(own))
        short = smaller + SHINGLE - 1 < SHORT_TEXT
        return rows[shared >= NEAR_COPY * np.where(short, larger, smaller)]

    def _reworded(self, text: str, vector: NDArray[np.float32] | None) -> Rows:
        """Texts with the same numbers that share half of the content words, or lie very close."""
        own = content(text)
        rows, shared = self._content.sharing(own)
        alike = shared / (len(own) + self._content.sizes[rows] - shared)  # Jaccard index
        same = alike >= REWORDED_STEMS
        if vector is not None and self._vectors is not None:
            near = np.flatnonzero(~same & (alike >= REWORDED_PASSAGE[1]))
            same[near] = self._vectors[rows[near]] @ vector >= REWORDED_PASSAGE[0]
        return rows[same]
