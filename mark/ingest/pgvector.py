"""The derived collection in PostgreSQL with the extension pgvector: a table for each state, written whole.

One transaction makes the table, its rows and its index, and checks them: a killed writer leaves nothing,
and readers see a state whole or not at all. A lock of the database keeps it to one writer on all machines.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from mark.config import PgVector
from mark.errors import DataError, MarkError
from mark.files import CHUNKS, EMBEDDINGS, sha256_text
from mark.ingest.index import Index, read_index
from mark.ingest.vector_store import RowFiles
from mark.models.faults import first_line
from mark.records import Chunk

if TYPE_CHECKING:
    from psycopg import Connection

log = logging.getLogger(__name__)

_REGISTRY = "mark_collections"
_LOCK = 0x6D61726B  # "mark": the advisory lock of writers
_LOCK_WAIT_S = 600
_CONNECT_S = 10
_BATCH = 1000
_PROBES = 64
_SAME = 1e-3  # cosine distance of a vector to itself, rounding included
_KEPT = 2  # newest states: readers of the last one go on until they see the next
_NAME_BYTES = 40  # of a collection's name in its tables' names
_COLUMNS = "chunk_id, doc_id, document, title, heading, section, pages, place, body, embedding"


def bring_up_to_date(out: Path, place: PgVector, name: str) -> None:
    """Write the state of a data folder, unless the database has it.

    Args:
        out: The data folder (index.json, chunks.jsonl, embeddings.npy).
        place: The database.
        name: Of the collection.

    Raises:
        DataError: The database does not answer, lacks the extension, or writing failed.
        MarkError: psycopg is not installed.
    """
    index = read_index(out)
    with connected(place) as connection, connection.transaction():
        connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_WAIT_S}s'")
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {_REGISTRY} (name text, key text, place text, "
            "made timestamptz DEFAULT clock_timestamp(), PRIMARY KEY (name, key))"
        )
        if (table := _table(connection, name, index.key)) is not None:
            if _count(connection, table) == index.chunks:
                _renew(connection, name, index.key)
                return
            log.warning("table %s lacks rows of chunks.jsonl; it is written anew", table)
            _drop(connection, name, index.key, table)
        table = table_name(name, index.key)
        log.info("writing table %s to %s", table, host_of(place))
        _write(connection, table, out, index, place)
        connection.execute(
            f"INSERT INTO {_REGISTRY} (name, key, place) VALUES (%s, %s, %s)", (name, index.key, table)
        )
        for key, old in _older(connection, name):
            _drop(connection, name, key, old)


def table_name(name: str, key: str) -> str:
    """The table of a state; PostgreSQL cuts names at 63 bytes: a long one is shortened, with a hash."""
    if len(name.encode()) > _NAME_BYTES:
        beginning = name.encode()[: _NAME_BYTES - 13].decode(errors="ignore")
        name = f"{beginning}_{sha256_text(name)[:12]}"
    return f"mark_{name}_{key[:12]}"


def host_of(place: PgVector) -> str:
    """Host, port and database, as people are told."""
    parts = urlsplit(place.url or "")
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}"


@contextmanager
def connected(place: PgVector) -> Iterator[Connection[Any]]:
    """A connection for the duration.

    Raises:
        DataError: The database does not answer, or says no.
        MarkError: psycopg is not installed.
    """
    import_psycopg()
    import psycopg

    try:
        with open_connection(place) as connection:
            yield connection
    except psycopg.Error as fault:
        raise _told(place, fault) from None


def open_connection(place: PgVector) -> Connection[Any]:
    """A connection that commits each statement by itself; the password is libpq's to find.

    Raises:
        DataError: The database does not answer.
    """
    import psycopg

    try:
        return psycopg.connect(place.url or "", connect_timeout=_CONNECT_S, autocommit=True)
    except psycopg.Error as fault:
        raise _told(place, fault) from None


def import_psycopg() -> None:
    """Check that psycopg is there.

    Raises:
        MarkError: It is not.
    """
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise MarkError("psycopg is not installed: run `pip install 'psycopg[binary]'`") from None


def published_table(place: PgVector, name: str, index: Index) -> str:
    """The table of a state.

    Raises:
        DataError: There is none.
    """
    with connected(place) as connection:
        known = connection.execute("SELECT to_regclass(%s)", (_REGISTRY,)).fetchone()
        table = _table(connection, name, index.key) if known and known[0] else None
    if table is None:
        raise DataError(f"{host_of(place)} holds no collection {name} of these chunks; run `mark ingest`")
    return table


def as_text(vector: NDArray[np.float32]) -> str:
    """A vector as pgvector reads it; nine digits give each float32 back."""
    return "[" + ",".join(f"{value:.9g}" for value in vector.tolist()) + "]"


def _told(place: PgVector, fault: Exception) -> DataError:
    text = first_line(fault)
    if "extension" in text:
        text += "; install pgvector on the server and run CREATE EXTENSION vector there as a superuser"
    return DataError(f"PostgreSQL at {host_of(place)}: {text}; see ingest.pgvector.url")


def _write(connection: Connection[Any], table: str, out: Path, index: Index, place: PgVector) -> None:
    from psycopg.sql import SQL, Identifier, Literal

    where = Identifier(table)
    connection.execute(
        SQL(
            "CREATE TABLE {} (chunk_id text PRIMARY KEY, doc_id text, document text, title text, "
            "heading text, section text, pages text, place int4range, body text, "
            "embedding vector({}) NOT NULL)"
        ).format(where, Literal(index.dimension))
    )
    copy = SQL("COPY {} (" + _COLUMNS + ") FROM STDIN").format(where)
    files = RowFiles(out / CHUNKS.name, out / EMBEDDINGS.name)
    for rows, vectors in files.batches(_BATCH, lambda line: log.info("%s: %s", table, line)):
        with connection.cursor().copy(copy) as stream:
            for row, vector in zip(rows, vectors, strict=True):
                stream.write_row(_values(row, vector))
    if place.index == "hnsw":
        connection.execute(SQL("CREATE INDEX ON {} USING hnsw (embedding vector_cosine_ops)").format(where))
    connection.execute(SQL("ANALYZE {}").format(where))
    _verify(connection, table, files, index)


def _values(row: Chunk, vector: NDArray[np.float32]) -> tuple[str, ...]:
    pages = ",".join(str(page) for page in row.pages)
    span = f"[{row.start},{row.end})"
    texts = (row.chunk_id, row.doc_id, row.document, row.title, row.heading, row.section)
    return (*map(_holdable, texts), pages, span, _holdable(row.text), as_text(vector))


def _holdable(text: str) -> str:
    """Without the one character that PostgreSQL cannot hold."""
    return text.replace("\x00", "")


def _verify(connection: Connection[Any], table: str, files: RowFiles, index: Index) -> None:
    """Read back: all rows, and some that are stored as written and find themselves.

    Raises:
        DataError: Something is not as written.
    """
    from psycopg.sql import SQL, Identifier

    if (count := _count(connection, table)) != index.chunks:
        raise DataError(f"{count} rows stored, {index.chunks} in chunks.jsonl")
    every = max(1, -(-index.chunks // _PROBES))
    number = 0
    nearest = SQL("SELECT embedding <=> %s::vector FROM {} ORDER BY 1 LIMIT 1").format(Identifier(table))
    stored = SQL("SELECT body, embedding::real[] FROM {} WHERE chunk_id = %s").format(Identifier(table))
    for rows, vectors in files.batches(_BATCH, lambda line: None):
        for row, vector in zip(rows, vectors, strict=True):
            number += 1
            if number % every:
                continue
            found = connection.execute(stored, (row.chunk_id,)).fetchone()
            same = found is not None and found[0] == _holdable(row.text)
            if found is None or not same or not np.array_equal(np.array(found[1], np.float32), vector):
                raise DataError(f"row {row.chunk_id} is not stored as written")
            distance = connection.execute(nearest, (as_text(vector),)).fetchone()
            if distance is None or not distance[0] <= _SAME:
                raise DataError(f"row {row.chunk_id} does not find itself")


def _table(connection: Connection[Any], name: str, key: str) -> str | None:
    query = f"SELECT place FROM {_REGISTRY} WHERE name = %s AND key = %s"
    found = connection.execute(query, (name, key)).fetchone()
    return None if found is None else str(found[0])


def _count(connection: Connection[Any], table: str) -> int:
    from psycopg.sql import SQL, Identifier

    if connection.execute("SELECT to_regclass(quote_ident(%s))", (table,)).fetchone() == (None,):
        return 0
    found = connection.execute(SQL("SELECT count(*) FROM {}").format(Identifier(table))).fetchone()
    return 0 if found is None else int(found[0])


def _drop(connection: Connection[Any], name: str, key: str, table: str) -> None:
    from psycopg.sql import SQL, Identifier

    connection.execute(SQL("DROP TABLE IF EXISTS {}").format(Identifier(table)))
    connection.execute(f"DELETE FROM {_REGISTRY} WHERE name = %s AND key = %s", (name, key))


def _renew(connection: Connection[Any], name: str, key: str) -> None:
    """A state that is used again counts as the newest: its readers keep it beside the next one."""
    query = (
        f"UPDATE {_REGISTRY} SET made = clock_timestamp() WHERE name = %s AND key = %s "
        f"AND made < (SELECT max(made) FROM {_REGISTRY} WHERE name = %s)"
    )
    connection.execute(query, (name, key, name))


def _older(connection: Connection[Any], name: str) -> Sequence[tuple[str, str]]:
    query = f"SELECT key, place FROM {_REGISTRY} WHERE name = %s ORDER BY made DESC OFFSET %s"
    return [(str(key), str(table)) for key, table in connection.execute(query, (name, _KEPT)).fetchall()]
