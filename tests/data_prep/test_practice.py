"""Questions written by people for training: on the corpus's own passages, or with theirs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mark.data_prep import prepare
from mark.data_prep.leak import check_leaks
from mark.data_prep.ledger import Corpus, Ledger
from mark.data_prep.practice import Practice, read_practice, resolve
from mark.errors import DataError
from mark.files import HELD_OUT, PRACTICE, read_json, read_jsonl, write_jsonl
from mark.ingest import ingest_pdfs
from mark.models.loading import Embedder
from mark.prompting import REFUSAL
from mark.records import Chunk, Example, HandwrittenQuestion, PracticeQuestion, Split
from mark.train.inputs import TrainInputs
from tests.conftest import ROOT
from tests.data_prep.passages import ingest_settings, retrieval, settings

FOREIGN_TEXT = "A ferry shall carry one life jacket for each passenger. The master shall show where they lie."

QUESTIONS = [
    "Who pays for the quay?",
    "How many vests does a boat need?",
    "We run trips across the lake. What safety gear has to be on deck for our guests?",
    "minimum number of swimming aids, ships",
    "Is one jacket between two travellers enough?",
]

TOPICS = [
    ("Logbooks", "logbook", "years"), ("Life rafts", "raft", "months"), ("Tickets", "ticket", "days"),
    ("Cargo lists", "cargo list", "weeks"), ("Radio", "radio", "hours"), ("Kitchens", "stove", "seasons"),
    ("Anchors", "anchor", "decades"), ("Flags", "flag", "mornings"), ("Pets", "cage", "nights"),
    ("Wages", "pay slip", "quarters"), ("Sails", "sail", "winters"), ("Fuel", "tank", "voyages"),
    ("Maps", "chart", "tides"), ("Bells", "bell", "minutes"), ("Ropes", "rope", "fortnights"),
    ("Medicine", "chest", "summers"), ("Lamps", "lamp", "evenings"), ("Ice", "ice box", "trips"),
    ("Paint", "tin", "semesters"), ("Nets", "net", "moons"),
]  # fmt: skip


def practice(number: int, **changes: object) -> PracticeQuestion:
    """A question on a passage of a ferry act, which the test corpus lacks."""
    row = {
        "id": f"practice-{number:03d}",
        "question": QUESTIONS[number],
        "answer": "one life jacket for each passenger",
        "kind": "answerable",
        "style": "short",
        "document": "ferry-act",
        "section": f"Article {number}",
        "quote": "A ferry shall carry one life jacket for each passenger.",
        "title": "Ferry Act",
        "heading_path": [f"Article {number} Safety"],
        "passage": FOREIGN_TEXT,
    }
    return PracticeQuestion.model_validate(row | changes)


def unanswerable(number: int) -> PracticeQuestion:
    empty = dict.fromkeys(("answer", "document", "section", "quote", "title", "passage"))
    return practice(
        number, kind="unanswerable", heading_path=[], question=f"Who owns ferry {number}?", **empty
    )


@pytest.fixture(scope="module")
def data(three_pdfs: Path, tiny_bert_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data")
    ingest_pdfs(ingest_settings(), three_pdfs, tiny_bert_dir, out)
    write_jsonl(out / "practice.jsonl", [practice(i) for i in range(1, 5)] + [unanswerable(0)])
    prepare(
        out,
        tiny_bert_dir,
        settings(
            practice_share=1.0, brought_share=0.125, max_samples=8, val_share=0.0, unanswerable_share=0.0
        ),
        retrieval(),
        5,
        out,
    )
    return out


def test_questions_on_other_documents_bring_their_passage(data: Path) -> None:
    train = read_jsonl(data / "train_sft.jsonl", Example)
    passages = {chunk.chunk_id: chunk for chunk in read_jsonl(data / "practice_passages.jsonl", Chunk)}
    rows = [row for row in train if row.rule_id == "practice"]
    answerable = [row for row in rows if row.kind == "answerable"]
    assert len(answerable) == 1  # an eighth of the answerable ones
    own = [row for row in train if row.kind == "answerable" and row.rule_id != "practice"]
    assert len(own) >= len(answerable)  # the user's own documents come first
    for row in answerable:
        assert row.source_chunk in passages and row.source_chunk in row.contexts and row.page is None
        assert row.answer in passages[row.source_chunk].text
        assert len(row.contexts) == 2 and set(row.contexts) <= set(passages)  # a distractor of its own kind
    assert all(row.rule_id != "practice" for row in read_jsonl(data / "test_sft.jsonl", Example))


def test_training_finds_every_passage(data: Path, tmp_path: Path) -> None:
    inputs = TrainInputs(
        data / "train_sft.jsonl", data / "val_sft.jsonl", data / "chunks.jsonl",
        data / "practice_passages.jsonl", tmp_path, tmp_path, tmp_path, tmp_path,
    )  # fmt: skip
    passages = inputs.passages()
    for row in read_jsonl(inputs.train_file, Example):
        assert all(chunk_id in passages for chunk_id in row.contexts)


def test_the_ledger_counts_them_apart(data: Path) -> None:
    ledger = Ledger.model_validate_json((data / "ledger.json").read_text())
    brought = ledger.brought["train"]
    assert brought.asked == 4 and brought.kept == 1 and brought.dropped == {"beyond_limit": 3}
    assert ledger.brought["val"].asked == ledger.brought["test"].asked == 0
    # Nobody knows whether this corpus answers what was written against another one.
    assert ledger.practice_unused == {"other_corpus": 1}
    assert "practice" not in ledger.rules


def test_rows_on_the_corpus_are_asked_of_its_own_passages(data: Path) -> None:
    chunks = read_jsonl(data / "chunks.jsonl", Chunk)
    split_of: dict[str, Split] = {chunk.chunk_id: "train" for chunk in chunks}
    own = chunks[0]
    cited = {
        "document": own.document,
        "section": own.section,
        "quote": own.text[:40],
        "answer": own.text[:20],
    }
    found = resolved([practice(1, **cited), unanswerable(2)], chunks, split_of)
    assert [c.chunk.chunk_id for c in found.train.candidates] == [own.chunk_id]
    assert len(found.train.foreign) == 1 and not found.train.passages and not found.val
    lost = resolved([practice(1, **cited | {"quote": "no", "answer": "no such words"})], chunks, split_of)
    assert lost.unused == {"not_found": 1}
    split_of[own.chunk_id] = "val"
    judged = resolved([practice(1, **cited)], chunks, split_of)
    assert [c.chunk.chunk_id for c in judged.val.candidates] == [own.chunk_id] and not judged.train
    split_of[own.chunk_id] = "test"
    held = resolved([practice(1, **cited)], chunks, split_of)
    assert held.unused == {"held_out": 1} and not held.train and not held.val


def resolved(
    rows: list[PracticeQuestion], chunks: list[Chunk], split_of: dict[str, Split], val_share: float = 0.0
) -> Practice:
    return resolve(rows, Corpus([], chunks, split_of, frozenset(), "section"), val_share, 5)


def test_a_share_of_the_brought_sections_is_for_validation(data: Path) -> None:
    chunks = read_jsonl(data / "chunks.jsonl", Chunk)
    split_of: dict[str, Split] = {chunk.chunk_id: "train" for chunk in chunks}
    rows = [
        practice(
            i % 5, id=f"practice-{i}", section=f"Article {i // 2}", passage=f"Ferry {i} leaves at {i + 3}."
        )
        for i in range(80)
    ]
    found = resolved(rows, chunks, split_of, 0.25)
    held = {c.chunk.section for c in found.val.brought}
    assert 4 <= len(held) <= 18  # a quarter of 40 sections; a binomial draw lies there in 99.9 of 100 seeds
    assert held.isdisjoint(c.chunk.section for c in found.train.brought)
    assert {s for (_, s), split in found.sections.items() if split == "val"} == held
    assert len(found.val.brought) + len(found.train.brought) == 80
    assert found.val.passages.keys().isdisjoint(found.train.passages)
    again = resolved(rows[::-1], chunks, split_of, 0.25)
    assert again.sections == found.sections and not resolved(rows, chunks, split_of, 0.0).val


def test_training_brings_no_copy_of_a_validation_passage(data: Path) -> None:
    chunks = read_jsonl(data / "chunks.jsonl", Chunk)
    split_of: dict[str, Split] = {chunk.chunk_id: "train" for chunk in chunks}
    rows = [practice(i % 5, id=f"practice-{i}", section=f"Article {i}") for i in range(40)]  # one text
    found = resolved(rows, chunks, split_of, 0.25)
    assert found.val.brought and not found.train.brought
    assert found.unused["held_out"] == 40 - len(found.val.brought)


def test_validation_has_questions_by_people_on_any_corpus(
    data: Path, tiny_bert_dir: Path, tmp_path: Path
) -> None:
    """Enough of them that refusing is calibrated, though the corpus is the user's own."""
    rows = [
        practice(
            0, id=f"practice-{i}", section=f"Article {i}", question=f"{topic}: what holds for {thing}?",
            passage=f"Rule {i} on {topic}. The {thing} shall be kept for {i + 2} {unit} by the owner.",
            quote=f"The {thing} shall be kept for {i + 2} {unit} by the owner.", answer=f"{i + 2} {unit}",
        )
        for i, (topic, thing, unit) in enumerate(TOPICS)
    ]  # fmt: skip
    write_jsonl(data / "practice.jsonl", rows)
    chosen = settings(
        practice_share=0.75, brought_share=0.5, max_samples=10, max_val=10, val_share=0.4,
        val_unanswerable_share=0.4,
    )  # fmt: skip
    ledger = prepare(data, tiny_bert_dir, chosen, retrieval(), 5, tmp_path)
    val = read_jsonl(tmp_path / "val_sft.jsonl", Example)
    train = read_jsonl(tmp_path / "train_sft.jsonl", Example)
    brought = [row for row in val if row.rule_id == "practice"]
    assert len(brought) >= 3 and ledger.brought["val"].kept == sum(r.kind == "answerable" for r in brought)
    passages = {chunk.chunk_id: chunk for chunk in read_jsonl(tmp_path / "practice_passages.jsonl", Chunk)}
    held = {row.source_chunk for row in brought if row.source_chunk}
    assert held <= set(passages) and {i for row in brought for i in row.contexts} <= set(passages)
    assert held.isdisjoint(i for row in train for i in row.contexts)
    assert {row.section for row in brought}.isdisjoint(r.section for r in train if r.rule_id == "practice")


def test_a_copy_of_a_held_out_passage_is_left_out(data: Path) -> None:
    chunks = read_jsonl(data / "chunks.jsonl", Chunk)
    split_of: dict[str, Split] = {chunk.chunk_id: "test" for chunk in chunks}
    found = resolved([practice(1, passage=chunks[0].text)], chunks, split_of)
    assert found.unused == {"held_out": 1}


def test_a_brought_copy_of_a_training_passage_is_not_validated_on(data: Path) -> None:
    chunks = read_jsonl(data / "chunks.jsonl", Chunk)
    split_of: dict[str, Split] = {chunk.chunk_id: "train" for chunk in chunks}
    rows = [
        practice(1, id=f"practice-{i}", section=f"Article {i}", passage=chunks[0].text) for i in range(20)
    ]
    found = resolved(rows, chunks, split_of, 0.5)
    assert not found.val.brought and 0 < len(found.train.brought) < 20


def test_a_missing_file_names_the_remedy(tmp_path: Path) -> None:
    assert read_practice(tmp_path / "practice.jsonl", 0.0) == []
    with pytest.raises(DataError, match=r"practice\.jsonl is missing; bring it back with git, or set"):
        read_practice(tmp_path / "practice.jsonl", 0.5)


def test_the_committed_file_stays_clear_of_held_out_sections() -> None:
    rows = read_practice(ROOT / PRACTICE, 1.0)
    held = {tuple(pair) for part in read_json(ROOT / HELD_OUT).values() for pair in part}
    assert not {(row.document, row.section) for row in rows} & held
    assert not {row.document for row in rows} & {"gdpr", "nis2"}  # unseen documents of the proof


def test_the_committed_file_holds_no_twin_of_a_handwritten_question(minilm_dir: Path) -> None:
    """Near in meaning, not only in words: a twin without an answer would teach when to refuse the test."""
    rows = read_practice(ROOT / PRACTICE, 1.0)
    handwritten = [
        row
        for name in ("dev", "test")
        for row in read_jsonl(ROOT / f"data/handwritten_{name}.jsonl", HandwrittenQuestion)
    ]
    embedder = Embedder(minilm_dir)
    for kind, limit in (("unanswerable", 0.55), ("answerable", 0.75)):
        asked = [row.question for row in rows if row.kind == kind]
        others = [row.question for row in handwritten if row.kind == kind]
        cosines = embedder.encode(asked) @ embedder.encode(others).T
        near = np.argwhere(cosines >= limit)
        assert [(asked[i], others[j]) for i, j in near] == []


def test_the_committed_answers_are_verbatim() -> None:
    from mark.answering.quotes import fold

    for row in read_practice(ROOT / PRACTICE, 1.0):
        if row.answer is None:
            assert row.kind == "unanswerable" and row.passage is None
            continue
        assert fold(row.answer) in fold(row.quote or "") and fold(row.quote or "") in fold(row.passage or "")
        assert row.answer != REFUSAL


def test_leak_check_knows_brought_passages(data: Path) -> None:
    from mark.data_prep.split import HeldOut, assign_splits

    chunks = read_jsonl(data / "chunks.jsonl", Chunk)
    splits = assign_splits(chunks, settings(val_share=0.0), HeldOut(), 5)
    rows = {"train": read_jsonl(data / "train_sft.jsonl", Example)}
    known = {chunk.chunk_id: chunk for chunk in chunks}
    brought = {chunk.chunk_id: chunk for chunk in read_jsonl(data / "practice_passages.jsonl", Chunk)}
    check_leaks(rows, splits, known | brought)  # type: ignore[arg-type]
    with pytest.raises(Exception, match="is no chunk"):
        check_leaks(rows, splits, known)  # type: ignore[arg-type]
