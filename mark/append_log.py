"""Append-only files of JSON lines that several processes write: a line is there as a whole or not at all.

A line ends at `\\n` and nowhere else: U+2028 and the like stand inside JSON strings. Files are private.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mark.errors import DataError

log = logging.getLogger(__name__)

MAX_LINE = 1 << 18  # bytes; longer lines are damage
_LOCK_S = 30.0
_PRIVATE = 0o600


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, against processes and threads; it lies beside the file.

    Raises:
        DataError: The folder cannot be written, or somebody else holds the lock for too long.
    """
    lock = FileLock(path.with_suffix(".lock"), timeout=_LOCK_S, mode=_PRIVATE)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock.acquire()
    except Timeout:
        raise DataError(f"{path} is held by another process for {_LOCK_S:.0f} s; try again") from None
    except OSError as fault:
        raise DataError(f"{path} cannot be written: {fault.strerror or fault}") from None
    try:
        yield
    finally:
        lock.release()


def append(path: Path, line: str) -> int:
    """Put one line at the end and on the disk; the caller holds the lock.

    What a crash left of a line is taken away first; a line that only lacks its end is kept.

    Args:
        path: Made where it is missing.
        line: JSON without a line break.

    Returns:
        The file's size afterwards, in bytes.

    Raises:
        DataError: It cannot be written (disk full, no right); the file is as it was.
    """
    data = line.encode("utf-8") + b"\n"
    assert data.count(b"\n") == 1
    try:
        new = not path.exists()
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), _PRIVATE)
        try:
            start = _mend(handle, path)
            _add(handle, start, data)
        finally:
            os.close(handle)
        if new:
            _sync_folder(path.parent)
    except OSError as fault:
        raise DataError(f"{path} cannot be written: {fault.strerror or fault}") from None
    return start + len(data)


def rewrite(path: Path, lines: list[bytes]) -> None:
    """Replace the whole file, or leave it as it is; the caller holds the lock."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
    try:
        try:
            _write(handle, b"".join(line + b"\n" for line in lines))
        finally:
            os.close(handle)
        os.replace(name, path)
        _sync_folder(path.parent)
    except OSError as fault:
        raise DataError(f"{path} cannot be written: {fault.strerror or fault}") from None
    finally:
        Path(name).unlink(missing_ok=True)


def read_lines(path: Path) -> Iterator[bytes | None]:
    """Lines without their end, blank ones passed over; None for one that is too long to be ours.

    A file that is missing has none.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with path.open("rb") as stream:
            while line := stream.readline(MAX_LINE + 1):
                if len(line) > MAX_LINE and not line.endswith(b"\n"):
                    while line and not line.endswith(b"\n"):
                        line = stream.readline(MAX_LINE + 1)
                    yield None
                elif line.strip():
                    yield line.rstrip(b"\r\n")
    except FileNotFoundError:
        return
    except OSError as fault:
        raise DataError(f"{path} cannot be read: {fault.strerror or fault}") from None


def _add(handle: int, start: int, data: bytes) -> None:
    try:
        _write(handle, data)
    except OSError:
        os.ftruncate(handle, start)
        raise


def _mend(handle: int, path: Path) -> int:
    """Let the file end with a whole line, or be empty; returns its size in bytes."""
    if os.name == "posix":
        os.fchmod(handle, _PRIVATE)
    size = os.lseek(handle, 0, os.SEEK_END)
    tail = _tail(handle, size)
    if not tail:
        return size
    if _is_json(tail):
        _write(handle, b"\n")
        return size + 1
    log.warning("%s: the last %d bytes are half a line and are removed", path, len(tail))
    os.ftruncate(handle, size - len(tail))
    return os.lseek(handle, 0, os.SEEK_END)


def _tail(handle: int, size: int) -> bytes:
    """What follows the last line's end; the file's position is its end afterwards."""
    tail = b""
    while len(tail) < size and b"\n" not in tail:
        step = min(1 << 16, size - len(tail))
        os.lseek(handle, size - len(tail) - step, os.SEEK_SET)
        tail = os.read(handle, step) + tail
    os.lseek(handle, 0, os.SEEK_END)
    return tail.rpartition(b"\n")[2]


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
    os.fsync(handle)


def _sync_folder(folder: Path) -> None:
    """A new name is on the disk only when its folder is."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
