"""The Chroma folder is built beside, checked and swapped: it is whole at any moment, and others' rows stay."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from mark.errors import DataError
from mark.files import read_jsonl
from mark.ingest import index
from mark.ingest.index import build_collection, collection_keys, read_index, stored_ids
from mark.ingest.vector_store import LiveCollection, open_store
from mark.records import Chunk
from tests.conftest import ROOT
from tests.ingest.test_collection import TEXTS, chroma, data_folder, fingerprint, users_collection

AXES = np.eye(4, dtype=np.float32)


def manifest(data) -> list[str]:
    return sorted(chunk.chunk_id for chunk in read_jsonl(data / "chunks.jsonl", Chunk))


def beside(tmp_path) -> list[str]:
    """What lies beside the Chroma folder, but for the lock."""
    names = {path.name for path in tmp_path.iterdir() if path.name.startswith(".chroma_db.")}
    return sorted(names - {".chroma_db.lock"})


def test_ids_equal_the_manifest_after_every_run(tmp_path, caplog):
    data, folder = data_folder(tmp_path / "data", TEXTS), tmp_path / "chroma_db"
    build_collection(data, folder, "pdf_docs")
    assert stored_ids(folder, "pdf_docs") == manifest(data)
    build_collection(data_folder(data, TEXTS[:2]), folder, "pdf_docs")
    assert stored_ids(folder, "pdf_docs") == manifest(data)
    assert len(manifest(data)) == 2

    lost = manifest(data)[0]  # the key still fits, a row is gone
    chroma(f"client.get_collection('pdf_docs', embedding_function=None).delete(ids=[{lost!r}])", folder)
    assert stored_ids(folder, "pdf_docs") == manifest(data)[1:]
    build_collection(data, folder, "pdf_docs")
    assert "lacks rows of chunks.jsonl" in caplog.text
    assert stored_ids(folder, "pdf_docs") == manifest(data)
    assert beside(tmp_path) == []


def test_a_failed_check_leaves_the_old_one_serving(tmp_path):
    data, folder = data_folder(tmp_path / "data", TEXTS), tmp_path / "chroma_db"
    build_collection(data, folder, "pdf_docs")
    before, key = fingerprint(folder), read_index(data).key
    data_folder(data, TEXTS[:2])
    np.save(data / "embeddings.npy", np.zeros((2, 4), dtype=np.float32))  # has no direction, finds nothing
    with pytest.raises(DataError, match=r"Chroma could not verify pdf_docs \(row 0+1 does not find itself\)"):
        build_collection(data, folder, "pdf_docs")
    assert fingerprint(folder) == before
    assert collection_keys(folder) == {"pdf_docs": key}
    assert beside(tmp_path) == []


def test_a_killed_build_leaves_the_old_one_and_the_next_run_tidies_up(tmp_path):
    data, folder = data_folder(tmp_path / "data", TEXTS), tmp_path / "chroma_db"
    build_collection(data, folder, "pdf_docs")
    before = fingerprint(folder)
    data_folder(data, TEXTS[:2])
    code = "import sys; from pathlib import Path; from mark.ingest.index import build_collection; "
    code += "build_collection(Path(sys.argv[1]), Path(sys.argv[2]), 'pdf_docs')"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(data), str(folder)], cwd=ROOT, start_new_session=True
    )
    while not (tmp_path / ".chroma_db.new/chroma.sqlite3").exists() and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert beside(tmp_path) == [".chroma_db.new"]
    assert fingerprint(folder) == before
    build_collection(data, folder, "pdf_docs")
    assert stored_ids(folder, "pdf_docs") == manifest(data)
    assert beside(tmp_path) == []


def test_without_an_exchange_the_swap_takes_two_steps_and_survives_a_kill_between(tmp_path, monkeypatch):
    data, folder = data_folder(tmp_path / "data", TEXTS), tmp_path / "chroma_db"
    users_collection(folder, "letters")
    build_collection(data, folder, "pdf_docs")
    with monkeypatch.context() as patch:
        patch.setattr(index, "_exchange", lambda one, other: False)
        build_collection(data_folder(data, TEXTS[:2]), folder, "pdf_docs")
    assert stored_ids(folder, "pdf_docs") == manifest(data)
    assert beside(tmp_path) == []

    shutil.copytree(folder, tmp_path / ".chroma_db.new")
    folder.rename(tmp_path / ".chroma_db.old")  # killed here
    build_collection(data, folder, "pdf_docs")
    assert stored_ids(folder, "letters") == ["a", "b"]
    assert stored_ids(folder, "pdf_docs") == manifest(data)
    assert beside(tmp_path) == []


def test_this_system_exchanges_two_folders_at_once(tmp_path):
    if not sys.platform.startswith("linux"):
        pytest.skip("renameat2 is Linux's")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert index._exchange(tmp_path / "one", tmp_path / "two")
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["two"]
    assert not index._exchange(tmp_path / "one", tmp_path / "missing")


def test_readers_open_anew_after_a_swap(tmp_path):
    data, folder = data_folder(tmp_path / "data", TEXTS), tmp_path / "chroma_db"
    build_collection(data, folder, "pdf_docs")
    live = LiveCollection(folder, "pdf_docs")
    assert live.query(AXES[:1], 1) == ([["0" * 15 + "1"]], [[pytest.approx(1.0)]])
    first, key = open_store(str(folder)), live.key
    assert open_store(str(folder)) is first

    build_collection(data_folder(data, ["Cake is sweet.", *TEXTS]), folder, "pdf_docs")
    ids, _ = live.query(AXES, 9)
    assert [row[0] for row in ids] == manifest(data)  # four rows now
    assert live.key == read_index(data).key != key
    assert open_store(str(folder)) is not first
    with pytest.raises(DataError, match="holds no collection letters"):
        LiveCollection(folder, "letters")


def test_a_folder_that_others_use_is_not_taken_away(tmp_path):
    data, folder = data_folder(tmp_path / "data", TEXTS), tmp_path / "chroma_db"
    users_collection(folder, "letters")
    code = (
        "import sys, chromadb\n"
        "client = chromadb.PersistentClient(path=sys.argv[1])\n"
        "client.get_collection('letters', embedding_function=None).get()\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()"
    )
    user = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert user.stdout is not None and user.stdout.readline() == "open\n"
        before = fingerprint(folder)
        wanted = rf"also holds letters and is open in process {user.pid} .*set ingest.chroma_path"
        with pytest.raises(DataError, match=wanted) as fault:
            build_collection(data, folder, "pdf_docs")
        assert "\n" not in str(fault.value)
        assert fingerprint(folder) == before
    finally:
        user.communicate("")
    build_collection(data, folder, "pdf_docs")
    assert set(collection_keys(folder)) == {"letters", "pdf_docs"}


def test_what_others_write_meanwhile_is_kept(tmp_path, monkeypatch):
    data, folder = data_folder(tmp_path / "data", TEXTS), tmp_path / "chroma_db"
    users_collection(folder, "letters")
    write = index._write

    def slow(*arguments):
        write(*arguments)
        chroma(
            "client.get_collection('letters', embedding_function=None)"
            ".add(ids=['c'], embeddings=[[1.0, 1.0]], documents=['third'])",
            folder,
        )

    monkeypatch.setattr(index, "_write", slow)
    with pytest.raises(DataError, match=r"(copied along|changed by another process)"):
        build_collection(data, folder, "pdf_docs")
    assert stored_ids(folder, "letters") == ["a", "b", "c"]
    assert "pdf_docs" not in collection_keys(folder)
    monkeypatch.undo()
    build_collection(data, folder, "pdf_docs")
    assert stored_ids(folder, "letters") == ["a", "b", "c"]
    assert stored_ids(folder, "pdf_docs") == manifest(data)
