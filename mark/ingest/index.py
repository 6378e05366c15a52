"""embeddings.npy and index.json, and the Chroma collection derived from them."""

from __future__ import annotations

import ctypes
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
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

import mark
from mark.errors import DataError, ModelError
from mark.files import CHUNKS, EMBEDDINGS, INDEX, iter_jsonl, read_json, sha256_file, write_json
from mark.records import Chunk, Row

if TYPE_CHECKING:
    from filelock import BaseFileLock

log = logging.getLogger(__name__)

KEY = "mark_index_key"  # in the metadata of a collection that is ours
DATABASE = "chroma.sqlite3"
_SUMS = "mark-sums-"  # and a collection's name: what its vector index's files hash to
_PERSISTED = "index_metadata.pickle"  # in a vector index that was written to disk; Chroma runs no code in it
_LOCK_TIMEOUT_S = 600.0
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # Linux: fcntl.h, linux/fs.h
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

    It is built in a folder beside, checked by another process and swapped in; until then the old
    one serves, also after a failure or a kill. Other collections of the folder are copied along;
    the swap is refused where another process has the folder open or has changed it meanwhile.
    A damaged one is built anew; a folder whose database nobody can read any more is kept beside.

    Args:
        out: The data folder (index.json, chunks.jsonl, embeddings.npy).
        chroma: The Chroma folder.
        name: The collection.

    Raises:
        DataError: The collection or the folder is the user's, is in use, or building failed.
    """
    from filelock import FileLock, Timeout

    index = read_index(out)
    chroma.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(chroma.parent / f".{chroma.name}.lock", timeout=_LOCK_TIMEOUT_S)
    try:
        _tell_if_held(lock, chroma)
        with lock:
            _build_locked(out, chroma, name, index.key)
    except Timeout:
        raise DataError(
            f"{chroma} is locked by another process ({lock.lock_file}); wait for it or end it, then try again"
        ) from None


def _tell_if_held(lock: BaseFileLock, chroma: Path) -> None:
    from filelock import Timeout

    try:
        lock.acquire(timeout=0)
        lock.release()
    except Timeout:
        log.info(
            "%s is being built by another process; waiting for it, at most %.0f s", chroma, _LOCK_TIMEOUT_S
        )


def _build_locked(out: Path, chroma: Path, name: str, key: str) -> None:
    new, old = _beside(chroma)
    _mend(chroma, new, old)
    _set_aside_damaged(chroma)
    found = collection_keys(chroma)
    if name in found and found[name] is None:
        raise DataError(
            f"{chroma}: collection {name} was not made by MARK and stays as it is; read it with "
            f"`mark snapshot --collection {name}`, or set ingest.collection to another name"
        )
    if found.get(name) == key:
        wrong = _damage(out, chroma, name)
        if wrong is None:
            return
        log.warning("the Chroma collection %s in %s %s; it is built anew", name, chroma, wrong)
    log.info("building the Chroma collection %s in %s", name, chroma)
    others = sorted(set(found) - {name})
    before = _fingerprint(chroma)
    shared = bool(others) or _foreign_files(chroma)
    if shared:
        _refuse_in_use(chroma, others)
        shutil.copytree(chroma, new, symlinks=True)
    else:
        new.mkdir()
    try:
        _write(out, new, name, key)
        if shared:
            _check_others(chroma, new, others)
            _refuse_in_use(chroma, others)
        if _fingerprint(chroma) != before:
            raise DataError(
                f"{chroma} was changed by another process while {name} was built, and stays as it is; "
                "end that process and try again, or set ingest.chroma_path to another folder"
            )
        _swap(new, chroma, old)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _beside(chroma: Path) -> tuple[Path, Path]:
    """Where the next state is built, and where the last one goes for a moment."""
    return chroma.parent / f".{chroma.name}.new", chroma.parent / f".{chroma.name}.old"


def _mend(chroma: Path, new: Path, old: Path) -> None:
    """Put right what a killed process left: an unfinished build goes, a half-done swap goes back."""
    if old.exists() and not chroma.exists():
        os.replace(old, chroma)
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)


def _set_aside_damaged(chroma: Path) -> None:
    """Take a folder of Chroma's alone out of the way whose database is damaged: nothing in it is deleted."""
    database = chroma / DATABASE
    if not database.is_file() or _foreign_files(chroma) or _quick_check(database) == "ok":
        return
    number = 1
    while (kept := chroma.parent / f".{chroma.name}.damaged-{number}").exists():
        number += 1
    log.warning("%s is damaged; the folder is kept as %s and built anew", database, kept)
    os.replace(chroma, kept)


def _quick_check(database: Path) -> str:
    """SQLite's word on a database; "ok" also where it cannot say, because another process holds it.

    Chroma's index of words is left out: nothing here asks it, and not every SQLite can check it.
    """
    try:
        with _connected(database) as connection:
            connection.execute("SELECT 1 FROM collections, segments, embeddings, embedding_metadata LIMIT 1")
            said = [str(row[0]) for row in connection.execute("PRAGMA quick_check")]
            return next((line for line in said if "FTS5" not in line), "ok")
    except sqlite3.OperationalError as fault:
        return str(fault) if "no such table" in str(fault) else "ok"
    except sqlite3.DatabaseError as fault:
        return str(fault)


def _damage(out: Path, chroma: Path, name: str) -> str | None:
    """What is wrong with a collection whose key fits; None = nothing.

    A damaged vector index ends the process that opens it, or finds other rows without a word: so Chroma is
    not asked, its files are compared with the hashes that they had when they were verified.
    """
    if stored_ids(chroma, name) != sorted(row.chunk_id for row in iter_jsonl(out / CHUNKS.name, Chunk)):
        return "lacks rows of chunks.jsonl"
    sums = _sums_file(chroma, name)
    try:
        known = json.loads(sums.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return f"has no {sums.name}"
    except ValueError:
        return f"has a damaged {sums.name}"
    return None if known == _vector_sums(chroma, name) else "has a damaged vector index"


def _sums_file(chroma: Path, name: str) -> Path:
    """Hashes of a collection's vector index, in the folder, so that both are swapped at once."""
    return chroma / f"{_SUMS}{name}.json"


def _vector_sums(chroma: Path, name: str) -> dict[str, str]:
    """sha256 of each file of a collection's vector index; none while it is small: made when it is opened."""
    query = (
        "SELECT s.id FROM segments AS s JOIN collections AS c ON s.collection = c.id "
        "WHERE c.name = ? AND s.scope = 'VECTOR' ORDER BY s.id"
    )
    found = {}
    for (segment,) in _ask(chroma / DATABASE, query, name):
        folder = chroma / segment
        if (folder / _PERSISTED).is_file():
            for path in sorted(folder.iterdir()):
                found[path.relative_to(chroma).as_posix()] = sha256_file(path)
    return found


def _swap(new: Path, chroma: Path, old: Path) -> None:
    """Put a folder in another's place, in one step where the system can; readers keep their open files."""
    if not chroma.exists():
        os.replace(new, chroma)
    elif not _exchange(new, chroma):
        os.replace(chroma, old)
        os.replace(new, chroma)
        shutil.rmtree(old)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names at once (Linux renameat2); False where the system or file system cannot."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
    if renameat2 is None:
        return False
    done: int = renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return done == 0


def _fingerprint(chroma: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of each file: changes when somebody writes."""
    files = sorted(path for path in chroma.rglob("*") if path.is_file()) if chroma.is_dir() else []
    states = [(path, path.stat()) for path in files]
    return [(path.relative_to(chroma).as_posix(), at.st_size, at.st_mtime_ns) for path, at in states]


def _refuse_in_use(chroma: Path, others: Sequence[str]) -> None:
    """A process that has the user's collections open would go on writing into the folder taken away.

    Raises:
        DataError: There is one.
    """
    import psutil

    folder = str(chroma.resolve()) + os.sep
    for process in psutil.process_iter(["name"]):
        try:
            open_files = process.open_files()
        except psutil.Error:  # it has ended, or is another user's
            continue
        if any(file.path.startswith(folder) for file in open_files):
            raise DataError(
                f"{chroma} also holds {', '.join(others) or 'other files'} and is open in process "
                f"{process.pid} ({process.info['name']}); end it and try again, or set ingest.chroma_path "
                "to another folder"
            )


def _check_others(chroma: Path, new: Path, others: Sequence[str]) -> None:
    """The user's collections must have come along whole.

    Raises:
        DataError: One has not.
    """
    for other in others:
        rows = _stored_rows(chroma, other)
        if _stored_rows(new, other) != rows:
            raise DataError(f"{chroma}: collection {other} could not be copied along; nothing was changed")
        run_store(["check", str(new), other, str(len({row[0] for row in rows}))])


def stored_ids(chroma: Path, name: str) -> list[str]:
    """The ids of a collection, sorted, read past Chroma."""
    return sorted({row[0] for row in _stored_rows(chroma, name)})


def _stored_rows(chroma: Path, name: str) -> list[tuple[str, ...]]:
    """Each row's id and each of its metadata (its text among them) of one collection."""
    return _ask(
        chroma / DATABASE,
        "SELECT e.embedding_id, m.key, m.string_value, m.int_value, m.float_value, m.bool_value "
        "FROM collections AS c JOIN segments AS s ON s.collection = c.id "
        "JOIN embeddings AS e ON e.segment_id = s.id LEFT JOIN embedding_metadata AS m ON m.id = e.id "
        "WHERE c.name = ? ORDER BY e.embedding_id, m.key",
        name,
    )


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
    return {str(name): key for name, key in _ask(database, query, KEY)}


def _ask(database: Path, query: str, value: str) -> list[tuple[str, ...]]:
    try:
        with _connected(database) as connection:
            return list(connection.execute(query, (value,)))
    except sqlite3.Error as fault:
        raise DataError(
            f"{database} cannot be read ({fault}) and is left alone; set ingest.chroma_path to another folder"
        ) from None


def _connected(database: Path) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True))


def _foreign_files(chroma: Path) -> bool:
    """Whether the folder holds anything but Chroma's database, its index folders and our hashes."""
    if not chroma.is_dir():
        return False
    return any(
        not item.name.startswith((DATABASE, _SUMS)) and not (item / "header.bin").is_file()
        for item in chroma.iterdir()
    )


def _write(out: Path, chroma: Path, name: str, key: str) -> None:
    """Write the collection in one process and verify it in another, so that all is on disk."""
    run_store(["build", str(chroma), name, key, str(out / CHUNKS.name), str(out / EMBEDDINGS.name)])
    run_store(["verify", str(chroma), name, key, str(out / CHUNKS.name), str(out / EMBEDDINGS.name)])
    write_json(_sums_file(chroma, name), _vector_sums(chroma, name))


def run_store(arguments: list[str]) -> None:
    """Run `mark.ingest.vector_store` in a process of its own; its lines are logged as they come.

    Raises:
        DataError: It failed; the message is its own last line.
    """
    root = str(Path(mark.__file__).resolve().parents[1])
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    command = [sys.executable, "-m", "mark.ingest.vector_store", json.dumps(arguments)]
    environment = {**os.environ, "PYTHONPATH": path, "ANONYMIZED_TELEMETRY": "False"}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
        assert process.stdout is not None
        for line in process.stdout:
            log.info("%s: %s", arguments[2], line.rstrip())
        code = process.wait()
        errors.seek(0)
        if code != 0:
            why = _reason(errors.read(), code)
            raise DataError(f"{arguments[1]}: Chroma could not {arguments[0]} {arguments[2]} ({why})")


def _reason(errors: str, code: int) -> str:
    """The error line of a traceback, without the exception's class."""
    lines = errors.strip().splitlines() or [f"exit code {code}"]
    raised = [line for line in lines if _RAISED.match(line)] or lines
    return _RAISED.sub("", raised[-1], count=1)
