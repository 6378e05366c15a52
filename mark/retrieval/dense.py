"""Search by vectors: exact for the stages, a store for serving. Both give the same cosines.

A store only proposes candidates; their cosines are computed from the vectors that it holds, so that
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
_OVERFETCH = 8  # candidates asked of a store for each that is needed: its index looks wider and misses fewer
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


class StoredVectors(Protocol):
    """Rows of a store outside this process, by chunk id."""

    def count(self) -> int:
        """How many rows there are."""
        ...

    def nearest(
        self, vectors: Floats, count: int, ids: Sequence[str] | None
    ) -> list[tuple[list[str], Floats]]:
        """The rows nearest to each vector, best first.

        Args:
            vectors: float32 [questions, dimension], unit rows.
            count: Rows a question, at most.
            ids: Only among these; None = all.

        Returns:
            For each question ids and their vectors as stored, float32 [rows, dimension].
        """
        ...

    def vectors(self, ids: Sequence[str]) -> Floats:
        """Given rows' vectors in the order of `ids`, float32 [rows, dimension]."""
        ...


class StoredSearch:
    """Asks a store for candidates and computes their cosines."""

    def __init__(self, store: StoredVectors, chunk_ids: Sequence[str]) -> None:
        """Read from a store.

        Args:
            store: Its ids are those of the chunks.
            chunk_ids: The chunks' ids in the retriever's order.

        Raises:
            DataError: The store holds another number of rows.
        """
        self._store = store
        self._ids = list(chunk_ids)
        self._row = {chunk_id: row for row, chunk_id in enumerate(self._ids)}
        if (count := store.count()) != len(self._ids):
            raise DataError(f"{store} holds {count} rows, chunks.jsonl {len(self._ids)}; run `mark ingest`")

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
        answers = self._store.nearest(vectors[questions], wide, ids)
        for i, (near, stored) in zip(questions, answers, strict=True):
            rows = [self._row[chunk_id] for chunk_id in near]
            found[i][rows] = np.round(stored @ vectors[i], _DIGITS)

    def stored(self, rows: Sequence[int]) -> Floats:
        """See `DenseSearch`."""
        return self._store.vectors([self._ids[row] for row in rows])


class ChromaVectors:
    """The derived Chroma collection, in a folder or on a server; see `StoredVectors`."""

    def __init__(self, collection: Any) -> None:
        """Read from an open collection."""
        self._collection = collection

    def __str__(self) -> str:
        return f"collection {self._collection.name}"

    def count(self) -> int:
        """See `StoredVectors`."""
        return int(self._ask("count"))

    def nearest(
        self, vectors: Floats, count: int, ids: Sequence[str] | None
    ) -> list[tuple[list[str], Floats]]:
        """See `StoredVectors`."""
        answer = self._ask(
            "query", query_embeddings=vectors, n_results=count, ids=ids, include=["embeddings"]
        )
        return [
            (list(near), _floats(stored))
            for near, stored in zip(answer["ids"], answer["embeddings"], strict=True)
        ]

    def vectors(self, ids: Sequence[str]) -> Floats:
        """See `StoredVectors`."""
        answer = self._ask("get", ids=list(ids), include=["embeddings"])
        place = {chunk_id: i for i, chunk_id in enumerate(answer["ids"])}
        return _floats(answer["embeddings"])[[place[chunk_id] for chunk_id in ids]]

    def _ask(self, method: str, **arguments: Any) -> Any:
        try:
            return getattr(self._collection, method)(**arguments)
        except Exception as fault:  # chromadb's, httpx's and others
            lines = str(fault).strip().splitlines() or [type(fault).__name__]
            raise DataError(f"{self} cannot be searched ({lines[0]}); run `mark ingest`") from fault


def _floats(vectors: Any) -> Floats:
    """As stored, unit rows like the vectors that ingest wrote."""
    return np.asarray(vectors, dtype=np.float32)
