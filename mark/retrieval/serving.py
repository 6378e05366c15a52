"""The derived collection as a vector index; stages search exactly and never come here."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from mark.config import Ingest
from mark.errors import DataError
from mark.files import CHUNKS, read_jsonl
from mark.ingest.index import collection_keys, read_index
from mark.ingest.vector_store import open_store
from mark.models.faults import first_line
from mark.records import Chunk
from mark.retrieval.dense import ChromaVectors, StoredSearch, StoredVectors


def open_search(data: Path, settings: Ingest, root: Path) -> StoredSearch:
    """Open the collection that ingest derived, for `Retriever.open(..., dense=...)`.

    Args:
        data: The data folder.
        settings: Section `ingest`, which names the store.
        root: The project's root, below which a Chroma folder lies.

    Raises:
        DataError: The store does not answer, or holds no collection of these chunks.
        ConfigError: A token's variable is not set.
        MarkError: The store's package is not installed.
    """
    if settings.store == "pgvector":
        from mark.retrieval.pgvector import PgVectors

        store: StoredVectors = PgVectors.open(settings.pgvector, settings.collection, read_index(data))
    elif settings.chroma.url is not None:
        store = _on_server(data, settings)
    else:
        return open_chroma(data, root / settings.chroma_path, settings.collection)
    return StoredSearch(store, _ids(data))


def open_chroma(data: Path, location: Path, name: str) -> StoredSearch:
    """Open the collection in a Chroma folder.

    Args:
        data: The data folder.
        location: The Chroma folder.
        name: The collection.

    Raises:
        DataError: The folder or the collection is missing, is the user's, is damaged or belongs to other
            chunks.
    """
    from chromadb.errors import ChromaError

    known = collection_keys(location)
    if name not in known:
        raise DataError(f"{location} holds no collection {name}; run `mark ingest`")
    if known[name] != read_index(data).key:
        raise DataError(
            f"collection {name} in {location} belongs to other chunks than index.json; run `mark ingest`"
        )
    ids = _ids(data)
    try:
        collection = open_store(str(location)).get_collection(name, embedding_function=None)
        search = StoredSearch(ChromaVectors(collection), ids)
        search.scores(search.stored([0]), 1, [None])  # what is damaged shows now, not at somebody's question
    except (ChromaError, sqlite3.Error, DataError) as fault:
        raise DataError(
            f"Chroma cannot read collection {name} in {location} ({first_line(fault)}); move that folder "
            "away and run `mark ingest`"
        ) from None
    return search


def _on_server(data: Path, settings: Ingest) -> ChromaVectors:
    from mark.ingest.chroma_server import is_published, published_name, token_of

    server, index = settings.chroma, read_index(data)
    assert server.url is not None
    name = published_name(settings.collection, index.key)
    if not is_published(server, settings.collection, index.key, index.chunks):
        raise DataError(f"{server.url} holds no collection {name}; run `mark ingest`")
    client = open_store(server.url, token_of(server))
    return ChromaVectors(client.get_collection(name, embedding_function=None))


def _ids(data: Path) -> list[str]:
    return [chunk.chunk_id for chunk in read_jsonl(data / CHUNKS.name, Chunk)]
