"""The derived collection in PostgreSQL as a vector index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mark.config import PgVector
from mark.errors import DataError
from mark.ingest.index import Index
from mark.ingest.pgvector import as_text, host_of, open_connection, published_table
from mark.models.faults import first_line
from mark.retrieval.dense import Floats

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg import Connection

Found = TypeVar("Found")
_WIDEST = 1000  # pgvector's index gives no more rows: hnsw.ef_search
_NARROWEST = 40  # and looks at so many at least


class PgVectors:
    """One state's table; see `mark.retrieval.dense.StoredVectors`."""

    def __init__(self, place: PgVector, table: str) -> None:
        """Connect.

        Args:
            place: The database.
            table: Of the state.

        Raises:
            DataError: The database does not answer.
        """
        self._place, self._table = place, table
        self._connection: Connection[Any] = open_connection(place)

    @classmethod
    def open(cls, place: PgVector, name: str, index: Index) -> PgVectors:
        """The table that holds a state.

        Args:
            place: The database.
            name: Of the collection.
            index: data/index.json.

        Raises:
            DataError: There is none, or the database does not answer.
        """
        return cls(place, published_table(place, name, index))

    def __str__(self) -> str:
        return f"table {self._table} at {host_of(self._place)}"

    def count(self) -> int:
        """See `StoredVectors`."""
        rows = self._ask(lambda at: at.execute(self._query("SELECT count(*) FROM {}")).fetchall())
        return int(rows[0][0])

    def nearest(
        self, vectors: Floats, count: int, ids: Sequence[str] | None
    ) -> list[tuple[list[str], Floats]]:
        """See `StoredVectors`; a part of the rows, or more than the index gives, is searched exactly."""
        where = "" if ids is None else "WHERE chunk_id = ANY(%(ids)s) "
        query = self._query(
            "SELECT chunk_id, embedding::real[] FROM {} " + where + "ORDER BY embedding <=> %(near)s::vector "
            "LIMIT %(count)s"
        )
        exact = ids is not None or count > _WIDEST

        def ask(connection: Connection[Any]) -> list[tuple[list[str], Floats]]:
            with connection.transaction(), connection.cursor(binary=True) as cursor:
                cursor.execute(
                    "SET LOCAL enable_indexscan = off" if exact else f"SET LOCAL hnsw.ef_search = {wide}"
                )
                return [
                    _split(cursor.execute(query, values | {"near": as_text(v)}).fetchall()) for v in vectors
                ]

        wide = min(_WIDEST, max(_NARROWEST, count))
        values: dict[str, Any] = {"count": count, "ids": None if ids is None else list(ids)}
        return self._ask(ask)

    def vectors(self, ids: Sequence[str]) -> Floats:
        """See `StoredVectors`."""
        query = self._query("SELECT chunk_id, embedding::real[] FROM {} WHERE chunk_id = ANY(%s)")

        def ask(connection: Connection[Any]) -> list[Any]:
            with connection.cursor(binary=True) as cursor:
                return list(cursor.execute(query, (list(ids),)).fetchall())

        near, stored = _split(self._ask(ask))
        place = {chunk_id: i for i, chunk_id in enumerate(near)}
        return stored[[place[chunk_id] for chunk_id in ids]]

    def _query(self, text: str) -> Any:
        from psycopg.sql import SQL, Identifier

        return SQL(text).format(Identifier(self._table))

    def _ask(self, ask: Callable[[Connection[Any]], Found]) -> Found:
        """Ask, and once more over a new connection where the old one was lost.

        Raises:
            DataError: The database does not answer, or says no.
        """
        import psycopg

        try:
            return ask(self._connection)
        except psycopg.OperationalError:
            self._connection.close()
            self._connection = open_connection(self._place)
        except psycopg.Error as fault:
            raise DataError(f"{self}: {first_line(fault)}; run `mark ingest`") from None
        try:
            return ask(self._connection)
        except psycopg.Error as fault:
            raise DataError(f"{self}: {first_line(fault)}; run `mark ingest`") from None


def _split(rows: Sequence[tuple[str, list[float]]]) -> tuple[list[str], Floats]:
    return [row[0] for row in rows], np.array([row[1] for row in rows], dtype=np.float32)
