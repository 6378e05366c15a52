"""The Ray engine makes what the local one makes, to the byte; on a real cluster, started here."""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from mark.cluster import connected
from mark.config import DataPrep
from mark.data_prep import prepare
from mark.data_prep.asking import Asking, Documents, Found, ask_here, whole_documents
from mark.data_prep.candidates import cheap_fault, make_candidates
from mark.data_prep.engine import engine_of
from mark.data_prep.phrases import Casing
from mark.data_prep.ray_engine import OnRay
from mark.data_prep.rules import chosen_rules
from mark.errors import MarkError
from mark.ingest import ingest_pdfs
from mark.records import Chunk, Split
from tests.conftest import write_pdf
from tests.data_prep import corpora
from tests.data_prep.passages import ingest_settings, retrieval, settings

OUTS = ("train_sft.jsonl", "val_sft.jsonl", "test_sft.jsonl", "practice_passages.jsonl", "ledger.json")


def on(address: str | None) -> DataPrep:
    return settings(engine="ray", ray={"address": address, "workers": 0, "threads": 1})


def corpus_of(documents: int) -> tuple[list[Chunk], dict[str, Split], Asking]:
    """Chunks of several documents, a third of each held out."""
    _, chunks = corpora.corpus(4, documents, 6, 2)
    names: tuple[Split, ...] = ("train", "train", "test")
    split_of = {chunk.chunk_id: names[place // 2 % 3] for place, chunk in enumerate(chunks)}
    return chunks, split_of, Asking(settings(), Casing(chunk.text for chunk in chunks), 5)


def told(found: Iterator[Found]) -> list[Any]:
    """What the stage reads of what was found."""
    return [
        (one.source.statement, one.source.ask(), one.source.names, one.source.topic, one.questions)
        for one in found
    ]


@pytest.fixture(scope="module")
def ingested(tiny_bert_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng, out = random.Random(1), tmp_path_factory.mktemp("data")
    raw = tmp_path_factory.mktemp("raw")
    for act in range(5):
        articles = [(f"Article {n} Rules", corpora.provision(rng)) for n in range(1, 7)]
        write_pdf(raw / f"act{act}.pdf", f"Harbour Act {act}", articles)
    ingest_pdfs(ingest_settings(), raw, tiny_bert_dir, out)
    (out / "held_out_sections.json").write_text(json.dumps({"test": [["act1", "Article 3"]], "val": []}))
    return out


def test_a_document_is_asked_about_without_the_others() -> None:
    chunks, split_of, asking = corpus_of(3)
    cut = list(whole_documents(chunks, split_of))
    assert [part.name for part in cut] == ["act000", "act001", "act002"]
    found = [question for one in ask_here(cut, asking) for question in one.questions]
    whole = make_candidates(chunks, chosen_rules(asking.settings.rules), asking.casing, 5, split_of)
    assert found == [(candidate, cheap_fault(candidate, asking.settings)) for candidate, _ in whole]
    assert len(found) > 60 and any(fault for _, fault in found)


def test_chunks_of_one_document_stay_together() -> None:
    chunks, split_of, _ = corpus_of(3)
    first, last = chunks[0].doc_id, chunks[-1].doc_id
    mixed = [*chunks[:5], chunks[-1], *chunks[5:-1]]  # the last document begins inside the first one
    parts = list(whole_documents(mixed, split_of))
    assert [chunk for part in parts for chunk in part.chunks] == mixed
    assert first != last and len(parts) == 1
    assert list(whole_documents([], split_of)) == []


def test_without_ray_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    told_so = pytest.raises(MarkError, match=r"^Ray is not installed: .* or set data_prep\.engine to local$")
    with told_so, engine_of(on(None)):
        pass


@pytest.mark.long
def test_outputs_are_the_same_to_the_byte(
    cluster: str, ingested: Path, tiny_bert_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="mark")
    here, there = (Path(shutil.copytree(ingested, tmp_path / name)) for name in ("here", "there"))
    prepare(here, tiny_bert_dir, settings(), retrieval(), 5, here)
    assert "Ray" not in caplog.text and (here / "train_sft.jsonl").stat().st_size > 1000
    prepare(there, tiny_bert_dir, on(cluster), retrieval(), 5, there)
    assert caplog.text.count("data_prep: 2 Ray workers of 2 cores") == 2  # token vectors, then questions
    files = [*OUTS, "token_vectors/vectors.i8", "token_vectors/ids.i4", "token_vectors/meta.json"]
    for name in files:
        assert (there / name).read_bytes() == (here / name).read_bytes(), name


@pytest.mark.long
def test_workers_that_are_lost_or_fail(cluster: str) -> None:
    chunks, split_of, asking = corpus_of(12)
    parts = list(whole_documents(chunks, split_of))

    def with_a_loss() -> Iterator[Documents]:
        for number, part in enumerate(parts):
            if number == 3:
                lost = next(
                    process
                    for process in psutil.process_iter(["cmdline"])
                    if (process.info["cmdline"] or [""])[0].startswith("ray::Asker")
                )
                lost.kill()
            yield part

    with connected(cluster, "data_prep") as ray:
        engine = OnRay(ray, on(cluster).ray)
        assert told(engine.questions(with_a_loss(), asking)) == told(ask_here(parts, asking))
        with pytest.raises(MarkError, match=r"^act001: a Ray worker failed \(KeyError") as fault:
            list(engine.questions([parts[0], Documents(parts[1].chunks, {})], asking))
        assert "\n" not in str(fault.value)


@pytest.mark.long
def test_what_workers_cannot_do_is_one_line(
    cluster: str, ingested: Path, tiny_bert_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Path(shutil.copytree(ingested, tmp_path / "data"))

    def one_line(address: str, text: str) -> None:
        with pytest.raises(MarkError, match=text) as fault:
            prepare(data, tiny_bert_dir, on(address), retrieval(), 5, tmp_path / "out")
        assert "\n" not in str(fault.value) and not (tmp_path / "out").exists()

    one_line("127.0.0.1:1", r"^no Ray cluster answers at data_prep\.ray\.address 127\.0\.0\.1:1 \(")
    monkeypatch.setattr("mark.data_prep.ray_engine.package_sha256", lambda: "0" * 64)
    one_line(cluster, r"^the code on .* is another one; bring all machines to one commit$")
    monkeypatch.undo()
    other = {"embedder": "0" * 64}
    monkeypatch.setattr("mark.data_prep.ray_engine.encoder_versions", lambda _: other)
    one_line(cluster, r" has another embedder, .*another torch.* than the machine that runs data_prep;")
