"""`mark retrieval` on three ingested PDFs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mark.commands.retrieval import agreement, changed_settings, read_answerable, run_retrieval
from mark.errors import ConfigError, DataError
from mark.ingest.index import build_collection
from mark.records import Chunk
from mark.retrieval import Hit
from tests.evaluation.conftest import PARAMS


@pytest.fixture(scope="module")
def root(project: Path) -> Path:
    shutil.copyfile(PARAMS, project / "params.yaml")
    build_collection(project / "data", project / "chroma_db", "pdf_docs")
    return project


def test_a_table_for_each_file(root: Path) -> None:
    files = [root / "data/val_sft.jsonl", root / "data/test_sft.jsonl"]
    text = run_retrieval(files, ["dense_weight=0", "late_weight=0"], True, root)
    lines = text.splitlines()
    # keywords alone find the treasurer and both answers of the test
    assert lines[0] == "val_sft.jsonl: 1 answerable questions in 1 clusters"
    assert lines[1].startswith("  recall@1 100 (0-100), recall@3 100")
    assert lines[2] == "  Chroma: 1 of 1 lists equal exact search, 0 differ in ties, 0 in candidates missed"
    assert lines[3] == "test_sft.jsonl: 2 answerable questions in 2 clusters"
    assert "MRR@10 100" in lines[4] and "wrong document first 0 (" in lines[4]


def test_what_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is for the eval stage alone"):
        run_retrieval([root / "data/handwritten_test.jsonl"], ["late_weight=0"], False, root)
    with pytest.raises(DataError, match="holds no answerable question"):
        run_retrieval([root / "data/handwritten_dev.jsonl"], ["late_weight=0"], False, root)
    (tmp_path / "x.jsonl").write_text('\n{"id": 1}\n')
    with pytest.raises(DataError, match=r"x\.jsonl, line 2: neither an example nor"):
        run_retrieval([tmp_path / "x.jsonl"], ["late_weight=0"], False, root)
    with pytest.raises(DataError, match=r"none\.jsonl is missing"):
        run_retrieval([tmp_path / "none.jsonl"], ["late_weight=0"], False, root)


def test_what_is_no_file_of_questions_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "questions"
    folder.mkdir()
    with pytest.raises(DataError, match=r"questions is a folder; give a JSONL file .* data/practice\.jsonl"):
        read_answerable(folder, [])
    (tmp_path / "notes.txt").write_text("Who pays?\n")
    with pytest.raises(DataError, match=r"notes\.txt, line 1 is no JSON: 'Who pays\?'; give a JSONL file"):
        read_answerable(tmp_path / "notes.txt", [])
    (tmp_path / "act.pdf").write_bytes(b"%PDF-1.7 \xff")
    with pytest.raises(DataError, match=r"act\.pdf is no UTF-8 text; give a JSONL file"):
        read_answerable(tmp_path / "act.pdf", [])


def test_settings_are_laid_over(root: Path) -> None:
    assert changed_settings(["late_weight=0.5", "fusion=rank"], root).fusion == "rank"
    with pytest.raises(ConfigError, match=r"unknown key; did you mean late_weight\?"):
        changed_settings(["late_wight=0"], root)
    with pytest.raises(ConfigError, match="give key=value"):
        changed_settings(["late_weight"], root)


def test_agreement_tells_ties_from_misses() -> None:
    def hits(ids: str, *scores: float) -> list[Hit]:
        return [
            Hit(Chunk.model_construct(chunk_id=name), score, 0.0, 0.0)
            for name, score in zip(ids, scores, strict=True)
        ]

    exact = [hits("ab", 2, 1), hits("abc", 2, 1, 1), hits("ab", 2, 1)]
    served = [hits("ab", 2, 1), hits("acb", 2, 1, 1), hits("ac", 2, 0.5)]
    expected = "1 of 3 lists equal exact search, 1 differ in ties, 1 in candidates missed"
    assert agreement(exact, served) == expected
