"""Passages and settings that several tests of data_prep share."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import yaml

from mark.config import DataPrep, Ingest, Retrieval
from mark.data_prep.phrases import Casing
from mark.data_prep.rules import RULES, Draft
from mark.data_prep.sources import chunk_sources
from mark.files import sha256_text
from mark.records import Chunk, Example

CONF = Path(__file__).resolve().parents[2] / "conf"
CASING = Casing(["the processor, the controller and member states of providers; any supplier, each buyer"])


def chunk(text: str, section: str = "Article 1", document: str = "code", heading: str = "") -> Chunk:
    """A passage that is a document of its own as far as positions go."""
    return Chunk(
        chunk_id=sha256_text(f"{document}{section}{text}"), doc_id=sha256_text(document), document=document,
        title="Supply Code", heading_path=[f"{section} {heading}".strip()], section=section, pages=[1],
        start=0, end=len(text), text=text,
    )  # fmt: skip


def drafts(rule: str, text: str, heading: str = "") -> list[Draft]:
    """What one family makes of a passage."""
    found: list[Draft] = []
    for _, sources in chunk_sources([chunk(text, heading=heading)], CASING):
        for source in sources:
            found += RULES[rule](source, random.Random(0))
    return found


def _conf(path: str) -> dict[str, object]:
    value: dict[str, object] = yaml.safe_load((CONF / path).read_text())
    return value


def settings(**changes: object) -> DataPrep:
    """A small section `data_prep`."""
    small: dict[str, object] = {
        "max_samples": 12, "max_val": 4, "max_test": 6, "val_share": 0.2, "test_share": 0.3,
        "unanswerable_share": 0.25, "val_unanswerable_share": 0.25, "test_unanswerable_share": 0.25, "practice_share": 0.0, "brought_share": 0.0, "paraphrase_model": "models/base/transformer",
        "rules": sorted(RULES), "max_overlap_run": 50, "max_overlap_share": 1.0, "max_document_share": 1.0,
        "ray": {"address": None, "workers": 0, "threads": 1},
    }  # fmt: skip
    return DataPrep.model_validate(_conf("data_prep/demo.yaml") | small | changes)


def retrieval() -> Retrieval:
    """A section `retrieval` with three passages a prompt."""
    return Retrieval.model_validate(_conf("retrieval/default.yaml") | {"top_k": 3})


def ingest_settings() -> Ingest:
    """A section `ingest` with one worker."""
    return Ingest.model_validate(_conf("ingest/default.yaml") | {"workers": 1, "chunk_tokens": 100})


def example(split: str, question: str, contexts: Sequence[str], section: str | None = "Article 1") -> Example:
    """A row that answers `thirty days`."""
    return Example(
        example_id=f"{split}-{sha256_text(question)[:12]}", split=split, question=question,  # type: ignore[arg-type]
        contexts=list(contexts), answers=["thirty days"], quote=None, page=None, kind="answerable",
        style="short", rule_id="amount", document="code" if section else None, section=section,
        source_chunk=None,
    )  # fmt: skip
