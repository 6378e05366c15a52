"""One process at a time: work that two would do in one folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mark.errors import MarkError


@contextmanager
def alone(lock: Path, what: str) -> Iterator[None]:
    """Hold a lock for as long as the block runs.

    Args:
        lock: Its file; the folder is made where it is missing.
        what: Runs, for people.

    Raises:
        MarkError: Another process holds it.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        raise MarkError(f"{what} already runs in another process; wait for it") from None
    try:
        yield
    finally:
        held.release()
