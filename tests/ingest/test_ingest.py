"""Ingest as a whole, with a real (random) embedder."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from mark.errors import DataError, ModelError
from mark.files import read_jsonl, write_jsonl
from mark.ingest import ingest, ingest_collection, ingest_pdfs, joined_text
from mark.ingest.index import read_embeddings, read_index
from mark.ingest.report import read_report, report_table
from mark.ingest.snapshot import CollectionRow
from mark.models.loading import Embedder
from mark.records import Chunk, Page

OUTS = ("pages.jsonl", "chunks.jsonl", "embeddings.npy", "index.json", "ingest_report.json")


@pytest.fixture
def raw(tmp_path, three_pdfs):
    folder = tmp_path / "raw"
    shutil.copytree(three_pdfs, folder)
    return folder


def test_contracts(tmp_path, raw, tiny_bert_dir, settings):
    report = ingest_pdfs(settings(), raw, tiny_bert_dir, tmp_path / "data")
    pages = read_jsonl(tmp_path / "data/pages.jsonl", Page)
    chunks = read_jsonl(tmp_path / "data/chunks.jsonl", Chunk)
    index = read_index(tmp_path / "data")
    vectors = read_embeddings(tmp_path / "data", index)
    assert (report.totals.files_read, index.documents, index.chunks) == (3, 3, len(chunks))
    assert {(c.document, c.section) for c in chunks if c.document == "lease"} == {
        ("lease", "Article 1"), ("lease", "Article 2"), ("lease", "Article 3"),
    }  # fmt: skip
    for found in chunks:
        text = joined_text(page for page in pages if page.doc_id == found.doc_id)
        assert text[found.start : found.end] == found.text
    embedder = Embedder(tiny_bert_dir)
    texts = [f"{c.heading}\n{c.text}" for c in chunks]
    assert max(embedder.count_tokens(texts)) <= settings().chunk_tokens
    np.testing.assert_allclose(vectors, embedder.encode(texts), atol=1e-6)


def test_same_inputs_same_bytes(tmp_path, raw, tiny_bert_dir, settings):
    for name, workers in (("one", 1), ("two", 3)):
        ingest(settings(workers=workers), raw, tiny_bert_dir, tmp_path / name)
    for out in OUTS:
        assert (tmp_path / "one" / out).read_bytes() == (tmp_path / "two" / out).read_bytes()
    everything = "".join((tmp_path / "one" / out).read_text(errors="replace") for out in OUTS)
    assert str(tmp_path) not in everything  # no absolute path


def test_bad_and_double_files_are_reported(tmp_path, raw, tiny_bert_dir, settings):
    (raw / "broken.pdf").write_bytes(b"%PDF-1.4 no")
    (raw / "empty.pdf").touch()
    shutil.copy(raw / "lease.pdf", raw / "z-copy.pdf")
    (raw / "notes.txt").write_text("not a PDF")
    ingest_pdfs(settings(), raw, tiny_bert_dir, tmp_path / "data")
    report = read_report(tmp_path / "data/ingest_report.json")
    totals = report.totals
    assert (totals.files, totals.files_read, totals.files_quarantined, totals.files_duplicate) == (6, 3, 2, 1)
    assert (totals.pages, totals.pages_read, totals.pages_duplicate) == (8, 6, 2)
    assert [(bad.file, bad.code) for bad in report.quarantined] == [
        ("broken.pdf", "corrupt"),
        ("empty.pdf", "empty"),
    ]
    assert [(same.file, same.same_as) for same in report.duplicates] == [("z-copy.pdf", "lease.pdf")]
    table = report_table(tmp_path / "data/ingest_report.json")
    assert "broken.pdf" in table and "corrupt" in table and "add it again" in table
    assert "3 of 6 files read, 2 left out" in table


def test_only_bad_files_is_one_line(tmp_path, tiny_bert_dir, settings):
    (tmp_path / "raw").mkdir()
    with pytest.raises(DataError, match="holds no PDF"):
        ingest_pdfs(settings(), tmp_path / "raw", tiny_bert_dir, tmp_path / "data")
    (tmp_path / "raw/broken.pdf").write_bytes(b"%PDF-1.4 no")
    with pytest.raises(DataError, match=r"none of the documents can be used \(broken.pdf corrupt\)") as fault:
        ingest_pdfs(settings(), tmp_path / "raw", tiny_bert_dir, tmp_path / "data")
    assert "\n" not in str(fault.value)
    assert not (tmp_path / "data").exists()


def test_a_collection_becomes_the_same_files(tmp_path, tiny_bert_dir, settings):
    rows = [
        CollectionRow(id="1", text="Article 1\nScope\nThis law applies to bread.", metadata={"source": "law.pdf", "page": 0}),
        CollectionRow(id="2", text="Article 2\nRest\n1. Rolls are bread.\n2. Cake is not.", metadata={"source": "law.pdf", "page": 1}),
    ]  # fmt: skip
    write_jsonl(tmp_path / "collection.jsonl", rows)
    wanted = settings(source="collection", input="data/collection.jsonl")
    report = ingest(wanted, tmp_path / "collection.jsonl", tiny_bert_dir, tmp_path / "data")
    chunks = read_jsonl(tmp_path / "data/chunks.jsonl", Chunk)
    assert [(c.document, c.section, c.pages, c.text) for c in chunks] == [
        ("law", "Article 1", [1], "This law applies to bread."),
        ("law", "Article 2", [2], "1. Rolls are bread.\n2. Cake is not."),
    ]
    assert (report.source, report.totals.pages_read) == ("collection", 2)
    with pytest.raises(DataError, match="mark snapshot"):
        ingest_collection(wanted, tmp_path / "nothing.jsonl", tiny_bert_dir, tmp_path / "data")


def test_chunks_longer_than_the_embedder_are_refused(tmp_path, raw, tiny_bert_dir, settings, monkeypatch):
    limit = Embedder(tiny_bert_dir).max_tokens
    folder = tmp_path / "short"
    shutil.copytree(tiny_bert_dir, folder)
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": min(limit, 32)}))
    with pytest.raises(DataError, match=r"ingest.chunk_tokens is 64, .* reads 32; lower ingest.chunk_tokens"):
        ingest_pdfs(settings(), raw, folder, tmp_path / "data")
    with pytest.raises(ModelError):
        ingest_pdfs(settings(), raw, tmp_path / "nothing", tmp_path / "data")


def test_damaged_outputs_are_named(tmp_path, raw, tiny_bert_dir, settings):
    data = tmp_path / "data"
    ingest_pdfs(settings(), raw, tiny_bert_dir, data)
    index = read_index(data)
    np.save(data / "embeddings.npy", np.zeros((2, 3), dtype=np.float32))
    with pytest.raises(DataError, match=r"embeddings.npy holds float32 \[2, 3\]"):
        read_embeddings(data, index)
    (data / "index.json").write_text("{}")
    with pytest.raises(DataError, match=r"index.json is damaged"):
        read_index(data)
