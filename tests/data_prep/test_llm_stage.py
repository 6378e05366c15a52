"""The language model's drafts in data_prep: same filters, same ledger, nothing but training passages sent."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mark.answering.quotes import fold
from mark.data_prep import prepare
from mark.data_prep.generator import GeneratorSettings, SFTDataGenerator
from mark.data_prep.ledger import Ledger
from mark.data_prep.rules import RULES
from mark.errors import GuardError
from mark.files import read_jsonl
from mark.ingest import ingest_pdfs
from mark.ingest.index import build_collection
from mark.prompting import REFUSAL
from mark.records import Chunk, Example
from tests.data_prep.llm_server import Body, Say, Server, llm_settings, passage_of, questions, serving
from tests.data_prep.passages import ingest_settings, retrieval, settings
from tests.stages.running import clone_of_working_tree

FILES = ("train_sft.jsonl", "val_sft.jsonl", "test_sft.jsonl", "practice_passages.jsonl", "ledger.json")
KEY = "sk-THE-SECRET-KEY-0123456789"


def answer(body: Body) -> Say:
    """Four questions: one of them verbatim, one not, one that gives its answer away, one without an answer."""
    words = passage_of(body).split("\n")[-1].rstrip(".").split()
    span = " ".join(words[-4:])
    topic = " ".join(words[1:6])
    return Say(
        "Of course:\n"
        + questions(
            {"question": f"What does the rule about {topic} end with?", "answer": span, "answerable": True},
            {"question": f"What is the reason for {topic}?", "answer": "because nobody wrote it", "answerable": True},
            {"question": f"Is {span} what the rule on {topic} ends with?", "answer": span, "answerable": True},
            {"question": f"How loud may the trumpet be when {topic}?", "answer": None, "answerable": False, "missing": ["trumpet"]},
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(answer) as running:
        yield running


@pytest.fixture(scope="module")
def ingested(three_pdfs: Path, tiny_bert_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ingested")
    ingest_pdfs(ingest_settings(), three_pdfs, tiny_bert_dir, out)
    (out / "held_out_sections.json").write_text(
        json.dumps({"test": [["lease", "Article 3"]], "val": [["policy", "Section 2"]]})
    )
    return out


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root in which the cache lies."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("MARK_SETUP_MODE", raising=False)
    return tmp_path


def run(
    ingested: Path,
    embedder: Path,
    server: Server,
    out: Path,
    rules: list[str] | None = None,
    **changes: object,
) -> Ledger:
    chosen = settings(
        rules=rules or sorted(RULES), round_trip_k=50, max_samples=30, unanswerable_share=0.6
    ).model_copy(update={"llm": llm_settings(server.url, **changes)})
    out.mkdir(exist_ok=True)
    return prepare(ingested, embedder, chosen, retrieval(), 5, out)


def test_drafts_pass_the_same_filters_and_stand_in_the_ledger(
    ingested: Path, tiny_bert_dir: Path, server: Server, project: Path
) -> None:
    # A family that finds nothing here leaves the room to the model's drafts.
    ledger = run(ingested, tiny_bert_dir, server, project / "out", ["crossref"])
    rows = read_jsonl(project / "out/train_sft.jsonl", Example)
    chunks = {chunk.chunk_id: chunk for chunk in read_jsonl(ingested / "chunks.jsonl", Chunk)}
    made = [row for row in rows if row.rule_id == "llm" and row.kind == "answerable"]
    assert made
    for row in made:
        text = fold(chunks[str(row.source_chunk)].text)
        assert row.answer in text and row.quote is not None and row.quote in text and row.page is not None
    foreign = [
        row for row in rows if row.rule_id == "llm" and row.source_chunk is None and row.document is None
    ]
    assert foreign and all(row.answers == [REFUSAL] for row in foreign)
    counts, account = ledger.rules["llm"], ledger.llm
    assert account is not None and account.passages == account.readable > 3
    assert counts.asked == account.answerable == 3 * account.passages
    assert counts.dropped["not_verbatim"] == account.passages
    assert counts.dropped["answer_in_question"] >= 1
    assert counts.kept == len(made)
    assert ledger.splits["train"].unanswerable["llm"] == len(foreign)
    value = json.loads((project / "out/ledger.json").read_text())
    value["llm"]["answerable"] -= 1
    value["llm"]["items"] -= 1
    with pytest.raises(ValueError, match="which its replies do not add up to"):
        Ledger.model_validate(value)


def test_only_training_passages_are_sent(
    ingested: Path, tiny_bert_dir: Path, server: Server, project: Path
) -> None:
    before = len(server.seen)
    run(ingested, tiny_bert_dir, server, project / "out")
    sent = "\n".join(seen.prompt for seen in server.seen[before:])
    chunks = read_jsonl(ingested / "chunks.jsonl", Chunk)
    ledger = json.loads((project / "out/ledger.json").read_text())
    split_of = {
        i: part["split"]
        for pages in ledger["trace"].values()
        for page in pages.values()
        for i, part in page.items()
    }
    held = [chunk for chunk in chunks if split_of[chunk.chunk_id] != "train"]
    assert {split_of[chunk.chunk_id] for chunk in held} == {"val", "test"}
    assert {("lease", "Article 3"), ("policy", "Section 2")} <= {(c.document, c.section) for c in held}
    assert not [chunk for chunk in held if chunk.text in sent]
    assert len(server.seen) - before == sum(chunk.text in sent for chunk in chunks) > 3
    for name in ("val", "test"):
        assert not [r for r in read_jsonl(project / f"out/{name}_sft.jsonl", Example) if r.rule_id == "llm"]


def test_a_rerun_sends_nothing_and_writes_the_same_bytes(
    ingested: Path, tiny_bert_dir: Path, server: Server, project: Path
) -> None:
    run(ingested, tiny_bert_dir, server, project / "a")
    before = len(server.seen)
    run(ingested, tiny_bert_dir, server, project / "b", confirmed=False)
    assert len(server.seen) == before
    for name in FILES:
        assert (project / "a" / name).read_bytes() == (project / "b" / name).read_bytes()


def test_off_sends_nothing_and_needs_nothing(
    ingested: Path, tiny_bert_dir: Path, server: Server, project: Path
) -> None:
    before = len(server.seen)
    ledger = run(
        ingested, tiny_bert_dir, server, project / "out", enabled=False, confirmed=False, masking="presidio"
    )
    assert len(server.seen) == before and ledger.llm is None and "llm" not in ledger.rules
    assert not (project / ".llm_cache").exists()


def test_unconfirmed_stops_before_anything_is_written(
    ingested: Path, tiny_bert_dir: Path, server: Server, project: Path
) -> None:
    with pytest.raises(GuardError, match="mark data-prep --confirm"):
        run(ingested, tiny_bert_dir, server, project / "out", confirmed=False)
    assert list((project / "out").iterdir()) == []


def test_a_collection_of_ones_own_is_asked_about_too(
    ingested: Path, tiny_bert_dir: Path, server: Server, project: Path
) -> None:
    chroma = project / "chroma"
    build_collection(ingested, chroma, "pdf_docs")
    prep = settings(round_trip_k=50).model_copy(update={"llm": llm_settings(server.url, confirmed=False)})
    wired = GeneratorSettings(
        prep, retrieval(), ingest_settings(), 5, tiny_bert_dir, ingested / "held_out_sections.json"
    )
    with pytest.raises(GuardError, match="mark data-prep --confirm"):
        SFTDataGenerator(str(chroma), "pdf_docs", wired).generate_dataset(top_k=3, max_samples=30)
    agreed = replace(wired, data_prep=prep.with_llm(confirmed=True))
    before = len(server.seen)
    train, val = SFTDataGenerator(str(chroma), "pdf_docs", agreed).generate_dataset(top_k=3, max_samples=30)
    assert len(server.seen) > before and any(row.rule_id == "llm" for row in train)
    assert not any(row.rule_id == "llm" for row in val)


@pytest.mark.long
def test_the_real_stage_estimates_waits_for_a_yes_and_resumes(
    ingested: Path, tiny_bert_dir: Path, server: Server, tmp_path: Path
) -> None:
    folder = clone_of_working_tree(tmp_path / "clone")
    for path in ingested.iterdir():
        if path.is_file():
            shutil.copy(path, folder / "data" / path.name)
    shutil.copytree(tiny_bert_dir, folder / "models/embedder")
    for other in ("models/reranker", "models/base/random"):  # dependencies of the stage that it does not read
        (folder / other).mkdir(parents=True)
        (folder / other / "NONE").write_text("not read\n")
    environment = {k: v for k, v in os.environ.items() if k not in ("DVC_ROOT", "MARK_SETUP_MODE")}
    environment |= {"PYTHONPATH": str(folder), "SOME_KEY": KEY}
    shown: list[str] = []

    def mark(*arguments: str, exit_code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "mark", *arguments], cwd=folder, env=environment, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == exit_code, done.stdout[-4000:]
        shown.append(done.stdout)
        return done.stdout

    llm = {"enabled": "true", "base_url": server.url, "model": "small-1", "api_key_env": "SOME_KEY"}
    common = ["experiment=smoke", *[f"data_prep.llm.{key}={value}" for key, value in llm.items()]]
    mark("params", *common)
    assert "Presidio is not installed" in mark("data-prep", "--estimate", exit_code=2) or _has_presidio()
    mark("params", *common, "data_prep.llm.masking=patterns", "data_prep.llm.requests_per_minute=null")
    before = len(server.seen)
    host = server.url.split("/")[2]
    assert f"{host}, model small-1: " in mark("data-prep", "--estimate") and len(server.seen) == before
    refused = mark("data-prep", exit_code=1)
    assert "agree with `mark data-prep --confirm`" in refused and "Traceback" not in refused
    assert len(server.seen) == before and not (folder / "data/train_sft.jsonl").exists()
    assert f"LLM questions      {host}, model small-1, key set, masking patterns" in mark(
        "doctor", exit_code=1
    )

    output = mark("data-prep", "--confirm")
    sent = len(server.seen) - before
    assert sent > 3 and f"to {host} (model small-1)" in output
    ledger = Ledger.model_validate_json((folder / "data/ledger.json").read_text())
    assert ledger.llm is not None and ledger.llm.passages == sent
    train = (folder / "data/train_sft.jsonl").read_bytes()
    (folder / "data/train_sft.jsonl").unlink()
    mark("data-prep")  # the cache answers: no yes is needed
    assert len(server.seen) - before == sent and (folder / "data/train_sft.jsonl").read_bytes() == train

    ignored = subprocess.run(
        ["git", "status", "--porcelain", "-uall"], cwd=folder, capture_output=True, text=True, check=True
    )
    assert ".llm_cache" not in ignored.stdout
    assert any((folder / ".llm_cache").rglob("*.json"))
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix in {".json", ".jsonl", ".yaml", ".lock", ".log", ""}:
            assert KEY.encode() not in path.read_bytes(), path
    assert not [text for text in shown if KEY in text]


def _has_presidio() -> bool:
    import importlib.util

    return importlib.util.find_spec("presidio_analyzer") is not None
