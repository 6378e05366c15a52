"""`mark retrieval --chunk-tokens` on three PDFs: cut, embedded and searched once a size."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mark.commands.chunk_sizes import ChunkSizes, run_chunk_sizes
from mark.errors import ConfigError, DataError, MarkError
from tests.evaluation.conftest import PARAMS


@pytest.fixture
def root(project: Path, three_pdfs: Path, tmp_path: Path) -> Path:
    """A copy of the project to work in, with its PDFs and settings."""
    root = Path(shutil.copytree(project, tmp_path / "project", symlinks=True))
    (root / "data/raw").symlink_to(three_pdfs)
    shutil.copyfile(PARAMS, root / "params.yaml")
    return root


def request(root: Path) -> ChunkSizes:
    """Two sizes, one of them twice, with two questions whose passages are known."""
    questions = root / "questions.jsonl"
    shutil.copyfile(root / "data/handwritten_test.jsonl", questions)
    return ChunkSizes("120,250,120", [questions], ["late_weight=0"], False, root / "out")


def test_each_size_is_measured_once_and_the_stages_files_stay(root: Path) -> None:
    asked = request(root)
    before = {path: path.read_bytes() for path in (root / "data").glob("*.*") if path.is_file()}
    text = run_chunk_sizes(asked, root)
    assert {path: path.read_bytes() for path in before} == before
    rows = json.loads((root / "out/recall.json").read_text())
    sizes = [row["chunk_tokens"] for row in rows if row["passages"] == 1]
    assert sizes == [120, 250] and {row["questions"] for row in rows} == {asked.files[0].as_posix()}
    chunks = {row["chunk_tokens"]: row["chunks"] for row in rows}
    assert chunks[120] > chunks[250] > 3
    for row in rows:
        assert 0 <= row["low"] <= row["recall"] <= row["high"] <= 1
    lines = text.splitlines()
    assert lines[0] == f"{asked.files[0]}: 2 answerable questions in 2 clusters"
    for size, line in zip((120, 250), lines[2:4], strict=True):
        first = next(row for row in rows if row["chunk_tokens"] == size and row["passages"] == 1)
        assert line.split()[:3] == [str(size), str(chunks[size]), f"{100 * first['recall']:.0f}"]
    page = (root / "out/index.html").read_text()
    assert "<script src=" not in page and '"chunk_tokens": 250' in page


def test_what_is_refused_before_anything_is_computed(root: Path) -> None:
    asked = request(root)
    (root / "taken").write_text("")
    with pytest.raises(MarkError, match=r"--out .*taken is a file; give a folder"):
        run_chunk_sizes(replace(asked, out=root / "taken"), root)
    with pytest.raises(ConfigError, match="--chunk-tokens 'x': give numbers with commas"):
        run_chunk_sizes(replace(asked, sizes="120,x"), root)
    with pytest.raises(ConfigError, match="chunk_tokens: 1 found"):
        run_chunk_sizes(replace(asked, sizes="1"), root)
    with pytest.raises(ConfigError, match="--chroma and --chunk-tokens contradict each other"):
        run_chunk_sizes(replace(asked, chroma=True), root)
    examples = root / "examples.jsonl"
    row = (root / "data/val_sft.jsonl").read_text().splitlines()[0]
    examples.write_text(row.replace("Who keeps", "Who\u2028keeps") + "\n")  # no end of a line
    with pytest.raises(DataError, match="holds examples, which belong to chunks of one size"):
        run_chunk_sizes(replace(asked, files=[examples]), root)
    assert not (root / "out").exists()
