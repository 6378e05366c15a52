"""The derived Chroma collection as a vector index; stages search exactly and never come here."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from mark.errors import DataError
from mark.files import CHUNKS, read_jsonl
from mark.ingest.index import collection_keys, read_index
from mark.ingest.vector_store import open_store
from mark.models.faults import first_line
from mark.records import Chunk
from mark.retrieval.dense import ChromaSearch


def open_chroma(data: Path, location: Path, name: str) -> ChromaSearch:
    """Open the collection that ingest derived, for `Retriever.open(..., dense=...)`.

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
    chunk_ids = [chunk.chunk_id for chunk in read_jsonl(data / CHUNKS.name, Chunk)]
    try:
        collection = open_store(str(location)).get_collection(name, embedding_function=None)
        search = ChromaSearch(collection, chunk_ids)
        search.scores(search.stored([0]), 1, [None])  # what is damaged shows now, not at somebody's question
    except (ChromaError, sqlite3.Error) as fault:
        raise DataError(
            f"Chroma cannot read collection {name} in {location} ({first_line(fault)}); move that folder "
            "away and run `mark ingest`"
        ) from None
    return search
