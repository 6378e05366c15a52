"""A document that is taken out leaves no chunk, vector, Chroma id or training row behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from mark.data_prep import prepare
from mark.files import read_jsonl
from mark.ingest import ingest_pdfs
from mark.ingest.index import build_collection, stored_ids
from mark.records import Chunk, Example, Page
from tests.data_prep.passages import ingest_settings, retrieval, settings


def test_nothing_of_a_removed_document_remains(three_pdfs: Path, tiny_bert_dir: Path, tmp_path: Path) -> None:
    raw, data = tmp_path / "raw", tmp_path / "data"
    shutil.copytree(three_pdfs, raw)

    def run() -> tuple[list[Chunk], list[Example]]:
        ingest_pdfs(ingest_settings(), raw, tiny_bert_dir, data, tmp_path / "cache")
        (data / "held_out_sections.json").write_text(json.dumps({"test": [], "val": []}))
        build_collection(data, tmp_path / "chroma_db", "pdf_docs")
        prepare(data, tiny_bert_dir, settings(), retrieval(), 5, data)
        rows = [
            row
            for name in ("train", "val", "test")
            for row in read_jsonl(data / f"{name}_sft.jsonl", Example)
        ]
        return read_jsonl(data / "chunks.jsonl", Chunk), rows

    chunks, rows = run()
    gone = {chunk.chunk_id for chunk in chunks if chunk.document == "statute"}
    assert gone and any(gone & {*row.contexts, row.source_chunk} for row in rows)

    (raw / "statute.pdf").unlink()
    chunks, rows = run()
    kept = {chunk.chunk_id for chunk in chunks}
    assert {chunk.document for chunk in chunks} == {"lease", "policy"} and not gone & kept
    assert len(np.load(data / "embeddings.npy")) == len(chunks)
    assert stored_ids(tmp_path / "chroma_db", "pdf_docs") == sorted(kept)
    assert rows and all({*row.contexts} <= kept for row in rows)
    assert {row.source_chunk for row in rows} - {None} <= kept
    assert {row.document for row in rows} - {None} <= {"lease", "policy"}
    assert {page.document for page in read_jsonl(data / "pages.jsonl", Page)} == {"lease", "policy"}
    assert "statute" not in (data / "ingest_report.json").read_text()
