"""embeddings.npy and index.json, and the Chroma collection derived from them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

import mark
from mark.errors import DataError, ModelError
from mark.files import CHUNKS, EMBEDDINGS, INDEX, read_json, sha256_file, write_json
from mark.records import Chunk, Row

log = logging.getLogger(__name__)

KEY = "mark_index_key"  # in the metadata of a collection that is ours
DATABASE = "chroma.sqlite3"
_LOCK_TIMEOUT_S = 600.0
_RAISED = re.compile(r"[A-Za-z_][\w.]*(?:Error|Exception): ")


class Index(Row):
    """data/index.json: which chunks and vectors belong together."""

    key: str  # changes with any chunk, vector or the embedder
    chunks: int
    pages: int
    documents: int
    dimension: int
    model_sha256: str  # of the embedder's weights


def embedder_sha256(embedder: Path) -> str:
    """Hash of an embedder's weights file.

    Raises:
        ModelError: The folder holds none.
    """
    weights = embedder / "model.safetensors"
    if not weights.is_file():
        raise ModelError(f"{weights} is missing; run `dvc repro base_model` (or `dvc pull`)")
    return sha256_file(weights)


def write_index(
    out: Path, chunks: Sequence[Chunk], vectors: NDArray[np.float32], pages: int, model: str
) -> Index:
    """Write embeddings.npy and index.json.

    Args:
        out: The data folder.
        chunks: In the order of the vectors.
        vectors: float32 [len(chunks), dimension].
        pages: Pages that hold text.
        model: Hash of the embedder's weights.
    """
    assert vectors.dtype == np.float32 and vectors.shape[0] == len(chunks)
    temporary = out / f".{EMBEDDINGS.name}.tmp"
    with temporary.open("wb") as stream:
        np.save(stream, vectors, allow_pickle=False)
    key = index_key(model, (f"{chunk.model_dump_json()}\n".encode() for chunk in chunks), temporary)
    os.replace(temporary, out / EMBEDDINGS.name)
    index = Index(
        key=key,
        chunks=len(chunks),
        pages=pages,
        documents=len({chunk.doc_id for chunk in chunks}),
        dimension=int(vectors.shape[1]),
        model_sha256=model,
    )
    write_json(out / INDEX.name, index.model_dump())
    return index


def index_key(model: str, rows: Iterable[bytes], vectors: Path) -> str:
    """What changes with any chunk, its document's name, its vector or the embedder.

    Args:
        model: Hash of the embedder's weights.
        rows: The lines of chunks.jsonl.
        vectors: The file embeddings.npy.
    """
    digest = hashlib.sha256(f"{model}\n".encode())
    for row in rows:
        digest.update(row)
    with vectors.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_index(data: Path) -> Index:
    """data/index.json, validated.

    Raises:
        DataError: The file is missing or damaged.
    """
    path = data / INDEX.name
    try:
        return Index.model_validate(read_json(path))
    except ValidationError as fault:
        raise DataError(f"{path} is damaged ({fault.errors()[0]['msg']}); run `dvc repro ingest`") from None


def read_embeddings(data: Path, index: Index) -> NDArray[np.float32]:
    """data/embeddings.npy, checked against the index.

    Raises:
        DataError: It is missing, damaged or belongs to other chunks.
    """
    path = data / EMBEDDINGS.name
    try:
        vectors = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path} is missing; run `dvc repro ingest` (or `dvc pull`)") from None
    except (ValueError, OSError) as fault:
        raise DataError(f"{path} is damaged ({fault}); run `dvc repro ingest`") from None
    if vectors.shape != (index.chunks, index.dimension) or vectors.dtype != np.float32:
        raise DataError(
            f"{path} holds {vectors.dtype} {list(vectors.shape)}, index.json says float32 "
            f"{[index.chunks, index.dimension]}; run `dvc repro ingest`"
        )
    return np.asarray(vectors)


def build_collection(out: Path, chroma: Path, name: str) -> None:
    """Bring the derived Chroma collection up to date; nothing happens where it is.

    It is built beside the folder, verified in another process and swapped in. Where the folder
    also holds other collections it is written in place instead, and they stay as they are.

    Args:
        out: The data folder (index.json, chunks.jsonl, embeddings.npy).
        chroma: The Chroma folder.
        name: The collection.

    Raises:
        DataError: The collection or the folder is the user's, or building failed.
    """
    from filelock import FileLock, Timeout

    index = read_index(out)
    chroma.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(chroma.parent / f".{chroma.name}.lock", timeout=_LOCK_TIMEOUT_S)
    try:
        with lock:
            _build_locked(out, chroma, name, index.key)
    except Timeout:
        raise DataError(
            f"{chroma} is locked by another process ({lock.lock_file}); wait for it or end it, then try again"
        ) from None


def _build_locked(out: Path, chroma: Path, name: str, key: str) -> None:
    found = collection_keys(chroma)
    if name in found and found[name] is None:
        raise DataError(
            f"{chroma}: collection {name} was not made by MARK and stays as it is; read it with "
            f"`mark snapshot --collection {name}`, or set ingest.collection to another name"
        )
    if found.get(name) == key:
        return
    log.info("building the Chroma collection %s in %s", name, chroma)
    if set(found) - {name} or _foreign_files(chroma):
        _write(out, chroma, name, key)
        return
    work = Path(tempfile.mkdtemp(dir=chroma.parent, prefix=f".{chroma.name}."))
    try:
        _write(out, work, name, key)
        os.chmod(work, 0o755)
        old = Path(f"{work}.old")
        if chroma.exists():
            os.replace(chroma, old)
        os.replace(work, chroma)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def collection_keys(chroma: Path) -> dict[str, str | None]:
    """The collections of a Chroma folder and the index key of those that are ours.

    Chroma changes a folder even when it only reads it, so its database is read directly.

    Raises:
        DataError: The folder holds other things, or a database that cannot be read.
    """
    database = chroma / DATABASE
    if not database.is_file():
        if chroma.exists() and (not chroma.is_dir() or any(chroma.iterdir())):
            raise DataError(f"{chroma} is no Chroma folder; set ingest.chroma_path to another one")
        return {}
    query = (
        "SELECT name, (SELECT str_value FROM collection_metadata AS m WHERE m.collection_id = c.id "
        "AND m.key = ?) FROM collections AS c ORDER BY name"
    )
    try:
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            return {str(name): key for name, key in connection.execute(query, (KEY,))}
    except sqlite3.Error as fault:
        raise DataError(
            f"{database} cannot be read ({fault}) and is left alone; set ingest.chroma_path to another folder"
        ) from None


def _foreign_files(chroma: Path) -> bool:
    """Whether the folder holds anything but Chroma's database and its index folders."""
    if not chroma.is_dir():
        return False
    return any(
        not item.name.startswith(DATABASE) and not (item / "header.bin").is_file()
        for item in chroma.iterdir()
    )


def _write(out: Path, chroma: Path, name: str, key: str) -> None:
    """Write the collection in one process and verify it in another, so that all is on disk."""
    run_store(["build", str(chroma), name, key, str(out / CHUNKS.name), str(out / EMBEDDINGS.name)])
    run_store(["verify", str(chroma), name, key, str(out / CHUNKS.name), str(out / EMBEDDINGS.name)])


def run_store(arguments: list[str]) -> None:
    """Run `mark.ingest.vector_store` in a process of its own.

    Raises:
        DataError: It failed; the message is its own last line.
    """
    root = str(Path(mark.__file__).resolve().parents[1])
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    command = [sys.executable, "-m", "mark.ingest.vector_store", json.dumps(arguments)]
    environment = {**os.environ, "PYTHONPATH": path, "ANONYMIZED_TELEMETRY": "False"}
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise DataError(f"{arguments[1]}: Chroma could not {arguments[0]} {arguments[2]} ({_reason(done)})")


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """The error line of a traceback, without the exception's class."""
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    errors = [line for line in lines if _RAISED.match(line)] or lines
    return _RAISED.sub("", errors[-1], count=1)
