"""The derived collection on a Chroma server, which other machines and programs share.

A server cannot exchange two collections in one step, so each state has a name of its own, made of the name
and the first digits of its key. It is built under another name and renamed once it is verified: a name that
can be read holds whole rows, and of two writers of one state the second finds it there.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mark.config import ChromaServer
from mark.errors import ConfigError, DataError, MarkError
from mark.files import CHUNKS, EMBEDDINGS
from mark.ingest.index import KEY, Index, read_index
from mark.ingest.vector_store import UNFINISHED, RowFiles, fill, open_store, verify_rows
from mark.models.faults import first_line

log = logging.getLogger(__name__)

_MADE = "mark_made"  # in a collection's metadata: when by the server's clock, nanoseconds since 1970
_KEPT = 2  # newest states: readers of the last one go on until they see the next
_ABANDONED_NS = 86_400 * 10**9  # an unfinished collection this old has no writer


def published_name(name: str, key: str) -> str:
    """The name of a state on the server."""
    return f"{name}-{key[:12]}"


def token_of(server: ChromaServer) -> str | None:
    """The server's token from the environment; None where conf names no variable.

    Raises:
        ConfigError: The variable is not set.
    """
    if server.token_env is None:
        return None
    token = os.environ.get(server.token_env, "").strip()
    if not token:
        raise ConfigError(
            f"the environment variable {server.token_env} that ingest.chroma.token_env names is not set; "
            f"`export {server.token_env}=...`, or set token_env to null"
        )
    return token


def bring_up_to_date(out: Path, server: ChromaServer, name: str) -> None:
    """Publish the state of a data folder, unless the server has it.

    Args:
        out: The data folder (index.json, chunks.jsonl, embeddings.npy).
        server: Where.
        name: Of the collection.

    Raises:
        DataError: The server does not answer, holds the user's collection of that name, or writing failed.
    """
    assert server.url is not None
    index = read_index(out)
    published = is_published(server, name, index.key, index.chunks)
    client = open_store(server.url, token_of(server))
    with _told(server.url):
        if published:
            _renew(client, name, index.key)
            return
        log.info("writing the Chroma collection %s to %s", published_name(name, index.key), server.url)
        _publish(client, name, index, RowFiles(out / CHUNKS.name, out / EMBEDDINGS.name))


def is_published(server: ChromaServer, name: str, key: str, rows: int) -> bool:
    """Whether the server holds a state.

    Raises:
        DataError: The server does not answer, or a collection of that name is not ours.
    """
    assert server.url is not None
    client = open_store(server.url, token_of(server))
    with _told(server.url):
        found = _find(client, published_name(name, key))
        return found is not None and _is_whole(found, key, rows)


@contextmanager
def _told(url: str) -> Iterator[None]:
    """One line for whatever chromadb, httpx and others raise."""
    try:
        yield
    except MarkError:
        raise
    except Exception as fault:
        raise DataError(f"the Chroma server at {url} says: {first_line(fault)}") from fault


def _is_whole(found: Any, key: str, rows: int) -> bool:
    return _key(found) == key and int(found.count()) == rows


def _publish(client: Any, name: str, index: Index, rows: RowFiles) -> None:
    """Write a state under a name of this writer's own, verify it, and give it its name; then tidy up.

    Raises:
        DataError: It is not as written, or a collection of that name is not ours.
    """
    final = published_name(name, index.key)
    damaged = _find(client, final)
    if damaged is not None and _is_whole(damaged, index.key, index.chunks):
        return  # another machine was quicker
    made = _moment(client, name)
    own = f"{final}-{made}-{secrets.token_hex(4)}"
    try:
        collection = fill(client, own, rows, lambda line: log.info("%s: %s", final, line), {_MADE: made})
        verify_rows(collection, rows.chunks, rows.embeddings)
        if damaged is not None and _is_still(client, final, damaged):
            _delete(client, final)
        _rename(client, collection, final, {KEY: index.key, _MADE: made})
    finally:
        _delete(client, own)
    _tidy(client, name, final)


def _renew(client: Any, name: str, key: str) -> None:
    """A state that is used again counts as the newest: its readers keep it beside the next one."""
    found = _find(client, published_name(name, key))
    if found is not None and any(_made(other) > _made(found) for other in _ours(client, name)):
        found.modify(metadata={KEY: key, _MADE: _moment(client, name)})


def _is_still(client: Any, name: str, damaged: Any) -> bool:
    """Whether nobody has put another collection in the place of a damaged one."""
    found = _find(client, name)
    return found is not None and found.id == damaged.id


def _rename(client: Any, collection: Any, final: str, metadata: dict[str, str | int]) -> None:
    try:
        collection.modify(name=final, metadata=metadata)
    except Exception:
        found = _find(client, final)
        if found is None or _key(found) != metadata[KEY]:
            raise  # else another machine was quicker; what it wrote was verified too


def _find(client: Any, name: str) -> Any:
    """A collection of ours, None where there is none.

    Raises:
        DataError: It was not made by MARK.
    """
    from chromadb.errors import NotFoundError

    try:
        found = client.get_collection(name, embedding_function=None)
    except NotFoundError:
        return None
    if _key(found) is None:
        raise DataError(f"collection {name} was not made by MARK and stays as it is; set ingest.collection")
    return found


def _key(collection: Any) -> str | None:
    found = (collection.metadata or {}).get(KEY)
    return None if found is None else str(found)


def _tidy(client: Any, name: str, final: str) -> None:
    """Remove older states than the last two, and what killed writers left."""
    ours, now = _ours(client, name), int(client.heartbeat())
    states = [found for found in ours if _key(found) != UNFINISHED and found.name != final]
    states.sort(key=_made, reverse=True)
    old = states[_KEPT - 1 :]
    old += [f for f in ours if _key(f) == UNFINISHED and now - _made(f) > _ABANDONED_NS]
    for found in old:
        _delete(client, found.name)


def _delete(client: Any, name: str) -> None:
    """Remove a collection, unless another machine was quicker."""
    from chromadb.errors import NotFoundError

    with suppress(NotFoundError):
        client.delete_collection(name)


def _moment(client: Any, name: str) -> int:
    """The server's clock, one for all machines; later than every state that is there, if it was set back."""
    return max(int(client.heartbeat()), 1 + max(map(_made, _ours(client, name)), default=0))


def _ours(client: Any, name: str) -> list[Any]:
    """The states of a collection, finished or not."""
    shape = re.compile(re.escape(name) + r"-[0-9a-f]{12}(-\d+-[0-9a-f]{8})?")
    return [found for found in _all(client) if shape.fullmatch(found.name) and _key(found) is not None]


def _made(collection: Any) -> int:
    return int((collection.metadata or {}).get(_MADE, 0))


def _all(client: Any) -> list[Any]:
    found: list[Any] = []
    while part := client.list_collections(limit=100, offset=len(found)):
        found += part
    return found
