"""Checkpoints that are complete or ignored: a marker with hashes is written last.

The optimiser and generator states in them are written by transformers with torch.save and read with
`weights_only=True`; they are files of this project's own making and read only after their hashes
match. Weights are safetensors.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

from filelock import FileLock, Timeout

from mark.errors import MarkError
from mark.files import sha256_file, write_json
from mark.train.processes import rank

COMPLETE = "COMPLETE.json"
log = logging.getLogger(__name__)


def mark_complete(folder: Path) -> None:
    """Write the marker that makes a checkpoint count: sha256 of each of its files.

    The files are flushed to disk first, so that a marker never outlives a power cut that they did not.
    """
    hashes = {}
    for path in _files(folder):
        with path.open("rb") as handle:
            os.fsync(handle.fileno())
        hashes[path.relative_to(folder).as_posix()] = sha256_file(path)
    write_json(folder / COMPLETE, {"files": hashes, "schema_version": 1})


def is_complete(folder: Path) -> bool:
    """Whether the marker is there and every file still has its hash."""
    try:
        marker = json.loads((folder / COMPLETE).read_text(encoding="utf-8"))
        expected = dict(marker["files"])
        return bool(expected) and all(sha256_file(folder / name) == sha for name, sha in expected.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def newest_complete(root: Path) -> Path | None:
    """The complete checkpoint with the most steps; incomplete ones are removed.

    Args:
        root: A run's folder, with `checkpoint-<step>` folders.
    """
    found = sorted(root.glob("checkpoint-*"), key=step_of)
    complete = [folder for folder in found if is_complete(folder)]
    for folder in found:
        if folder not in complete:
            log.info("checkpoint %s is incomplete and is ignored", folder.name)
            shutil.rmtree(folder, ignore_errors=True)
    return complete[-1] if complete else None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process (or group of processes) a run: two would delete each other's checkpoints.

    Args:
        folder: Of the run's checkpoints; the lock file stands beside it.

    Raises:
        MarkError: Another process holds it, or a checkpoint in it holds code.
    """
    if rank() != 0:
        yield
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise MarkError(
            f"this training already runs in another process (lock {lock.lock_file}); wait for it"
        ) from None
    try:
        yield
    except UnpicklingError:
        raise MarkError(
            f"a checkpoint in {folder} holds code, which is never loaded; find out who put it there, remove "
            "that folder and run it again"
        ) from None
    finally:
        lock.release()
        if not folder.exists():
            Path(lock.lock_file).unlink(missing_ok=True)


def step_of(checkpoint: Path) -> int:
    """The optimiser step in the folder's name."""
    number = checkpoint.name.removeprefix("checkpoint-")
    return int(number) if number.isdigit() else -1


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != COMPLETE)
