"""data/raw (or data/collection.jsonl) -> pages, chunks, embeddings, index, report, chroma_db."""

from __future__ import annotations

from pathlib import Path

from mark.commands.stage import run_stage
from mark.config import Ingest, load_section
from mark.files import EMBEDDER, INDEX, INGEST_CACHE, git_root
from mark.ingest import ingest
from mark.ingest.stores import bring_up_to_date


def main() -> None:
    """Read the documents, then bring the derived Chroma collection up to date."""
    settings = load_section(Ingest, "ingest")
    ingest(settings, Path(settings.input), EMBEDDER, INDEX.parent, git_root() / INGEST_CACHE)
    bring_up_to_date(INDEX.parent, settings, Path())


if __name__ == "__main__":
    run_stage("ingest", main)
