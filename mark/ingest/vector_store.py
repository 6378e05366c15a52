"""Chroma in a process of its own: `python -m mark.ingest.vector_store '["build", ...]'`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mark.errors import DataError
from mark.files import iter_jsonl, read_jsonl, write_jsonl
from mark.ingest.index import DATABASE, KEY, collection_keys
from mark.models.faults import first_line
from mark.records import Chunk

UNFINISHED = "unfinished"  # as key while building: ours, and to be rebuilt
_PROBES = 64  # rows, spread evenly, that must find themselves
_SAME = 1e-3  # cosine distance of a vector to itself, rounding included
_PAGE = 1000  # rows read or written at once
_PAUSE_S = 5.0  # between two lines about progress
_shared: dict[str, tuple[tuple[int, int], Any]] = {}  # folder -> its identity when opened, the client


def open_store(location: str, token: str | None = None) -> Any:
    """A Chroma client for a folder or the URL of a server, without telemetry.

    A process has one client for a folder. Chroma itself goes on with the deleted files of a folder
    that was swapped, so a client that was opened before a swap is closed and another one opened.

    Args:
        location: The folder or the URL.
        token: What a server is shown as bearer.

    Raises:
        DataError: A server does not answer, or not as Chroma does.
    """
    import chromadb
    from chromadb.config import Settings

    settings = Settings(anonymized_telemetry=False)
    if location.startswith(("http://", "https://")):
        from urllib.parse import urlsplit

        url = urlsplit(location)
        secure = url.scheme == "https"
        port = url.port or (443 if secure else 8000)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            return chromadb.HttpClient(
                host=url.hostname or "localhost", port=port, ssl=secure, headers=headers, settings=settings
            )
        except Exception as fault:  # bare exceptions of several packages
            raise DataError(
                f"no Chroma server answers at {location} ({first_line(fault)}); start it with `chroma run "
                "--path FOLDER --host HOST --port PORT`, or set ingest.chroma.url to null"
            ) from fault
    seen = _shared.get(location)
    if seen is not None:
        if seen[0] == _identity(Path(location)):
            return seen[1]
        seen[1].close()
    client = chromadb.PersistentClient(path=location, settings=settings)
    _shared[location] = (_identity(Path(location)), client)
    return client


def _identity(folder: Path) -> tuple[int, int]:
    found = (folder / DATABASE).stat()
    return found.st_dev, found.st_ino


class LiveCollection:
    """A collection that is opened anew after each swap."""

    def __init__(self, chroma: Path, name: str) -> None:
        """Open it.

        Args:
            chroma: The Chroma folder.
            name: A collection that `mark ingest` made.

        Raises:
            DataError: There is no such collection, or it is the user's.
        """
        self._chroma, self._name = chroma, name
        self._open()

    @property
    def collection(self) -> Any:
        """The collection as it is now; ask again before each query."""
        if self._identity != _identity(self._chroma):
            self._open()
        return self._collection

    @property
    def key(self) -> str:
        """`index.json`'s key of what `collection` holds."""
        return str(self.collection.metadata[KEY])

    def query(self, vectors: NDArray[np.float32], k: int) -> tuple[list[list[str]], list[list[float]]]:
        """The nearest rows.

        A swap may fall between opening and asking: what failed, or was answered by a folder that is
        no longer there, is asked again.

        Args:
            vectors: float32 [questions, dimension].
            k: Rows a question, at most.

        Returns:
            For each question ids and cosines, best first.
        """
        while True:
            collection, before = self.collection, self._identity
            try:
                found = collection.query(query_embeddings=vectors, n_results=k, include=["distances"])
            except Exception:
                if before == _identity(self._chroma):
                    raise
                continue
            if before == _identity(self._chroma):
                return found["ids"], [[1.0 - distance for distance in row] for row in found["distances"]]

    def _open(self) -> None:
        known = collection_keys(self._chroma)
        if known.get(self._name) is None:
            raise DataError(f"{self._chroma} holds no collection {self._name} of ours; run `mark ingest`")
        client = open_store(str(self._chroma))
        self._collection = client.get_collection(self._name, embedding_function=None)
        self._identity = _shared[str(self._chroma)][0]


def build(chroma: str, name: str, key: str, chunks: Path, embeddings: Path) -> None:
    """Write the collection anew; its key is set last."""
    client = open_store(chroma)
    if name in [collection.name for collection in client.list_collections()]:
        client.delete_collection(name)
    fill(client, name, RowFiles(chunks, embeddings), _say).modify(metadata={KEY: key})


def fill(
    client: Any, name: str, rows: RowFiles, tell: Callable[[str], None], more: Mapping[str, int] | None = None
) -> Any:
    """A new collection with all rows, whose key says that it is unfinished.

    Args:
        client: Of a folder or a server.
        name: Of the collection.
        rows: What goes in.
        tell: Told how far it is.
        more: Other metadata of the collection.
    """
    collection = client.create_collection(
        name,
        embedding_function=None,
        metadata={KEY: UNFINISHED, **(more or {})},
        configuration={"hnsw": {"space": "cosine"}},
    )
    for part, vectors in rows.batches(min(client.get_max_batch_size(), _PAGE), tell):
        collection.add(
            ids=[row.chunk_id for row in part],
            embeddings=vectors,
            documents=[row.text for row in part],
            metadatas=[_metadata(row) for row in part],
        )
    return collection


@dataclass(frozen=True)
class RowFiles:
    """Chunks and their vectors, row by row of two files."""

    chunks: Path
    embeddings: Path

    def batches(
        self, size: int, tell: Callable[[str], None]
    ) -> Iterator[tuple[list[Chunk], NDArray[np.float32]]]:
        """The rows with their vectors, so many at once and never all.

        Args:
            size: Rows at once.
            tell: Told every few seconds how far it is.
        """
        vectors = np.load(self.embeddings, mmap_mode="r", allow_pickle=False)
        rows = iter_jsonl(self.chunks, Chunk)
        done, told = 0, time.monotonic()
        while part := list(islice(rows, size)):
            yield part, np.array(vectors[done : done + len(part)])
            done += len(part)
            if time.monotonic() - told > _PAUSE_S:
                told = time.monotonic()
                tell(f"{done} of {len(vectors)} rows written")


def _say(line: str) -> None:
    """To the process that started this one."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def verify(chroma: str, name: str, key: str, chunks: Path, embeddings: Path) -> None:
    """Read the collection back from disk: key, all ids, and vectors that are stored and find themselves.

    Raises:
        DataError: Something is not as written.
    """
    collection = open_store(chroma).get_collection(name, embedding_function=None)
    if (collection.metadata or {}).get(KEY) != key:
        raise DataError("the collection has another index key")
    verify_rows(collection, chunks, embeddings)


def verify_rows(collection: Any, chunks: Path, embeddings: Path) -> None:
    """Read a collection back: all ids, and vectors that are stored and find themselves.

    Raises:
        DataError: Something is not as written.
    """
    rows, vectors = _rows(chunks, embeddings)
    stored = _ids(collection)
    if sorted(stored) != sorted(row.chunk_id for row in rows):
        raise DataError(f"{len(stored)} ids stored, {len(rows)} in chunks.jsonl, and they are not the same")
    for row in _spread(len(rows)):
        _check_row(collection, rows[row], vectors[row])


def check(chroma: str, name: str, count: int) -> None:
    """Read a collection that was copied along: all rows are there and have their vectors.

    Raises:
        DataError: They are not.
    """
    collection = open_store(chroma).get_collection(name, embedding_function=None)
    ids = sorted(_ids(collection))
    if not collection.count() == len(ids) == count:
        raise DataError(f"{len(ids)} rows of {count}")
    chosen = [ids[row] for row in _spread(len(ids))]
    if chosen and len(collection.get(ids=chosen, include=["embeddings"])["embeddings"]) != len(chosen):
        raise DataError("a row has no vector")


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


def _ids(collection: Any) -> list[str]:
    ids: list[str] = []
    for offset in range(0, collection.count(), _PAGE):
        ids += collection.get(limit=_PAGE, offset=offset, include=[])["ids"]
    return ids


def _spread(count: int) -> range:
    """Positions of up to `_PROBES` rows over the whole."""
    return range(0, count, max(1, -(-count // _PROBES)))


def _check_row(collection: Any, row: Chunk, vector: NDArray[np.float32]) -> None:
    """One row is stored as written, and its vector finds it (or a twin with the same vector)."""
    got = collection.get(ids=[row.chunk_id], include=["embeddings", "documents", "metadatas"])
    same = np.allclose(got["embeddings"][0], vector, atol=1e-6)
    if not same or got["documents"][0] != row.text or got["metadatas"][0] != _metadata(row):
        raise DataError(f"row {row.chunk_id} is not stored as written")
    found = collection.query(query_embeddings=[vector], n_results=1, include=["distances"])
    if not found["ids"][0] or found["distances"][0][0] > _SAME:
        raise DataError(f"row {row.chunk_id} does not find itself")


def main(arguments: list[str]) -> int:
    """Run one command; a failure leaves its error on stderr."""
    command, chroma, name, *rest = arguments
    if command == "read":
        read(chroma, name, Path(rest[0]))
    elif command == "check":
        check(chroma, name, int(rest[0]))
    else:
        {"build": build, "verify": verify}[command](chroma, name, rest[0], Path(rest[1]), Path(rest[2]))
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
