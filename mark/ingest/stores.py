"""Where the derived collection lies: a Chroma folder, a Chroma server or PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from mark.config import Ingest
from mark.ingest.index import build_collection


def bring_up_to_date(out: Path, settings: Ingest, root: Path) -> None:
    """Write what ingest made into the store that `ingest.store` names; nothing happens where it holds it.

    Args:
        out: The data folder.
        settings: Section `ingest`.
        root: The project's root, below which a Chroma folder lies.

    Raises:
        DataError: The store is the user's, in use, does not answer, or writing failed.
        ConfigError: A token's variable is not set.
    """
    if settings.store == "pgvector":
        from mark.ingest.pgvector import bring_up_to_date as to_postgres

        to_postgres(out, settings.pgvector, settings.collection)
    elif settings.chroma.url is not None:
        from mark.ingest.chroma_server import bring_up_to_date as to_server

        to_server(out, settings.chroma, settings.collection)
    else:
        build_collection(out, root / settings.chroma_path, settings.collection)


def store_place(settings: Ingest) -> str:
    """The store, as people are told."""
    if settings.store == "pgvector":
        from mark.ingest.pgvector import host_of

        return f"PostgreSQL at {host_of(settings.pgvector)}"
    return settings.chroma.url or settings.chroma_path
