"""A rerun makes only what is new, and what it writes is the same to the byte as without a cache."""

from __future__ import annotations

import gc
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mark.config import Retrieval
from mark.errors import DataError
from mark.files import read_jsonl, write_jsonl
from mark.ingest import ingest, ingest_pdfs
from mark.ingest.cache import DocumentCache, DocumentEntry, forget
from mark.ingest.layout import RawDocument
from mark.ingest.outputs import Outputs
from mark.ingest.report import read_report
from mark.ingest.snapshot import CollectionRow
from mark.models.embedder import Embedder
from mark.records import Chunk, Page
from mark.retrieval.retriever import Retriever
from tests.conftest import ROOT

OUTS = ("pages.jsonl", "chunks.jsonl", "embeddings.npy", "index.json", "ingest_report.json")


@pytest.fixture
def embedded(monkeypatch) -> list[str]:
    """All texts that the real embedder embeds, in their order."""
    texts: list[str] = []
    encode = Embedder.encode

    def counted(self, given, truncate=False):
        texts.extend(given)
        return encode(self, given, truncate)

    monkeypatch.setattr(Embedder, "encode", counted)
    return texts


@pytest.fixture
def token_texts(monkeypatch) -> list[str]:
    """All texts whose tokens the real embedder embeds, in their order."""
    texts: list[str] = []
    encode_tokens = Embedder.encode_tokens

    def counted(self, given, truncate=False):
        texts.extend(given)
        return encode_tokens(self, given, truncate)

    monkeypatch.setattr(Embedder, "encode_tokens", counted)
    return texts


@pytest.fixture
def cached(caplog):
    """Runs with a cache and says how many documents came from it."""
    caplog.set_level(logging.INFO, logger="mark")

    def run(*arguments: object) -> int:
        caplog.clear()
        ingest_pdfs(*arguments)  # type: ignore[arg-type]
        found = re.search(r"(\d+) from the cache", caplog.text)
        assert found is not None
        return int(found[1])

    return run


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of all outs; nothing else lies there."""
    assert sorted(path.name for path in folder.iterdir()) == sorted(OUTS)
    return {name: (folder / name).read_bytes() for name in OUTS}


def make_documents(folder: Path, text_pdf, count: int) -> Path:
    """PDFs of one chunk each."""
    folder.mkdir()
    for number in range(count):
        lines = ["Article 1 Duty", f"Pay {number} euros."]
        text_pdf(folder / f"house-{number:03}.pdf", lines, title=f"Rules {number}")
    return folder


def test_one_of_a_hundred_costs_one_of_a_hundred(
    tmp_path, text_pdf, tiny_bert_dir, settings, embedded, cached
):
    raw = make_documents(tmp_path / "raw", text_pdf, 100)
    place = (tiny_bert_dir, tmp_path / "data", tmp_path / "cache")
    assert cached(settings(), raw, *place) == 0
    total = len(read_jsonl(tmp_path / "data/chunks.jsonl", Chunk))
    assert len(embedded) == total >= 100

    embedded.clear()
    text_pdf(raw / "annex.pdf", ["Article 1 Garden", "The garden is open."], title="Annex")
    assert cached(settings(), raw, *place) == 100
    assert all("Annex" in text for text in embedded) and 1 <= len(embedded) <= 0.02 * total
    with_all = contents(tmp_path / "data")
    ingest_pdfs(settings(), raw, tiny_bert_dir, tmp_path / "fresh")
    assert contents(tmp_path / "fresh") == with_all

    embedded.clear()
    (raw / "house-007.pdf").unlink()
    assert cached(settings(), raw, *place) == 100
    assert embedded == []
    removed = contents(tmp_path / "data")
    assert (
        b"house-007" not in removed["chunks.jsonl"] + removed["pages.jsonl"] + removed["ingest_report.json"]
    )
    rows = len(read_jsonl(tmp_path / "data/chunks.jsonl", Chunk))
    assert len(np.load(tmp_path / "data/embeddings.npy")) == rows < with_all["chunks.jsonl"].count(b"\n")
    ingest_pdfs(settings(), raw, tiny_bert_dir, tmp_path / "fresh")
    assert contents(tmp_path / "fresh") == removed


def test_a_new_name_costs_no_embedding(tmp_path, three_pdfs, tiny_bert_dir, settings, embedded, cached):
    raw, place = tmp_path / "raw", (tiny_bert_dir, tmp_path / "data", tmp_path / "cache")
    shutil.copytree(three_pdfs, raw)
    cached(settings(), raw, *place)
    before = {chunk.chunk_id: chunk for chunk in read_jsonl(tmp_path / "data/chunks.jsonl", Chunk)}
    key = (tmp_path / "data/index.json").read_bytes()
    embedded.clear()
    (raw / "old").mkdir()
    (raw / "lease.pdf").rename(raw / "old/a contract.pdf")
    assert cached(settings(), raw, *place) == 3
    assert embedded == []
    after = {chunk.chunk_id: chunk for chunk in read_jsonl(tmp_path / "data/chunks.jsonl", Chunk)}
    assert set(before) == set(after)
    assert {chunk.document for chunk in after.values()} == {"old/a contract", "policy", "statute"}
    assert (tmp_path / "data/index.json").read_bytes() != key  # Chroma shows names, so it is built anew
    with_cache = contents(tmp_path / "data")
    ingest_pdfs(settings(), raw, tiny_bert_dir, tmp_path / "fresh")
    assert contents(tmp_path / "fresh") == with_cache


def open_retriever(data: Path, embedder: Path) -> dict[str, bytes]:
    """What the first use of the retriever leaves in `data/token_vectors`."""
    settings = Retrieval(
        top_k=2, candidates=10, fusion="score", rrf_k=60, dense_weight=1.0, bm25_weight=1.0,
        document_weight=0.0, late_weight=0.5, reranker=None,
    )  # fmt: skip
    Retriever.open(data, embedder, settings)
    return {path.name: path.read_bytes() for path in (data / "token_vectors").iterdir()}


def test_the_retrievers_token_vectors_cost_what_is_new(
    tmp_path, text_pdf, tiny_bert_dir, settings, embedded, token_texts
):
    raw, data = make_documents(tmp_path / "raw", text_pdf, 25), tmp_path / "data"
    place = (raw, tiny_bert_dir, data, tmp_path / "cache")
    ingest_pdfs(settings(), *place)
    before = open_retriever(data, tiny_bert_dir)
    total = len(embedded)
    assert len(token_texts) == total >= 25

    embedded.clear()
    token_texts.clear()
    text_pdf(raw / "annex.pdf", ["Article 1 Garden", "The garden is open."], title="Annex")
    ingest_pdfs(settings(), *place)
    with_annex = open_retriever(data, tiny_bert_dir)
    assert 1 <= len(token_texts) == len(embedded) <= 0.08 * total
    assert all("Annex" in text for text in token_texts)
    shutil.rmtree(data / "token_vectors")
    assert open_retriever(data, tiny_bert_dir) == with_annex  # to the byte as if all had been new

    token_texts.clear()
    (raw / "annex.pdf").rename(raw / "zoo.pdf")
    ingest_pdfs(settings(), *place)
    assert len(open_retriever(data, tiny_bert_dir)["vectors.i8"]) == len(with_annex["vectors.i8"])
    (raw / "zoo.pdf").unlink()
    ingest_pdfs(settings(), *place)
    assert open_retriever(data, tiny_bert_dir) == before  # nothing of it is left
    assert token_texts == []


def test_a_file_without_a_title_is_titled_by_its_new_name(
    tmp_path, text_pdf, tiny_bert_dir, settings, embedded
):
    raw, place = tmp_path / "raw", (tiny_bert_dir, tmp_path / "data", tmp_path / "cache")
    raw.mkdir()
    text_pdf(raw / "bread.pdf", ["Article 1 Scope", "This law applies to bread."])
    text_pdf(raw / "cake.pdf", ["Article 1 Scope", "This law applies to cake."])
    ingest_pdfs(settings(), raw, *place)
    embedded.clear()
    (raw / "bread.pdf").rename(raw / "rolls.pdf")
    ingest_pdfs(settings(), raw, *place)
    assert embedded and all(text.startswith("rolls") and "cake" not in text for text in embedded)
    with_cache = contents(tmp_path / "data")
    ingest_pdfs(settings(), raw, tiny_bert_dir, tmp_path / "fresh")
    assert contents(tmp_path / "fresh") == with_cache


def test_a_vector_does_not_depend_on_the_other_documents(tmp_path, three_pdfs, minilm_dir, settings):
    """With real weights: alone, in company, in another order, the same bits."""
    together = {}
    ingest_pdfs(settings(embed_batch=4), three_pdfs, minilm_dir, tmp_path / "all")
    for chunk, vector in zip(
        read_jsonl(tmp_path / "all/chunks.jsonl", Chunk),
        np.load(tmp_path / "all/embeddings.npy"),
        strict=True,
    ):
        together[chunk.chunk_id] = vector.tobytes()
    alone = {}
    for name in ("lease", "statute", "policy"):
        (tmp_path / name).mkdir()
        shutil.copy(three_pdfs / f"{name}.pdf", tmp_path / name)
        ingest_pdfs(settings(embed_batch=4), tmp_path / name, minilm_dir, tmp_path / f"{name}-data")
        rows = read_jsonl(tmp_path / f"{name}-data/chunks.jsonl", Chunk)
        vectors = np.load(tmp_path / f"{name}-data/embeddings.npy")
        alone |= {chunk.chunk_id: vector.tobytes() for chunk, vector in zip(rows, vectors, strict=True)}
    assert alone == together


def test_settings_that_decide_count_and_others_do_not(
    tmp_path, three_pdfs, tiny_bert_dir, settings, embedded, cached
):
    place = (three_pdfs, tiny_bert_dir, tmp_path / "data", tmp_path / "cache")
    cached(settings(), *place)
    total = len(embedded)
    embedded.clear()
    assert cached(settings(workers=1, collection="other_docs", cache_mb=65), *place) == 3
    assert cached(settings(timeout_s=61.0), *place) == 0  # read anew, cut alike, so embedded no more
    assert embedded == []
    assert cached(settings(chunk_tokens=48), *place) == 0
    assert len(embedded) > 0
    embedded.clear()
    assert cached(settings(embed_batch=3), *place) == 0  # the batch decides the last bits
    assert len(embedded) == total


def test_another_embedder_shares_nothing(tmp_path, three_pdfs, tiny_bert_dir, settings, embedded, cached):
    cached(settings(), three_pdfs, tiny_bert_dir, tmp_path / "data", tmp_path / "cache")
    total = len(embedded)
    other = tmp_path / "embedder"
    shutil.copytree(tiny_bert_dir, other)
    (other / "sentence_bert_config.json").write_text('{"max_seq_length": 100}')
    assert cached(settings(), three_pdfs, other, tmp_path / "data", tmp_path / "cache") == 0
    assert len(embedded) == 2 * total


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "swap"])
def test_damaged_entries_are_made_anew(tmp_path, three_pdfs, tiny_bert_dir, settings, caplog, harm):
    place = (three_pdfs, tiny_bert_dir, tmp_path / "data", tmp_path / "cache")
    ingest_pdfs(settings(), *place)
    whole = contents(tmp_path / "data")
    entries = sorted((tmp_path / "cache").glob("*/*"))
    assert len(entries) == 6  # three documents, their vectors
    for kind in ("document-*", "vectors-*"):
        first, second, *_ = sorted((tmp_path / "cache").glob(f"*/{kind}"))
        data = first.read_bytes()
        first.write_bytes(
            {"flip": data[:-9] + b"9" + data[-8:] if data[-9:-8] != b"9" else data[:-9] + b"8" + data[-8:],
             "cut": data[: len(data) // 2], "empty": b"", "swap": second.read_bytes()}[harm]
        )  # fmt: skip
    caplog.clear()
    ingest_pdfs(settings(), *place)
    lines = [record.getMessage() for record in caplog.records if "damaged" in record.getMessage()]
    assert len(lines) == 2 and all("made anew" in line and "\n" not in line for line in lines)
    assert contents(tmp_path / "data") == whole
    caplog.clear()
    ingest_pdfs(settings(), *place)
    assert "damaged" not in caplog.text


def test_what_cannot_be_read_is_tried_again(tmp_path, three_pdfs, tiny_bert_dir, settings, cached):
    raw, place = tmp_path / "raw", (tiny_bert_dir, tmp_path / "data", tmp_path / "cache")
    shutil.copytree(three_pdfs, raw)
    (raw / "a-broken.pdf").write_bytes(b"%PDF-1.4 no")
    shutil.copy(raw / "a-broken.pdf", raw / "b-broken.pdf")
    shutil.copy(raw / "lease.pdf", raw / "z-copy.pdf")
    for known in (0, 3):
        assert cached(settings(), raw, *place) == known
        report = read_report(tmp_path / "data/ingest_report.json")
        assert [bad.file for bad in report.quarantined] == ["a-broken.pdf", "b-broken.pdf"]
        assert [(same.file, same.same_as) for same in report.duplicates] == [("z-copy.pdf", "lease.pdf")]
    with pytest.raises(DataError, match="too_large"):  # a lower limit holds for known files too
        ingest_pdfs(settings(max_pages=1), raw, *place)


def test_a_collection_is_cached_too(tmp_path, tiny_bert_dir, settings, embedded):
    rows = [CollectionRow(id=str(number), text=f"Article {number}\nRolls of size {number} are bread.",
                          metadata={"source": f"law-{number}.pdf"}) for number in range(3)]  # fmt: skip
    wanted = settings(source="collection", input="data/collection.jsonl")
    place = (tmp_path / "collection.jsonl", tiny_bert_dir, tmp_path / "data", tmp_path / "cache")
    write_jsonl(place[0], rows)
    ingest(wanted, *place)
    before = contents(tmp_path / "data")
    embedded.clear()
    ingest(wanted, *place)
    assert embedded == [] and contents(tmp_path / "data") == before
    write_jsonl(place[0], [*rows[:2], rows[2].model_copy(update={"text": "Article 2\nCake is not."})])
    ingest(wanted, *place)
    assert len(embedded) == 1 and "Cake" in embedded[0]


def test_the_least_recently_used_go_first(tmp_path, tiny_bert_dir, settings, caplog):
    vectors = np.ones((1000, 100), dtype=np.float32)  # 0.4 MB
    texts = ["bread"] * 1000
    first = DocumentCache(tmp_path / "cache", settings(cache_mb=1), tiny_bert_dir)
    for age, content in ((30, "a"), (20, "b"), (10, "c")):
        first.keep_vectors(content, texts, vectors)
        (path,) = (tmp_path / "cache" / content).iterdir()
        os.utime(path, (time.time() - age, time.time() - age))
    (tmp_path / "cache/c/.half").write_bytes(b"what a killed run left")
    os.utime(tmp_path / "cache/c/.half", (0, 0))
    second = DocumentCache(tmp_path / "cache", settings(cache_mb=1), tiny_bert_dir)
    assert second.vectors("a", texts) is not None  # from now on the last used
    second.prune()
    assert sorted(path.parent.name for path in (tmp_path / "cache").glob("*/*")) == ["a", "c"]
    assert "too small" not in caplog.text
    first.prune()
    second.keep_vectors("d", texts, vectors)
    second.keep_vectors("e", texts, vectors)
    second.prune()
    assert sum(path.stat().st_size for path in (tmp_path / "cache").glob("*/*")) <= 1 << 20
    assert "ingest.cache_mb=1 is too small for this corpus" in caplog.text


def test_no_cache(tmp_path, three_pdfs, tiny_bert_dir, settings):
    ingest_pdfs(settings(cache_mb=0), three_pdfs, tiny_bert_dir, tmp_path / "data", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_what_a_password_opened_is_locked_again_without_it(
    tmp_path, text_pdf, tiny_bert_dir, settings, monkeypatch
):
    from pypdf import PdfReader, PdfWriter

    from mark.corpus.passwords import forget_passwords, store_password

    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    raw = make_documents(tmp_path / "raw", text_pdf, 2)
    writer = PdfWriter(clone_from=PdfReader(raw / "house-000.pdf"))
    writer.encrypt("open sesame", algorithm="AES-256")
    writer.write(raw / "house-000.pdf")
    store_password(["house-000.pdf"], "open sesame", tmp_path)
    arguments = (settings(), raw, tiny_bert_dir, tmp_path / "data", tmp_path / "cache")
    files = ingest_pdfs(*arguments).files
    assert [file.file for file in files] == ["house-000.pdf", "house-001.pdf"]
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {files[1].doc_id}
    forget_passwords(["house-000.pdf"], tmp_path)
    report = ingest_pdfs(*arguments)
    assert [(file.file, file.code) for file in report.quarantined] == [("house-000.pdf", "encrypted")]


def test_forget_removes_all_of_a_document(tmp_path, three_pdfs, tiny_bert_dir, settings):
    report = ingest_pdfs(settings(), three_pdfs, tiny_bert_dir, tmp_path / "data", tmp_path / "cache")
    forget(tmp_path / "cache", report.files[0].doc_id)
    assert {path.parent.name for path in (tmp_path / "cache").glob("*/*")} == {
        file.doc_id for file in report.files[1:]
    }


KILLED = """
import sys
from pathlib import Path
import yaml
from mark.config import Ingest
from mark.ingest import ingest_pdfs

settings, raw, embedder, out, cache = sys.argv[1:]
ingest_pdfs(Ingest.model_validate(yaml.safe_load(settings)), Path(raw), Path(embedder), Path(out), Path(cache))
"""


def test_a_killed_run_goes_on(tmp_path, text_pdf, tiny_bert_dir, settings, embedded, cached):
    raw = make_documents(tmp_path / "raw", text_pdf, 60)
    cache, out = tmp_path / "cache", tmp_path / "data"
    command = [
        sys.executable,
        "-c",
        KILLED,
        settings().model_dump_json(),
        *map(str, (raw, tiny_bert_dir, out, cache)),
    ]
    process = subprocess.Popen(command, cwd=ROOT)
    deadline = time.monotonic() + 300
    while (
        len(list(cache.glob("*/vectors-*"))) < 20 and time.monotonic() < deadline and process.poll() is None
    ):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    finished = {path.parent.name for path in cache.glob("*/vectors-*")}
    assert 20 <= len(finished) < 60
    assert not (out / "index.json").exists()
    assert (out / ".ingest.part").is_dir()

    reused = cached(settings(), raw, tiny_bert_dir, out, cache)
    missing = [chunk for chunk in read_jsonl(out / "chunks.jsonl", Chunk) if chunk.doc_id not in finished]
    assert reused == len(finished) and len(embedded) == len(missing)
    after = contents(out)
    ingest_pdfs(settings(), raw, tiny_bert_dir, tmp_path / "unbroken")
    assert contents(tmp_path / "unbroken") == after


def test_a_file_that_changes_meanwhile_is_named(tmp_path, three_pdfs, tiny_bert_dir, settings, monkeypatch):
    """A process that writes the file between its hash and its reading."""
    from mark.ingest import pdf

    raw = tmp_path / "raw"
    shutil.copytree(three_pdfs, raw)
    read = pdf.read_pdfs

    def late(files, root, wanted):
        shutil.copy(raw / "policy.pdf", raw / "lease.pdf")
        return read(files, root, wanted)

    monkeypatch.setattr(pdf, "read_pdfs", late)
    with pytest.raises(DataError, match=r"lease.pdf changed while it was read; run it again"):
        ingest_pdfs(settings(), raw, tiny_bert_dir, tmp_path / "data", tmp_path / "cache")
    assert not (tmp_path / "data").exists()


def test_memory_does_not_grow_with_the_number_of_documents(
    tmp_path, text_pdf, tiny_bert_dir, settings, monkeypatch
):
    """While 40 files are written, no more than one window of them is ever alive; made, then from the cache."""
    raw = make_documents(tmp_path / "raw", text_pdf, 40)
    kinds = (RawDocument, DocumentEntry, Page)
    others = [one for one in gc.get_objects() if type(one) in kinds]  # held, so that their ids stay theirs
    known = {id(one) for one in others}
    alive: list[int] = []
    add = Outputs.add

    def counted(self, pages, chunks, vectors):
        add(self, pages, chunks, vectors)
        found = living()
        if found > 20:  # what is dead but in a cycle is not alive; collecting each time would take minutes
            gc.collect()
            found = living()
        alive.append(found)

    def living() -> int:
        found = [type(one) for one in gc.get_objects() if type(one) in kinds and id(one) not in known]
        return max(found.count(kind) for kind in kinds)

    monkeypatch.setattr(Outputs, "add", counted)
    for _ in range(2):
        ingest_pdfs(settings(), raw, tiny_bert_dir, tmp_path / "data", tmp_path / "cache")
    assert len(alive) == 80
    assert max(alive) <= 20  # a window of 16, and what the loops still hold of the one before
