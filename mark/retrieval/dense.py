"""Search by vectors: exact for the stages, Chroma for serving. Both give the same cosines.

Chroma only proposes candidates; their cosines are computed from the vectors that it stores, so that
the two differ in nothing but candidates that its approximate index misses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mark.errors import DataError

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
_OVERFETCH = 8  # candidates asked of Chroma for each that is needed: its index looks wider and misses fewer
_DIGITS = 6  # of a cosine; the shape of a batch must not decide between equals


def cosines_with(dense: DenseSearch, vector: Floats, rows: Sequence[int]) -> Floats:
    """float32 [rows], cosines of one unit vector with given chunks, rounded to 6 digits."""
    return np.asarray(np.round(dense.stored(rows) @ vector, _DIGITS), dtype=np.float32)


class DenseSearch(Protocol):
    """What the retriever needs of a vector index over its chunks."""

    def scores(self, vectors: Floats, depth: int, barred: Sequence[Mask | None]) -> list[Floats]:
        """Cosines of the nearest chunks.

        Args:
            vectors: float32 [questions, dimension], unit rows.
            depth: How many nearest chunks are needed at least.
            barred: For each question bool [chunks], True where a chunk may not appear; None = nowhere.

        Returns:
            For each question float32 [chunks], rounded to 6 digits; -inf where a chunk is barred or was
            not looked at.
        """
        ...

    def stored(self, rows: Sequence[int]) -> Floats:
        """The vectors of given chunks, float32 [rows, dimension], unit rows."""
        ...


class ExactSearch:
    """Compares with every vector."""

    def __init__(self, vectors: Floats) -> None:
        """Keep float32 [chunks, dimension], unit rows."""
        self._vectors = vectors

    def scores(self, vectors: Floats, depth: int, barred: Sequence[Mask | None]) -> list[Floats]:
        """See `DenseSearch`; every chunk is looked at, whatever the depth."""
        found = np.round(vectors @ self._vectors.T, _DIGITS)
        return [
            row if mask is None else np.where(mask, np.float32(-np.inf), row)
            for row, mask in zip(found, barred, strict=True)
        ]

    def stored(self, rows: Sequence[int]) -> Floats:
        """See `DenseSearch`."""
        return self._vectors[list(rows)]


class ChromaSearch:
    """Asks the derived Chroma collection."""

    def __init__(self, collection: Any, chunk_ids: Sequence[str]) -> None:
        """Read from a collection.

        Args:
            collection: An open Chroma collection whose ids are those of the chunks.
            chunk_ids: The chunks' ids in the retriever's order.

        Raises:
            DataError: The collection holds another number of rows.
        """
        self._collection = collection
        self._ids = list(chunk_ids)
        self._row = {chunk_id: row for row, chunk_id in enumerate(self._ids)}
        if (count := collection.count()) != len(self._ids):
            raise DataError(
                f"collection {collection.name} holds {count} rows, chunks.jsonl {len(self._ids)}; "
                "run `mark ingest`"
            )

    def scores(self, vectors: Floats, depth: int, barred: Sequence[Mask | None]) -> list[Floats]:
        """See `DenseSearch`."""
        found = [np.full(len(self._ids), -np.inf, dtype=np.float32) for _ in barred]
        free = [i for i, mask in enumerate(barred) if mask is None]
        if free:
            self._ask(vectors, free, min(depth, len(self._ids)), None, found)
        for i, mask in enumerate(barred):
            if mask is not None and not mask.all():
                ids = [self._ids[row] for row in np.flatnonzero(~mask)]
                self._ask(vectors, [i], min(depth, len(ids)), ids, found)
        return found

    def _ask(
        self, vectors: Floats, questions: list[int], depth: int, ids: list[str] | None, found: list[Floats]
    ) -> None:
        """Fill in the cosines of the nearest `depth` chunks of some questions."""
        wide = min(_OVERFETCH * depth, len(ids or self._ids))
        answer = self._collection.query(
            query_embeddings=vectors[questions], n_results=wide, ids=ids, include=["embeddings"]
        )
        for i, near, stored in zip(questions, answer["ids"], answer["embeddings"], strict=True):
            rows = [self._row[chunk_id] for chunk_id in near]
            found[i][rows] = np.round(_floats(stored) @ vectors[i], _DIGITS)

    def stored(self, rows: Sequence[int]) -> Floats:
        """See `DenseSearch`."""
        ids = [self._ids[row] for row in rows]
        answer = self._collection.get(ids=ids, include=["embeddings"])
        place = {chunk_id: i for i, chunk_id in enumerate(answer["ids"])}
        return _floats(answer["embeddings"])[[place[chunk_id] for chunk_id in ids]]


def _floats(vectors: Any) -> Floats:
    """As stored, unit rows like the vectors that ingest wrote."""
    return np.asarray(vectors, dtype=np.float32)
