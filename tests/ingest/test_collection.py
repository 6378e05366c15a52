"""The derived Chroma collection, and collections that are the user's."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mark.errors import DataError
from mark.files import read_jsonl, write_jsonl
from mark.ingest.index import build_collection, collection_keys, write_index
from mark.ingest.snapshot import CollectionRow, snapshot_collection
from mark.records import Chunk

TEXTS = ["Bread is food.", "Rolls are food.", "Cake is sweet."]


def data_folder(folder: Path, texts: list[str]) -> Path:
    """chunks.jsonl, embeddings.npy and index.json of a few chunks with orthogonal vectors."""
    chunks = [
        Chunk(
            chunk_id=f"{number:016x}", doc_id="d" * 64, document="bread", title="Bread",
            heading_path=[f"Article {number}"], section=f"Article {number}", pages=[number],
            start=20 * number, end=20 * number + len(text), text=text,
        )
        for number, text in enumerate(texts, start=1)
    ]  # fmt: skip
    folder.mkdir(exist_ok=True)
    write_jsonl(folder / "chunks.jsonl", chunks)
    write_index(folder, chunks, np.eye(len(texts), 4, dtype=np.float32), 3, "0" * 64)
    return folder


def chroma(code: str, folder: Path) -> str:
    """Run code with a client for a folder in a process of its own, as a user would."""
    script = (
        "import sys, chromadb\n"
        "client = chromadb.PersistentClient(path=sys.argv[1], "
        "settings=chromadb.Settings(anonymized_telemetry=False))\n" + code
    )
    done = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def users_collection(folder: Path, name: str) -> None:
    chroma(
        f"c = client.create_collection({name!r}, embedding_function=None)\n"
        "c.add(ids=['b', 'a'], embeddings=[[1.0, 0.0], [0.0, 1.0]], documents=['second', 'first'], "
        "metadatas=[{'source': 'x.pdf', 'page': 2}, {'source': 'x.pdf', 'page': 1}])",
        folder,
    )


def fingerprint(folder: Path) -> str:
    """Hash of all files of a folder, names included."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(str(path.relative_to(folder)).encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def test_built_found_again_and_rebuilt_when_the_index_changes(tmp_path):
    data, folder = data_folder(tmp_path / "data", TEXTS), tmp_path / "chroma_db"
    build_collection(data, folder, "pdf_docs")
    first = collection_keys(folder)["pdf_docs"]
    found = chroma(
        "c = client.get_collection('pdf_docs', embedding_function=None)\n"
        "q = c.query(query_embeddings=[[0, 1, 0, 0]], n_results=1)\n"
        "print(c.count(), q['documents'][0][0], q['metadatas'][0][0]['section'])",
        folder,
    )
    assert found == "3 Rolls are food. Article 2"

    before = fingerprint(folder)
    build_collection(data, folder, "pdf_docs")
    assert fingerprint(folder) == before  # nothing to do, nothing touched

    build_collection(data_folder(data, TEXTS[:2]), folder, "pdf_docs")
    assert collection_keys(folder)["pdf_docs"] not in (first, None)
    assert chroma("print(client.get_collection('pdf_docs', embedding_function=None).count())", folder) == "2"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".chroma_db.")] in (
        [], [".chroma_db.lock"],
    )  # fmt: skip


def test_a_users_collection_of_the_same_name_is_refused_and_can_be_read(tmp_path):
    data, folder = data_folder(tmp_path / "data", TEXTS), tmp_path / "chroma_db"
    users_collection(folder, "pdf_docs")
    before = fingerprint(folder)
    with pytest.raises(DataError, match=r"collection pdf_docs was not made by MARK.*mark snapshot") as fault:
        build_collection(data, folder, "pdf_docs")
    assert "\n" not in str(fault.value)
    assert snapshot_collection(str(folder), "pdf_docs", tmp_path / "collection.jsonl") == 2
    assert fingerprint(folder) == before
    rows = read_jsonl(tmp_path / "collection.jsonl", CollectionRow)
    assert [(row.id, row.text, row.metadata["page"]) for row in rows] == [
        ("a", "first", 1),
        ("b", "second", 2),
    ]


def test_a_users_other_collection_survives(tmp_path):
    data, folder = data_folder(tmp_path / "data", TEXTS), tmp_path / "chroma_db"
    users_collection(folder, "letters")
    build_collection(data, folder, "pdf_docs")
    build_collection(data_folder(data, TEXTS[:2]), folder, "pdf_docs")
    assert set(collection_keys(folder)) == {"letters", "pdf_docs"}
    found = chroma(
        "c = client.get_collection('letters', embedding_function=None)\n"
        "print(sorted(c.get()['documents']), c.query(query_embeddings=[[1, 0]], n_results=1)['ids'][0][0], "
        "client.get_collection('pdf_docs', embedding_function=None).count())",
        folder,
    )
    assert found == "['first', 'second'] b 2"


def test_a_folder_with_other_things_is_refused(tmp_path):
    data, folder = data_folder(tmp_path / "data", TEXTS), tmp_path / "photos"
    folder.mkdir()
    (folder / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(DataError, match="photos is no Chroma folder"):
        build_collection(data, folder, "pdf_docs")
    (folder / "chroma.sqlite3").write_bytes(b"no database at all" * 100)
    with pytest.raises(DataError, match="cannot be read"):
        build_collection(data, folder, "pdf_docs")
    assert (folder / "cat.jpg").read_bytes() == b"cat"


def test_a_failed_build_leaves_the_old_collection(tmp_path):
    data, folder = data_folder(tmp_path / "data", TEXTS), tmp_path / "chroma_db"
    build_collection(data, folder, "pdf_docs")
    before = fingerprint(folder)
    data_folder(data, TEXTS[:2])
    np.save(data / "embeddings.npy", np.eye(1, 4, dtype=np.float32))  # fewer vectors than chunks
    with pytest.raises(DataError, match="Chroma could not build pdf_docs"):
        build_collection(data, folder, "pdf_docs")
    assert fingerprint(folder) == before


def test_snapshot_names_what_is_there(tmp_path):
    folder = tmp_path / "chroma_db"
    users_collection(folder, "letters")
    with pytest.raises(DataError, match=r"there is no collection mails; found: letters") as fault:
        snapshot_collection(str(folder), "mails", tmp_path / "collection.jsonl")
    assert str(folder) in str(fault.value) and "mark-snapshot" not in str(fault.value)
    with pytest.raises(DataError, match="is no Chroma folder"):
        snapshot_collection(str(tmp_path / "nowhere"), "mails", tmp_path / "collection.jsonl")
    assert not (tmp_path / "collection.jsonl").exists()
