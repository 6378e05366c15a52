"""Chroma in a process of its own: `python -m mark.ingest.vector_store '["build", ...]'`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mark.errors import DataError
from mark.files import read_jsonl, write_jsonl
from mark.ingest.index import KEY
from mark.records import Chunk

_UNFINISHED = "unfinished"  # as key while building: ours, and to be rebuilt
_PROBES = 8
_SAME = 1e-3  # cosine distance of a vector to itself, rounding included


def open_store(location: str) -> Any:
    """A Chroma client for a folder or the URL of a server, without telemetry."""
    import chromadb
    from chromadb.config import Settings

    settings = Settings(anonymized_telemetry=False)
    if location.startswith(("http://", "https://")):
        from urllib.parse import urlsplit

        url = urlsplit(location)
        secure = url.scheme == "https"
        port = url.port or (443 if secure else 8000)
        return chromadb.HttpClient(host=url.hostname or "localhost", port=port, ssl=secure, settings=settings)
    return chromadb.PersistentClient(path=location, settings=settings)


def build(chroma: str, name: str, key: str, chunks: Path, embeddings: Path) -> None:
    """Write the collection anew; its key is set last."""
    client = open_store(chroma)
    if name in [collection.name for collection in client.list_collections()]:
        client.delete_collection(name)
    collection = client.create_collection(
        name,
        embedding_function=None,
        metadata={KEY: _UNFINISHED},
        configuration={"hnsw": {"space": "cosine"}},
    )
    rows, vectors = _rows(chunks, embeddings)
    batch = client.get_max_batch_size()
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        collection.add(
            ids=[row.chunk_id for row in part],
            embeddings=vectors[start : start + batch],
            documents=[row.text for row in part],
            metadatas=[_metadata(row) for row in part],
        )
    _verify(collection, rows, vectors)
    collection.modify(metadata={KEY: key})


def verify(chroma: str, name: str, key: str, chunks: Path, embeddings: Path) -> None:
    """Read the collection back from disk: key, count, and some vectors that find themselves.

    Raises:
        DataError: Something is not as written.
    """
    collection = open_store(chroma).get_collection(name, embedding_function=None)
    if (collection.metadata or {}).get(KEY) != key:
        raise DataError("the collection has another index key")
    _verify(collection, *_rows(chunks, embeddings))


def read(chroma: str, name: str, target: Path) -> None:
    """Write all rows of a collection to a JSONL file, sorted by id.

    Raises:
        DataError: There is no such collection.
    """
    from mark.ingest.snapshot import CollectionRow

    client = open_store(chroma)
    names = sorted(collection.name for collection in client.list_collections())
    if name not in names:
        raise DataError(f"there is no collection {name}; found: {', '.join(names) or 'none'}")
    collection = client.get_collection(name, embedding_function=None)
    rows: list[CollectionRow] = []
    total, batch = collection.count(), 1000
    for offset in range(0, total, batch):
        got = collection.get(limit=batch, offset=offset, include=["documents", "metadatas"])
        for row_id, text, metadata in zip(got["ids"], got["documents"], got["metadatas"], strict=True):
            scalars = {k: v for k, v in (metadata or {}).items() if isinstance(v, str | int | float | bool)}
            rows.append(CollectionRow(id=row_id, text=text or "", metadata=scalars))
    if len({row.id for row in rows}) != total:
        raise DataError(f"{len(rows)} rows read of {total}: the collection changed meanwhile; try again")
    rows.sort(key=lambda row: row.id)
    write_jsonl(target, rows)


def _rows(chunks: Path, embeddings: Path) -> tuple[list[Chunk], NDArray[np.float32]]:
    return read_jsonl(chunks, Chunk), np.load(embeddings, allow_pickle=False)


def _metadata(row: Chunk) -> dict[str, str | int]:
    return {
        "doc_id": row.doc_id,
        "document": row.document,
        "title": row.title,
        "heading": row.heading,
        "section": row.section,
        "page": row.pages[0],
        "pages": ",".join(str(page) for page in row.pages),
        "start": row.start,
        "end": row.end,
    }


def _verify(collection: Any, rows: list[Chunk], vectors: NDArray[np.float32]) -> None:
    if collection.count() != len(rows):
        raise DataError(f"{collection.count()} rows stored of {len(rows)}")
    step = max(1, len(rows) // _PROBES)
    probes = list(range(0, len(rows), step))
    found = collection.query(query_embeddings=vectors[probes], n_results=1, include=["distances"])
    for probe, distances in zip(probes, found["distances"], strict=True):
        if not distances or distances[0] > _SAME:
            raise DataError(f"row {rows[probe].chunk_id} does not find itself")


def main(arguments: list[str]) -> int:
    """Run one command; a failure leaves its error on stderr."""
    command, chroma, name, *rest = arguments
    if command == "read":
        read(chroma, name, Path(rest[0]))
    else:
        {"build": build, "verify": verify}[command](chroma, name, rest[0], Path(rest[1]), Path(rest[2]))
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
