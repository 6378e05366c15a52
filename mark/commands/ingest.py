"""`mark ingest`: the stage, the derived collection, and the report as a table."""

from __future__ import annotations

from pathlib import Path

from mark.commands.dvc import dvc
from mark.config import Ingest, load_section
from mark.files import INDEX, INGEST_REPORT, read_json


def run_ingest(root: Path, force: bool = False) -> str:
    """Run the DVC stage and make sure that the Chroma collection matches its index.

    Args:
        root: The project's root.
        force: Run it though no dependency changed. A password or a newly installed text recognition
            changes what can be read, and DVC sees neither.
    """
    from mark.ingest.stores import bring_up_to_date, store_place

    if force:
        dvc(["repro", "corpus", "base_model"], root)
    dvc(["repro", "--force", "--single-item", "ingest"] if force else ["repro", "ingest"], root)
    settings = load_section(Ingest, "ingest", root / "params.yaml")
    bring_up_to_date(root / INDEX.parent, settings, root)
    index = read_json(root / INDEX)
    found = f"{index['chunks']} chunks of {index['documents']} documents; collection {settings.collection}"
    place = store_place(settings)
    return found if place == settings.chroma_path else f"{found} at {place}"


def ingest_table(root: Path) -> str:
    """data/ingest_report.json as a table: each file, its pages, what was quarantined and the remedy."""
    from mark.ingest.report import report_table

    return report_table(root / INGEST_REPORT)
