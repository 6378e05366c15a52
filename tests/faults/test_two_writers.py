"""Two processes that build one collection: the second waits, says so, and gives up in a line."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mark.errors import DataError
from mark.files import read_jsonl
from mark.ingest import index
from mark.ingest.index import build_collection, collection_keys, read_index, stored_ids
from mark.records import Chunk
from tests.conftest import ROOT
from tests.ingest.test_collection import TEXTS, data_folder

BUILD = "import logging, sys; from pathlib import Path; from mark.ingest.index import build_collection; "
BUILD += "logging.basicConfig(level=logging.INFO, format='%(message)s'); "
BUILD += "build_collection(Path(sys.argv[1]), Path(sys.argv[2]), 'pdf_docs')"


@contextmanager
def building(data: Path, chroma: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has begun to build; it goes on."""
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, str(data), str(chroma)], cwd=ROOT, text=True, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while not (chroma.parent / f".{chroma.name}.new").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    yield process
    assert process.wait(120) == 0


def test_the_second_is_refused_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, chroma = data_folder(tmp_path / "data", TEXTS), tmp_path / "chroma_db"
    monkeypatch.setattr(index, "_LOCK_TIMEOUT_S", 0.05)
    with building(data, chroma):
        wanted = r"chroma_db is locked by another process \(.*\.chroma_db\.lock\); wait for it or end it, then try again"
        with pytest.raises(DataError, match=wanted) as caught:
            build_collection(data, chroma, "pdf_docs")
        assert "\n" not in str(caught.value)
    assert collection_keys(chroma) == {"pdf_docs": read_index(data).key}


def test_the_second_waits_and_finds_it_built(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data, chroma = data_folder(tmp_path / "data", TEXTS), tmp_path / "chroma_db"
    caplog.set_level("INFO")
    with building(data, chroma) as first:
        build_collection(data, chroma, "pdf_docs")
    assert "is being built by another process; waiting for it, at most 600 s" in caplog.text
    assert "building the Chroma collection" not in caplog.text
    assert first.stderr is not None and "building the Chroma collection pdf_docs" in first.stderr.read()
    assert stored_ids(chroma, "pdf_docs") == sorted(
        row.chunk_id for row in read_jsonl(data / "chunks.jsonl", Chunk)
    )
