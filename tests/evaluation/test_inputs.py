"""What an evaluation reads: questions for the thresholds, and passages that questions bring along."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mark.errors import DataError
from mark.evaluation import EvalInputs
from mark.evaluation.inputs import for_thresholds, gather
from mark.evaluation.questions import Question
from mark.files import read_jsonl, write_jsonl
from mark.records import Chunk, Example, Kind
from mark.retrieval import Retriever
from tests.evaluation.conftest import RETRIEVAL, SETTINGS


def question(ident: str, rule: str, kind: Kind = "answerable") -> Question:
    return Question(ident, f"What of {ident}?", (), kind, "short", rule, None, None, (), ())


def test_people_set_the_thresholds_before_rules() -> None:
    asked = [question(f"rule-{i}", "amount", "unanswerable" if i % 2 else "answerable") for i in range(8)]
    asked += [question(f"p-{i}", "practice", "unanswerable" if i % 2 else "answerable") for i in range(4)]
    asked += [question(f"h-{i}", "handwritten", "unanswerable" if i % 2 else "answerable") for i in range(4)]
    chosen = for_thresholds(asked, 10)
    assert {q.id for q in chosen if q.by_person} == {q.id for q in asked if q.by_person}
    assert len(chosen) == 10 and sum(q.kind == "unanswerable" for q in chosen if not q.by_person) == 1
    few = for_thresholds(asked, 6)
    assert [q.id for q in few if q.handwritten] == ["h-0", "h-1", "h-2", "h-3"]
    assert [(q.rule_id, q.kind) for q in few[4:]] == [
        ("practice", "answerable"),
        ("practice", "unanswerable"),
    ]
    fewer = for_thresholds(asked, 2)
    assert [(q.handwritten, q.kind) for q in fewer] == [(True, "answerable"), (True, "unanswerable")]


def test_validation_may_bring_its_passages(project: Path, tmp_path: Path) -> None:
    root = tmp_path / "p"
    shutil.copytree(project, root, symlinks=True)
    brought = Chunk(
        chunk_id="brought-1", doc_id="practice", document="ferry-act", title="Ferry Act", heading_path=[],
        section="Article 1", pages=[], start=0, end=40, text="The ferry shall carry one raft for ten guests.",
    )  # fmt: skip
    val = read_jsonl(root / "data/val_sft.jsonl", Example)
    row = val[0].model_copy(
        update={"example_id": "val-brought", "question": "How many rafts must a ferry carry?",
                "contexts": ["brought-1", val[0].contexts[0]], "rule_id": "practice", "document": "ferry-act",
                "section": "Article 1", "source_chunk": "brought-1", "answers": ["one raft for ten guests"]}
    )  # fmt: skip
    write_jsonl(root / "data/val_sft.jsonl", [*val, row])
    inputs = EvalInputs.of_project("random_lora", 7, root)
    with pytest.raises(DataError, match=r"val-brought names chunk brought-1, which .*dvc repro data_prep"):
        gather(inputs, SETTINGS, RETRIEVAL)
    write_jsonl(root / "data/practice_passages.jsonl", [brought])
    asked = gather(inputs, SETTINGS, RETRIEVAL)
    found = next(q for q in asked.validation if q.id == "val-brought")
    assert asked.chunks["brought-1"] == brought and found.cosines is not None
    assert set(found.cosines) == {"brought-1", val[0].contexts[0]}
    other = Retriever.embedding([brought], inputs.embedder, RETRIEVAL)
    expected = other.cosines([found.question], [["brought-1"]])[0]["brought-1"]
    assert found.cosines["brought-1"] == pytest.approx(expected, abs=1e-6)
    assert all(set(q.contexts or ()) <= set(q.cosines or {}) for q in [*asked.validation, *asked.test])
