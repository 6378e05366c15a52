"""The whole stage on three small PDFs with a random embedder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from mark.answering.quotes import fold
from mark.commands.data_prep import ledger_tables
from mark.data_prep import prepare
from mark.data_prep.generator import GeneratorSettings, SFTDataGenerator
from mark.data_prep.ledger import Count, Ledger
from mark.errors import DataError
from mark.files import read_jsonl
from mark.ingest import ingest_pdfs
from mark.ingest.index import build_collection
from mark.prompting import REFUSAL
from mark.records import Chunk, Example
from tests.data_prep import corpora
from tests.data_prep.passages import ingest_settings, retrieval, settings

FILES = ("train_sft.jsonl", "val_sft.jsonl", "test_sft.jsonl", "practice_passages.jsonl", "ledger.json")


@pytest.fixture(scope="module")
def data(three_pdfs: Path, tiny_bert_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data")
    ingest_pdfs(ingest_settings(), three_pdfs, tiny_bert_dir, out)
    (out / "held_out_sections.json").write_text(json.dumps({"test": [["lease", "Article 3"]], "val": []}))
    prepare(out, tiny_bert_dir, settings(), retrieval(), 5, out)
    return out


def rows(data: Path) -> dict[str, list[Example]]:
    return {name: read_jsonl(data / f"{name}_sft.jsonl", Example) for name in ("train", "val", "test")}


def test_answers_are_verbatim_in_a_shown_passage(data: Path) -> None:
    chunks = {chunk.chunk_id: chunk for chunk in read_jsonl(data / "chunks.jsonl", Chunk)}
    found = rows(data)
    assert found["train"] and found["test"]
    for row in [row for part in found.values() for row in part]:
        assert 1 <= len(row.contexts) <= 3
        if row.kind == "unanswerable":
            assert row.answers == [REFUSAL] and row.quote is None
            continue
        assert row.source_chunk in row.contexts
        text = fold(chunks[str(row.source_chunk)].text)
        assert row.answer in text and row.quote is not None and row.quote in text
        assert row.page in chunks[str(row.source_chunk)].pages
        assert row.answer.lower() not in row.question.lower()


def test_held_out_sections_are_only_tested(data: Path) -> None:
    chunks = {chunk.chunk_id: chunk for chunk in read_jsonl(data / "chunks.jsonl", Chunk)}
    for row in [*rows(data)["train"], *rows(data)["val"]]:
        for chunk_id in row.contexts:
            assert (chunks[chunk_id].document, chunks[chunk_id].section) != ("lease", "Article 3")


def test_withheld_passages_do_not_hold_the_answer(data: Path) -> None:
    shares = [row.kind for row in rows(data)["train"]]
    assert 0 < shares.count("unanswerable") <= 0.5 * len(shares)  # a quarter of twelve, of few


def test_the_same_inputs_give_the_same_bytes(data: Path, tiny_bert_dir: Path, tmp_path: Path) -> None:
    prepare(data, tiny_bert_dir, settings(), retrieval(), 5, tmp_path)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (data / name).read_bytes()
    prepare(data, tiny_bert_dir, settings(), retrieval(), 6, tmp_path)
    assert (tmp_path / "train_sft.jsonl").read_bytes() != (data / "train_sft.jsonl").read_bytes()


def test_the_ledger_accounts_for_every_question(data: Path) -> None:
    ledger = Ledger.model_validate_json((data / "ledger.json").read_text())
    found = rows(data)
    for name, split in ledger.splits.items():
        assert split.examples == len(found[name])
        assert split.answerable == sum(row.kind == "answerable" for row in found[name])
    assert ledger.chunks == len(read_jsonl(data / "chunks.jsonl", Chunk))
    assert ledger.questions.kept == sum(split.answerable for split in ledger.splits.values())


def test_a_ledger_whose_sums_differ_is_refused(data: Path) -> None:
    value = json.loads((data / "ledger.json").read_text())
    value["rules"].pop(max(value["rules"], key=lambda rule: value["rules"][rule]["asked"]))
    with pytest.raises(ValidationError, match="rules do not add up"):
        Ledger.model_validate(value)
    with pytest.raises(ValidationError, match="3 asked but 2 accounted for"):
        Count(asked=3, kept=1, kept_without_passage=0, dropped={"round_trip": 1})


def test_the_report_prints_ledger_and_balance(data: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match=r"ledger\.json is missing; run `dvc repro`"):
        ledger_tables(tmp_path)
    text = (data / "ledger.json").read_text()
    (tmp_path / "data/ledger.json").write_text(text)
    ledger = Ledger.model_validate_json(text)
    lines = ledger_tables(tmp_path).splitlines()
    asked = next(line for line in lines if line.startswith("all questions"))
    assert asked.split()[2:4] == [str(ledger.questions.asked), str(ledger.questions.kept)]
    for name in ("train", "val", "test"):
        at = lines.index(next(line for line in lines if line.startswith(f"{name}: balance")))
        share = ledger.balance[name].examples
        assert lines[at + 1].split() == ["examples", str(share.wanted), str(share.got)]
    assert any(line.startswith("  words in an answer: 1: ") for line in lines)
    value = json.loads(text)
    value["chunks"] += 1
    (tmp_path / "data/ledger.json").write_text(json.dumps(value))
    with pytest.raises(DataError, match="does not add up to the chunks; run `dvc repro -f data_prep`"):
        ledger_tables(tmp_path)


def test_no_question_is_one_clear_line(data: Path, tiny_bert_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no training question could be made"):
        prepare(
            data, tiny_bert_dir, settings(rules=["listing"], unanswerable_share=0.0), retrieval(), 5, tmp_path
        )


def test_generator_reads_a_collection_and_leaves_it_alone(
    data: Path, tiny_bert_dir: Path, tmp_path: Path
) -> None:
    chroma = tmp_path / "chroma"
    build_collection(data, chroma, "pdf_docs")
    before = {p.relative_to(chroma): p.read_bytes() for p in sorted(chroma.rglob("*")) if p.is_file()}
    wired = GeneratorSettings(
        settings(), retrieval(), ingest_settings(), 5, tiny_bert_dir, data / "held_out_sections.json"
    )
    generator = SFTDataGenerator(str(chroma), "pdf_docs", wired)
    train, val = generator.generate_dataset(top_k=3, max_samples=8, val_split=0.25)
    assert train and len(train) <= 8 and len(val) <= 2
    assert {len(row.contexts) for row in train if row.kind == "answerable"} == {3}
    assert generator.save_jsonl(train, tmp_path / "train.jsonl") == len(train)
    assert generator.save_jsonl(val, tmp_path / "val.jsonl") == len(val)
    assert read_jsonl(tmp_path / "train.jsonl", Example) == train
    passages = {chunk.chunk_id for chunk in read_jsonl(tmp_path / "passages.jsonl", Chunk)}
    assert {chunk_id for row in [*train, *val] for chunk_id in row.contexts} == passages
    after = {p.relative_to(chroma): p.read_bytes() for p in sorted(chroma.rglob("*")) if p.is_file()}
    assert before == after


def test_generator_refuses_senseless_numbers() -> None:
    with pytest.raises(DataError, match="give top_k >= 1"):
        SFTDataGenerator().generate_dataset(top_k=0)


def test_random_distractors_are_an_ablation_of_training_alone(
    data: Path, tiny_bert_dir: Path, tmp_path: Path
) -> None:
    prepare(data, tiny_bert_dir, settings(distractors="random"), retrieval(), 5, tmp_path)
    usual, drawn = rows(data), rows(tmp_path)
    assert drawn["val"] == usual["val"] and drawn["test"] == usual["test"]
    assert [row.question for row in drawn["train"]] == [row.question for row in usual["train"]]
    changed = [a.contexts != b.contexts for a, b in zip(usual["train"], drawn["train"], strict=True)]
    assert any(changed)
    for row in drawn["train"]:
        assert len(row.contexts) == len(set(row.contexts)) >= 1
        assert row.kind == "unanswerable" or row.source_chunk in row.contexts


def test_random_passages_hold_no_withheld_answer() -> None:
    """The terms of every passage tell its answer apart, so that it can be looked for in what is shown."""
    pages, chunks = corpora.corpus(4, 6, 8, 2)
    found = corpora.prepared(pages, chunks, 5, max_samples=40, unanswerable_share=0.5, distractors="random")
    same = corpora.prepared(pages, chunks, 5, max_samples=40, unanswerable_share=0.0, distractors="random")
    answers = {row.question: row.answer for row in same.rows["train"]}
    texts = {chunk.chunk_id: fold(chunk.text).lower() for chunk in chunks}
    withheld = [row for row in found.rows["train"] if row.kind == "unanswerable" and row.question in answers]
    assert withheld
    for row in withheld:
        assert all(answers[row.question].lower() not in texts[i] for i in row.contexts)
