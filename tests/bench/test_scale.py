"""What `python -m bench.scale` makes of its measurements; and the whole command on three small PDFs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.scale import Measured, Sizes, lines
from tests.conftest import ROOT

MEASURED = Measured(
    pages=50,
    chunks=100,
    seconds={"reading": 0.018, "embedding": 0.36, "writing files": 0.0036},
    file_bytes={"PDFs": 2048.0, "chunks.jsonl": 4096.0, "embeddings.npy": 1024.0},
    graph={1_000: 0.001, 4_000: 0.002},
    start=0.0036,
    memory=5000.0,
    search_s=0.5,
    hash_s=2.0,
)


def test_a_graph_costs_more_a_row_by_each_doubling() -> None:
    # 1 ms at 1,000 and 2 ms at 4,000: half a millisecond a doubling. The mean over rows 1 to n of log2(row) is
    # log2(n) - 1/ln 2 (1.4427), so at 16,000 a row took 0.001 + 0.0005 * (4 - 1.4427) = 2.279 ms on average.
    assert MEASURED.graph_s(16_000) == pytest.approx(16_000 * 0.00227865, rel=1e-5)
    assert MEASURED.graph_s(500) == pytest.approx(500 * 0.001)  # never less than at the smaller size


def test_the_lines_multiply_what_was_measured() -> None:
    told = "\n".join(lines(MEASURED, Sizes(pdfs=1000, pages_per_pdf=1000, cores=10)))
    # a million pages, two chunks each; 0.018 s a page are 5 core hours, 0.36 are 100, 0.0036 are 1
    assert "1,000,000 pages, 2,000,000 chunks" in told
    rows = {line[:26].strip(): line[26:].split() for line in told.splitlines()}
    assert rows["reading"] == ["18.00", "5.0", "0.5"]
    assert rows["embedding"] == ["360.00", "100.0", "10.0"]
    assert rows["writing files"] == ["3.60", "1.0", "1.0", "on", "one"]
    assert rows["chunks.jsonl"] == ["4.00", "4.1"]
    # 5,120 bytes a page of outs are 5.12 GB; 2 s a GB
    assert "hashing the 5.1 GB of ingest's outs takes 0.00 h at 0.50 GB/s" in told
    assert "1.0 h until it answers, 5.0 GB of memory" in told
    assert "exact search: 1.00 s a question" in told


@pytest.mark.long
def test_the_command(three_pdfs: Path, tiny_bert_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(three_pdfs, tmp_path / "data/raw")
    shutil.copytree(tiny_bert_dir, tmp_path / "models/embedder")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    command = [sys.executable, "-m", "bench.scale", "--pages", "4", "--pdfs", "500", "--pages-per-pdf", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "for 500 PDFs of 2 pages: 1,000 pages" in done.stdout
    for step in (
        "reading",
        "cleaning and cutting",
        "embedding",
        "writing files",
        "making questions",
        "token vectors",
        "chroma_db",
    ):
        assert f"\n{step}" in done.stdout
    shutil.rmtree(tmp_path / "data/raw")
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "bench.scale: data/raw holds no PDF; run `dvc repro corpus base_model`\n",
    )
